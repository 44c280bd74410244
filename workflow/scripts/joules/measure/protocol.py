"""One run, from the quiet machine to what its record says of it: windows, each with its energy.

A straight line: preflight, idle_cold, import, load, idle_resident, settle, tasks, idle_after, stop,
rest. A runtime that has nothing to import has no window `import`.
An error ends the run and its runtime. The harness only waits while the runtime computes; the
runtime lives in processes of its own.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from joules.core.conditions import Limits, SettleRule, Windows
from joules.core.errors import UserError
from joules.core.inference import (
    Completion,
    Facts,
    Model,
    Prompt,
    Settings,
    SettingsInForce,
    in_whole_characters,
)
from joules.core.machine_facts import Allocation, MachineAfter, MachineState, StepEnergy
from joules.core.record import Gaps, Settle, Task, Trace, Validity, Window
from joules.core.run_parameters import RunParameters
from joules.machine import machine_state, slurm
from joules.machine.gpus import gpu_state
from joules.measure import power_trace, validity
from joules.measure.instrument import SAMPLING_INTERVAL_S, Instrument, Lap, MeasuredWindow
from joules.measure.run_entries import (
    Answer,
    gaps_of,
    seen_of_meters,
    task_entries,
    window_entry,
)
from joules.runtimes import Runtime

Report = Callable[[str], None]

SETTLE_LAST = 4  # prompts whose time per token must agree (after Georges et al., OOPSLA 2007)
# Of a settle answer, at most: the one that is being written when the time is up goes past it.
SETTLE_TOKENS = 64
READ_BYTES = 2**20
REPORT_EVERY_S = 5.0


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What a run sends: the measured problems in order, the settle prompts, the flush prompt.

    The flush prompt is one token that no other prompt begins with. Sent before every prompt, it
    empties a prefix cache that cannot be switched off. None: none is sent.
    """

    problems: Sequence[tuple[str, str, Prompt]]  # task_id, sha256 of the token ids, prompt
    settle: Sequence[Prompt]
    flush: Prompt | None

    def under(self, settings: Settings) -> "Prompts":
        """Return what is sent under these settings: a runtime as installed keeps its cache."""
        return dataclasses.replace(self, flush=None) if settings.as_installed else self

    def empty_cache(self, runtime: Runtime) -> None:
        """Have the runtime answer the flush prompt, where one is sent."""
        if self.flush is not None:
            runtime.complete(self.flush, max_tokens=1)


def check_count(what: str, prompt: Prompt, completion: Completion) -> None:
    """Raise UserError when the runtime counted other prompt tokens than the file's tokenizer.

    It saw another prompt then, so nothing after it is comparable.
    """
    if completion.counts_known and completion.prompt_tokens != len(prompt.token_ids):
        raise UserError(
            f"{what}: the runtime counted {completion.prompt_tokens} prompt tokens, the model "
            f"file's tokenizer {len(prompt.token_ids)}. They must be equal: the runtime changed "
            "the prompt (a template, a second beginning-of-text token, a cut). "
            "Look at the runtime's log and at the model's entry in config/models.yaml."
        )


def check_settings(settings: Settings, in_force: SettingsInForce) -> SettingsInForce:
    """Return what can be observed of the settings that were asked for.

    Raises UserError when one of them differs. What is left to the runtime cannot differ.
    """
    asked = dataclasses.asdict(settings)
    compared = {name: seen for name, seen in in_force.items() if asked.get(name, seen) is not None}
    different = {name: seen for name, seen in compared.items() if asked.get(name) != seen}
    if different:
        listed = ", ".join(f"{n}: asked {asked.get(n)}, got {s}" for n, s in different.items())
        raise UserError(
            f"Settings are not in force ({listed}). Every runtime must hold the study's settings. "
            "Correct `settings` in the config or the runtime's module."
        )
    return compared


@dataclasses.dataclass(frozen=True)
class Preflight:
    """What the machine was before a run: its busy share, how long it was watched, its heat."""

    busy_share: float
    waited_s: float
    temperature_c: float | None


def preflight(windows: Windows, limits: Limits, report: Report) -> Preflight:
    """Watch the machine before a run; return its busy share and temperature.

    A machine that is busy is watched again until it is quiet, at most `limits.wait_s`. What it is
    then decides: the run is judged by it.
    """
    began = time.monotonic()
    while True:
        busy = machine_state.watch_others(windows.preflight_s).share
        waited_s = time.monotonic() - began
        if busy <= limits.cpu_busy or waited_s >= limits.wait_s:
            return Preflight(busy, waited_s, machine_state.package_temperature())
        report(f"the machine is busy ({busy:.0%} of it); waiting until it is quiet")


