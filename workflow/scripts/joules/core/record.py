"""The record of one run, as it is stored: energies in joule, times in second, power in watt.

Descriptions and limits here are those of workflow/schemas/record.schema.yaml, which is generated.
Fields that records of schema 1 lack have a default; what is written today holds every field.
"""

import math
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType, field

from joules.core.arms import ArmFacts
from joules.core.energy import WALL, Energy
from joules.core.fingerprint import Fingerprint
from joules.core.inference import Facts, FinishReason, Scalar, Settings
from joules.core.machine_facts import Environment, Instrument
from joules.core.registration import Registered
from joules.core.values import RunKind, Sha256, Stored

SCHEMA: Final = 3

WindowName = Literal[
    "idle_cold", "import", "load", "idle_resident", "settle", "tasks", "idle_after"
]


class Window(Stored, frozen=True, kw_only=True):
    """An interval with its own energy, and a tracker object of its own."""

    name: Annotated[WindowName, Meta(description="What the machine did.")]
    start_monotonic_s: Annotated[float, Meta(description="Monotonic clock.")]
    start_wall: Annotated[str, Meta(description="UTC, ISO 8601.")]
    duration_s: Annotated[float, Meta(description="Monotonic.")]
    energy_j: Annotated[Energy, Meta(description="By CodeCarbon.")]
    energy_own_j: Annotated[
        Energy,
        Meta(description="By the own counter reader; null where there is no counter."),
    ]
    net_energy_j: Annotated[
        Energy | None,
        Meta(
            description="Version 2. energy_j less the power of the same run's idle_cold window "
            "times duration_s."
        ),
    ] = None
    meters_j: Annotated[
        dict[str, float | None] | UnsetType,
        Meta(description="Version 3. By each further meter, as `name.component`, in joule."),
    ] = UNSET


class Task(Stored, frozen=True, kw_only=True):
    """One problem and its answer."""

    task_id: Annotated[str, Meta(description="For example HumanEval/0.")]
    prompt_token_ids_sha256: Annotated[str, Meta(description="Of the prompt's token ids.")] = field(
        name="prompt_sha256"
    )
    prompt_tokens: Annotated[int, Meta(description="As the runtime reported.")]
    generated_tokens: Annotated[int, Meta(description="Tokens sampled, end of text included.")]
    retokenised_tokens: Annotated[
        int | None, Meta(description="Tokens of the text when read again; a check.")
    ]
    retokenised_ids: Annotated[
        list[int] | None,
        Meta(
            description="Version 2. Their ids, in repetition 1 only: answers are greedy. They show "
            "at which token two runtimes part."
        ),
    ] = None
    start_s: Annotated[
        float | None, Meta(description="Version 2. From the start of the tasks window.")
    ] = None
    overhead_s: Annotated[
        float | None,
        Meta(
            description="Version 3. What the call takes beside prefill and decode, nearly all of "
            "it before the prefill: the way of the request, scheduling, reading the model's "
            "metadata again; null where it is not told. The three add up to the call."
        ),
    ] = None
    prefill_s: Annotated[
        float | None, Meta(description="From the start of the prefill to the first token.")
    ]
    decode_s: Annotated[
        float,
        Meta(
            description="From the first token to the last; where no overhead is told, to the end "
            "of the call."
        ),
    ]
    duration_s: Annotated[
        float,
        Meta(description="Between the two readings of the task: the call, and one reading."),
    ]
    energy_j: Annotated[Energy, Meta(description="By the task tracker.")]
    prefill_energy_j: Annotated[
        float | None,
        Meta(
            description="Version 2. CPU plus GPU, to the first token, by the own counters; null "
            "without counters and for a prefill of less than two reading intervals."
        ),
    ] = None
    finish_reason: Annotated[FinishReason, Meta(description="Why the answer ended.")]
    completion: Annotated[str, Meta(description="As generated; a character cut off is left out.")]


class Gaps(Stored, frozen=True):
    """The tasks window less its tasks: flush prompts and bookkeeping.

    Since version 3 each moment of the window lies in a task or in a gap.
    """

    duration_s: Annotated[float, Meta(description="Seconds outside tasks.")]
    energy_j: Annotated[
        float | None,
        Meta(description="Energy outside tasks, as the headline counts; null: the wall cannot."),
    ]
    share: Annotated[float | None, Meta(description="Of the window's energy; null: likewise.")]
    conservation: Annotated[
        float | None, Meta(description="Version 2. Tasks and gaps over the window, less 1.")
    ] = None
    by_component_j: Annotated[
        Energy | None, Meta(description="Version 3. Energy outside tasks per component.")
    ] = None