def settle(runtime: Runtime, prompts: Prompts, rule: SettleRule, max_tokens: int) -> Settle:
    """Answer prompts outside the measured set for the time of the rule, the same for all runtimes.

    An answer has at most `max_tokens` tokens, and few at that. Settling ends with the answer in
    which the time is up; what is returned says whether decode time per token was steady then.
    """
    most = min(SETTLE_TOKENS, max_tokens)
    times: list[float] = []
    answers: list[Completion] = []
    start = time.monotonic()
    spread: float | None = None
    while True:
        for prompt in prompts.settle:
            prompts.empty_cache(runtime)
            completion = runtime.complete(prompt, max_tokens=most)
            check_count("settle", prompt, completion)
            answers.append(completion)
            # Decode time alone: with the prefill in it, prompts of different lengths never agree.
            times.append(completion.decode_s / max(1, completion.generated_tokens))
            if len(times) >= SETTLE_LAST:
                last = times[-SETTLE_LAST:]
                spread = statistics.stdev(last) / statistics.mean(last)
            if time.monotonic() - start >= rule.seconds:
                return Settle(
                    settled=spread is not None and spread <= rule.limit,
                    prompts=len(times),
                    cv=spread,
                    limit=rule.limit,
                    prefill_tokens_per_s=validity.prefill_tokens_per_s(
                        answers[: len(prompts.settle)]  # read again, they may be known already
                    ),
                )


def measure_tasks(
    runtime: Runtime, prompts: Prompts, instrument: Instrument, report: Report
) -> tuple[MeasuredWindow, list[Answer], list[Lap]]:
    """Answer every problem inside one window; return the window, the answers and the gaps.

    Each moment of the window lies in a task or in a gap: a gap begins where the last task was read
    and ends where the next one begins, the last gap ends with the window.
    """
    answers: list[Answer] = []
    gaps: list[Lap] = []
    ends: list[Lap] = []  # what was before the window, and the last gap
    last_report = time.monotonic()
    with (
        instrument.tasks() as lap,
        instrument.window("tasks", lambda: ends.append(lap())) as window,
    ):
        for task_id, sha256, prompt in prompts.problems:
            if answers and time.monotonic() - last_report >= REPORT_EVERY_S:
                last_report = time.monotonic()
                report(f"{len(answers)} of {len(prompts.problems)} tasks")
            prompts.empty_cache(runtime)
            gaps.append(lap())
            start = time.monotonic()
            completion = runtime.complete(prompt)
            task = lap()
            check_count(task_id, prompt, completion)
            answers.append(Answer(task_id, sha256, prompt, completion, start, task))
    told = [
        dataclasses.replace(each, completion=in_whole_characters(each.completion))
        for each in answers
    ]
    return window, told, [*gaps, ends[-1]]


def warm_page_cache(model: Path) -> bool:
    """Read a model file once, so that loading finds it in memory on every runtime.

    Returns False for a file that cannot be read: its runtime says what is wrong with it.
    """
    try:
        with open(model, "rb", buffering=0) as file:
            while file.read(READ_BYTES):
                pass
    except OSError:
        return False
    return True


def rest(windows: Windows, target_c: float | None) -> None:
    """Wait the configured seconds, and until the processor is as cool as `target_c`, or nearly."""
    start = time.monotonic()
    while True:
        waited, now = time.monotonic() - start, machine_state.package_temperature()
        cool = target_c is None or now is None or now <= target_c + windows.rest_margin_c
        if waited >= windows.rest_s and (cool or waited >= windows.rest_cap_s):
            return
        time.sleep(min(1.0, max(0.01, windows.rest_s - waited)))


@dataclasses.dataclass(frozen=True)
class MeasuredRun:
    """Those parts of a record that the run itself decides; `joules.core.record` says what each is.

    `before` and `preflight` are of the machine before the run, `after` of that after it;
    `step_energy` is a batch system's own count while the tasks ran.
    """

    runtime_facts: Facts
    settings_in_force: SettingsInForce
    before: MachineState
    preflight: Preflight
    after: MachineAfter
    step_energy: StepEnergy | None
    windows: list[Window]
    trace: Trace
    tasks: list[Task]
    gaps: Gaps
    settle: Settle
    cross_check: dict[str, float]
    energy_j: float
    page_cache_warmed: bool
    validity: Validity