class Settle(Stored, frozen=True):
    """Prompts of our own, for the same time on every runtime."""

    settled: Annotated[bool, Meta(description="Whether the time per token was steady at the end.")]
    prompts: Annotated[int, Meta(description="Prompts answered.")]
    cv: Annotated[
        float | None, Meta(description="Coefficient of variation of s/token over the last four.")
    ]
    limit: Annotated[float, Meta(description="Largest cv that counts as steady.")]
    prefill_tokens_per_s: Annotated[
        float | None,
        Meta(
            description="Version 2. Of the prompt that was read fastest, each the first time; "
            "null where that was too short to tell."
        ),
    ] = None


class Trace(Stored, frozen=True):
    """Mean power between the readings that the trackers take once a second."""

    source: Annotated[str, Meta(description="Who read.")]
    interval_s: Annotated[float, Meta(description="Time between readings.")]
    time_s: Annotated[
        list[float],
        Meta(description="End of each interval, from the start of the first window."),
    ]
    cpu_power_w: Annotated[list[float] | None, Meta(description="Per interval.")]
    gpu_power_w: Annotated[
        list[float] | None, Meta(description="Per interval; null without a GPU.")
    ]
    dram_power_w: Annotated[
        list[float] | None, Meta(description="Per interval; null without a counter.")
    ]
    wall_power_w: Annotated[
        list[float | None] | UnsetType,
        Meta(description="Version 3. Per interval, by the meter called `wall`; absent without."),
    ] = UNSET


RuleValue = Scalar | list[str]


class BrokenRule(Stored, frozen=True):
    """A rule that the run broke."""

    code: Annotated[str, Meta(description="What was broken.")]
    seen: Annotated[RuleValue, Meta(description="What was seen.")]
    limit: Annotated[RuleValue, Meta(description="What is allowed.")]
    invalidates: Annotated[
        bool, Meta(description="Whether the run counts as invalid, or is only flagged.")
    ]


class CheckedRule(Stored, frozen=True):
    """A rule that was looked at, broken or not."""

    code: Annotated[str, Meta(description="The rule.")]
    seen: Annotated[RuleValue, Meta(description="What was seen.")]
    limit: Annotated[
        RuleValue,
        Meta(
            description="What is allowed; null where the rule was not checked.",
        ),
    ]
    not_checked: Annotated[
        str | None, Meta(description="Version 3. Why it was not checked; null where it was.")
    ] = None


class Validity(Stored, frozen=True):
    """Rules fixed in advance and blind to energy."""

    valid: Annotated[bool, Meta(description="False when a code that invalidates fired.")]
    codes: Annotated[list[BrokenRule], Meta(description="The rules that the run broke.")]
    checks: Annotated[
        list[CheckedRule],
        Meta(description="Version 2. Every rule that was looked at, broken or not."),
    ] = field(default_factory=list)


class ModelFacts(Stored, frozen=True):
    """The model file."""

    name: Annotated[str, Meta(description="Its name in config/models.yaml.")]
    sha256: Annotated[Sha256, Meta(description="Of the file that was measured.")]
    parameters: Annotated[int, Meta(description="Number of weights.")]
    quantization: Annotated[str, Meta(description="File type as the GGUF states it.")]


class RuntimeFacts(Stored, frozen=True):
    """The runtime and what it is made of."""

    name: Annotated[str, Meta(description="Its module in joules/runtimes.")]
    label: Annotated[str, Meta(description="Its name as the article prints it.")]
    facts: Annotated[
        Facts, Meta(description="Versions, commits, hashes and build facts; keys differ.")
    ]
    cannot_hold: Annotated[list[str], Meta(description="Settings that it cannot honour.")]


class Position(Stored, frozen=True):
    """Place in the order of the whole study, from 1."""

    planned: Annotated[int, Meta(ge=1, description="By the schedule.")]
    actual: Annotated[int, Meta(ge=1, description="Counted at the start of the run.")]