def run_once(
    runtime: Runtime,
    model: Model,
    settings: Settings,
    prompts: Prompts,
    parameters: RunParameters,
    instrument: Instrument,
    report: Report,
    read_again: Callable[[list[str]], list[list[int]] | None],
    exactly: int | None = None,
    keep_ids: bool = True,
    first_temperature_c: float | None = None,
    allocation: Allocation | None = None,
) -> MeasuredRun:
    """Measure one run; return those parts of its record that the run itself decides.

    Of `parameters`, its windows, settle rule and limits are used. `read_again` gives the token ids
    of texts by the model file's tokenizer, or None where it is not at hand. `exactly`: every answer
    must have so many tokens (kind `fixed`). `keep_ids`: the record keeps those ids.
    `first_temperature_c`: of the processor before the first run of the sitting, to which it rests;
    None: this is the first. `allocation`: what a batch system gave the job that measures.
    """
    lengths, limits = parameters.windows, parameters.limits
    prompts = prompts.under(settings)
    before = machine_state.observe()
    quiet = preflight(lengths, limits, report)
    windows: list[MeasuredWindow] = []
    wall, monotonic = time.time(), time.monotonic()
    with instrument.window("idle_cold") as idle:
        time.sleep(lengths.idle_s)
    windows.append(idle)
    warmed = warm_page_cache(model.path)
    with runtime:
        if runtime.IMPORTS:
            with instrument.window("import") as window:
                runtime.import_model(model)
            windows.append(window)
        with instrument.window("load") as window:
            runtime.start(model, settings)
        windows.append(window)
        in_force = runtime.settings_in_force()
        compared = check_settings(settings, in_force)
        facts = runtime.facts()
        with instrument.window("idle_resident") as window:
            time.sleep(lengths.idle_s)
        windows.append(window)
        with instrument.window("settle") as window:
            settled = settle(runtime, prompts, parameters.settle, settings.max_tokens)
        windows.append(window)
        holder = runtime.holder()
        counted = slurm.count()
        use_before, own = machine_state.cpu_use(), machine_state.own_processes()
        window, answers, gap_laps = measure_tasks(runtime, prompts, instrument, report)
        # The GPUs now: they are cool again after the rest.
        use_after, gpus = machine_state.cpu_use(), gpu_state()
        step_energy = slurm.step_energy(counted, slurm.count())
        reloaded = None if holder is None else runtime.holder() != holder
        windows.append(window)
        own |= machine_state.own_processes()
        with instrument.window("idle_after") as after_window:
            time.sleep(lengths.idle_s)
        windows.append(after_window)
    completions = [each.completion for each in answers]
    ids = read_again([each.text for each in completions])
    tasks = task_entries(answers, ids, window, instrument, keep_ids)
    clock_jump_s = abs((time.time() - wall) - (time.monotonic() - monotonic))
    rest(lengths, quiet.temperature_c if first_temperature_c is None else first_temperature_c)
    after = msgspec.structs.replace(machine_state.observe(), gpus=gpus)
    foreign = machine_state.foreign_use(use_before, use_after, own, machine_state.logical_cores())
    instrument.named.fill(windows)
    gaps = gaps_of(gap_laps, tasks, window, parameters.energy)
    seen = validity.SeenOfMachine(
        quiet.busy_share, foreign.share, foreign.steal_share, clock_jump_s
    )
    metered = seen_of_meters(windows, window, instrument, gaps.conservation)
    again = None if ids is None else [len(each) for each in ids]
    checks = [
        *validity.machine_checks(before, after, seen, limits),
        validity.allocation_check(allocation),
        *validity.counter_checks(metered, instrument.is_counted, limits),
        *instrument.named.checks(window, gaps.duration_s / window.duration_s),
        *validity.answer_checks(
            completions,
            again,
            settled,
            compared,
            exactly,
            reloaded,
            limits,
            may_cache=settings.prompt_cache is not False,
        ),
    ]
    return MeasuredRun(
        runtime_facts=facts,
        settings_in_force=in_force,
        before=before,
        preflight=quiet,
        after=MachineAfter(
            **msgspec.structs.asdict(after), foreign_cpu=foreign, clock_jump_s=clock_jump_s
        ),
        step_energy=step_energy,
        windows=[window_entry(each, idle) for each in windows],
        trace=power_trace.trace(
            windows,
            instrument.components["gpu"].source != "none",
            SAMPLING_INTERVAL_S,
            instrument.named.powers_w,
        ),
        tasks=tasks,
        gaps=gaps,
        settle=settled,
        cross_check=dict(metered.cross_check),
        energy_j=window.energy_j.headline_j(parameters.energy) - (gaps.energy_j or 0.0),
        page_cache_warmed=warmed,
        validity=validity.judged(checks, limits.flag_only),
    )