class Record(Stored, frozen=True, kw_only=True):
    """One run: one (model, arm) cell in one block, the experimental unit.

    Energies in joule, times in second, power in watt. Written whole or not at all, once, by rule
    `measure`.
    """

    schema: Annotated[
        Literal[1, 2, 3],
        Meta(
            description="Version of this contract. Older records lack the properties that name a "
            "later version."
        ),
    ]
    study: Annotated[str, Meta(description="The configuration's name.")]
    campaign: Annotated[str, Meta(description="The name of this execution of the study.")]
    model: Annotated[ModelFacts, Meta(description="The model file.")]
    runtime: Annotated[RuntimeFacts, Meta(description="The runtime and what it is made of.")]
    arm: Annotated[
        ArmFacts | None,
        Meta(
            description="Version 3. What is compared: the runtime with what differs from the "
            "study's settings and options. Where it is missing, the runtime as the study has it."
        ),
    ] = None
    kind: Annotated[RunKind, Meta(description="What the run is for.")]
    repetition: Annotated[int, Meta(ge=1, description="The block's number.")]
    position: Annotated[
        Position, Meta(description="Place in the order of the whole study, from 1.")
    ]
    session: Annotated[
        str,
        Meta(
            description="Boot id and start of the workflow run; only runs of one session are "
            "paired."
        ),
    ]
    attempts: Annotated[
        int,
        Meta(
            ge=1,
            description="Attempts at this run, this one included; the invalid ones lie beside it.",
        ),
    ]
    protocol: Annotated[
        str,
        Meta(
            description="How prompts were made and cut; records of different protocols are never "
            "compared."
        ),
    ]
    fingerprint: Annotated[
        Fingerprint | None,
        Meta(description="Version 3. What records that are compared must share."),
    ] = None
    registration: Annotated[
        Registered | None, Meta(description="Version 3. The plan that was fixed before the run.")
    ] = None
    page_cache_warmed: Annotated[
        bool | None,
        Meta(
            description="Version 3. Whether the model file was read once before it was loaded, so "
            "that loading finds it in memory on every runtime."
        ),
    ] = None
    settings: Annotated[Settings, Meta(description="The settings asked for.")]
    settings_in_force: Annotated[
        dict[str, Scalar | list[int]],
        Meta(description="Of those, what the runtime shows; the rest is unobservable."),
    ]
    instrument: Annotated[Instrument, Meta(description="What the energy figures come from.")]
    environment: Annotated[Environment, Meta(description="The machine, before and after.")]
    windows: Annotated[
        list[Window],
        Meta(description="In the order of time. Each has a tracker object of its own."),
    ]
    tasks: Annotated[list[Task], Meta(description="One per problem, in the order answered.")]
    gaps: Annotated[
        Gaps, Meta(description="The tasks window less its tasks: flush prompts and bookkeeping.")
    ]
    settle: Annotated[
        Settle,
        Meta(
            description="Prompts of our own, for the same time on every runtime. Versions 1 and "
            "2: until the time per token was steady, or a cap."
        ),
    ]
    cross_check: Annotated[
        dict[str, float],
        Meta(
            description="Version 2. Per component that both read: CodeCarbon's energy of the tasks "
            "window over that of the own reader, less 1."
        ),
    ] = field(default_factory=dict)
    trace: Annotated[
        Trace | None,
        Meta(
            description="Version 2. Mean power between the readings that the trackers take once a "
            "second."
        ),
    ] = None
    parameters: Annotated[
        dict[str, Sha256], Meta(description="Version 3. Hash of each part of what it depends on.")
    ] = field(default_factory=dict)
    energy_j: Annotated[
        float,
        Meta(
            description="Headline: CPU plus GPU energy of the tasks window less its gaps, gross. "
            "Versions 1 and 2: gaps included. By a meter at the wall: the whole tasks window."
        ),
    ]
    generated_tokens: Annotated[int, Meta(description="Sum over tasks.")]
    prompt_tokens: Annotated[int, Meta(description="Sum over tasks.")]
    validity: Annotated[Validity, Meta(description="Rules fixed in advance and blind to energy.")]

    def window(self, name: WindowName) -> Window | None:
        """Return the window of that name; None where the run had none."""
        return next((window for window in self.windows if window.name == name), None)

    @property
    def arm_name(self) -> str:
        """The name of its arm, which tables have in the column `runtime`."""
        return self.runtime.name if self.arm is None else self.arm.name

    @property
    def arm_label(self) -> str:
        """Its arm as the article prints it."""
        return self.runtime.label if self.arm is None else self.arm.label

    def headline_j(self) -> float:
        """Return the headline by the method of today, whatever the record's schema.

        Versions 1 and 2 state the whole tasks window; their gaps were metered by themselves.
        """
        return self.energy_j if self.schema >= 3 else self.energy_j - (self.gaps.energy_j or 0.0)

    def tasks_energy_j(self) -> Energy:
        """Return the energy of the tasks window less its gaps, per component.

        That of the memory is the sum over the tasks. Versions 1 and 2 do not tell the gaps apart by
        component: what a GPU took is then such a sum too, and the rest is the processor's.
        """
        tasks = Energy.total([task.energy_j for task in self.tasks])
        whole, gaps = self.window("tasks"), self.gaps.by_component_j
        if whole is None or gaps is None:  # never with a meter at the wall
            return Energy(self.headline_j() - (tasks.gpu or 0.0), tasks.gpu, tasks.dram)
        left = whole.energy_j.less(gaps)
        return Energy(left.cpu, left.gpu, tasks.dram)

    def tasks_duration_s(self) -> float | None:
        """Return the time in which the headline was used: that of the tasks, without the gaps.

        Versions 1 and 2 leave time between tasks and gaps, whose energy is in the headline. A meter
        at the wall cannot tell the gaps apart: the whole window.
        """
        whole = self.window("tasks")
        if self.instrument.headline == WALL:
            return whole.duration_s if whole else None
        if self.schema >= 3:
            return math.fsum(task.duration_s for task in self.tasks)  # as in Energy.total
        return whole.duration_s - self.gaps.duration_s if whole else None


# An invalid attempt is kept beside its run's record, and is one itself.
Attempt = Record
