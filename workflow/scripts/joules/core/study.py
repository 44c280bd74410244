"""The configuration of a study: its keys with their types, defaults, limits and meaning, once.

A study's file stands on these defaults alone, which are the strict ones. The schema and the tables
of config/README.md follow from here.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from joules.core.arms import (
    END,
    FORM,
    NAME,
    PART,
    Arm,
    ArmName,
    RuntimeName,
    arms_of,
    check_arms,
    check_contrasts,
    check_twins,
    refuse_shared,
)
from joules.core.catalogue import CatalogueName
from joules.core.conditions import (
    AskedSettings,
    Count,
    Limits,
    Positive,
    SettleRule,
    Windows,
)
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.keys import EXPLAINED, Schema, converted, merged, schema_of
from joules.core.meters import ENTRIES, MeterName, check_entries, public
from joules.core.values import EnergyChoice, RunKind, Tier

StudyName = Annotated[
    str,
    Meta(
        pattern=f"^{PART}(?:/{PART})*{END}",
        title=f"names of {FORM}, with `/` between them, none of them `.` or `..`",
    ),
]
CampaignName = Annotated[
    str, Meta(pattern=f"^(?:{NAME})?{END}", title=f"nothing, or a name of {FORM}")
]
ModelName = Annotated[str, Meta(pattern=f"^{NAME}{END}", title=f"a name of {FORM}")]
UNIQUE = {"uniqueItems": True}


class Measurements(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where records and grades come from."""

    source: Annotated[
        Literal["measure", "archive"],
        Meta(
            description="`measure`: records are made here. `archive`: they come from "
            "`data/measurements/<campaign>/`, and the rest of the configuration is the one that "
            "lies there. `make review` sets it."
        ),
    ] = "measure"
    campaign: Annotated[
        CampaignName,
        Meta(
            description="Name of this execution of the study on one machine, or of the archive. "
            "Empty: the study's name."
        ),
    ] = ""


class Carbon(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For gCO2e, which is derived and never measured."""

    country_iso_code: Annotated[
        str,
        Meta(
            pattern=f"^[A-Z]{{3}}{END}",
            title="three capital letters",
            description="Three letters; given to CodeCarbon.",
        ),
    ] = "NLD"
    grams_per_kwh: Annotated[
        Positive, Meta(description="Intensity of the electricity, in g CO2e per kWh.")
    ] = 267.6
    source: Annotated[
        str,
        Meta(
            description="Where that number is from: a citation key of `paper/references.bib`. The "
            "default is the Netherlands in 2023; put your own grid here."
        ),
    ] = "ember2024"


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The configuration of one study."""

    study: Annotated[
        StudyName,
        Meta(
            description="Name of the study: letters, digits, `.`, `_`, `-`, and `/` between them. "
            "Its results lie in `results/<study>/`."
        ),
    ]
    demonstration: Annotated[
        bool,
        Meta(
            description="`true` prints on the article's first page and in every caption that this "
            "is the demonstration study."
        ),
    ] = False
    measurements: Annotated[
        Measurements, Meta(description="Where records and grades come from.")
    ] = Measurements()
    models: Annotated[
        tuple[ModelName, ...],
        Meta(min_length=1, description="Names of `models.yaml`.", extra_json_schema=UNIQUE),
    ]
    runtimes: Annotated[
        tuple[RuntimeName, ...],
        Meta(
            description="Names of the modules in `workflow/scripts/joules/runtimes/`, each an arm "
            "at the study's settings: what is compared. Each in its turn is the null control: per "
            "model and block one is measured twice, and the difference between its two runs is "
            "what chance and drift alone produce. Add a new one at the end, so that the turns of "
            "the others stay.",
            extra_json_schema=UNIQUE,
        ),
    ] = ()
    arms: Annotated[
        dict[ArmName, Arm],
        Meta(
            description="Instead of `runtimes`, arms by names of your own: each a `runtime`, with "
            "`settings` and `options` that differ from the study's. See below."
        ),
    ] = {}
    contrasts: Annotated[
        tuple[tuple[ArmName, ArmName], ...],
        Meta(
            description="The pairs of arms that the study is about, as `[[a, b], [a, c]]`: "
            "their comparisons are primary and corrected among themselves, the other pairs are "
            "secondary. Chosen before measuring, few contrasts find smaller differences. Empty: "
            "all pairs are primary."
        ),
    ] = ()
    kinds: Annotated[
        tuple[RunKind, ...],
        Meta(
            min_length=1,
            description="What is measured: see below. `task` must be among them.",
            extra_json_schema=UNIQUE,
        ),
    ] = ("task", "control")
    blocks: Annotated[
        Count,
        Meta(
            description="A block is one run of every model on every arm, in random order, the "
            "runs of one model beside each other. Blocks are the sample size. Five can show no "
            "difference (the smallest possible p-value is 0.0625); a real study has at least 8. "
            "May be raised later. `make forecast BLOCKS=…` says what a number of blocks takes and "
            "can show."
        ),
    ] = 10
    seed: Annotated[
        int, Meta(description="Of the order of runs and of the subset of problems.")
    ] = 1
    problems: Annotated[
        Literal["all"] | Annotated[int, Meta(ge=1, le=164)],
        Meta(
            description="`all`, or the size of a seeded subset of HumanEval's 164 problems, the "
            "same in every run. It is drawn evenly over the prompt lengths. With slow models take "
            "20 to 40, and spend the time on blocks."
        ),
    ] = "all"
    settings: Annotated[AskedSettings, Meta(description="Held equal for every runtime.")] = (
        AskedSettings()
    )
    require: Annotated[
        tuple[str, ...],
        Meta(
            description="Names of settings that every runtime must be able to hold. A runtime that "
            "cannot is refused by name; without this the article's table of settings shows the "
            "difference."
        ),
    ] = ()
    require_tier: Annotated[
        Tier,
        Meta(
            description="Lowest energy tier to measure with: `estimated`, `sampled` or `measured`. "
            "A machine below it is refused, with the reason and the remedy."
        ),
    ] = "measured"
    energy: Annotated[
        EnergyChoice,
        Meta(
            description="What the headline adds up. `processor`: the processor, and the GPU where "
            "one computes. `gpu`: the GPU alone, for a machine whose processor is not counted. "
            "`wall`: the whole machine, by the meter called `wall`. Everything that is said then "
            "says so."
        ),
    ] = "processor"
    meters: Annotated[
        dict[MeterName, Options],
        Meta(
            description="Meters beside those that are read wherever they are there, as `{wall: "
            "{module: shelly, host: 192.0.2.7}}`: a name, the `module` in "
            "`workflow/scripts/joules/meters/`, `every_s` (seconds between readings, 1 where it is "
            "left out) and the module's own options. The name `wall` is for a meter of the whole "
            "machine. Passwords are never here: see `docs/meters.md`.",
            extra_json_schema=ENTRIES,
        ),
    ] = {}
    windows: Annotated[Windows, Meta(description="Lengths in seconds.")] = Windows()
    settle: Annotated[
        SettleRule, Meta(description="Prompts of our own before the measured ones.")
    ] = SettleRule()
    limits: Annotated[Limits, Meta(description="What makes a run invalid, fixed in advance.")] = (
        Limits()
    )
    carbon: Annotated[
        Carbon, Meta(description="For gCO2e, which is derived and never measured.")
    ] = Carbon()
    trust_on_first_use: Annotated[
        bool,
        Meta(
            description="`true`: a model whose catalogue entry has no `sha256` is fetched, and "
            "what came is pinned in `resources/models.lock.json`. `false`: it is refused."
        ),
    ] = False
    mixed_instruments: Annotated[
        Literal["refuse", "state"],
        Meta(
            description="`refuse`: records made by different versions of the measuring code are "
            "not analysed together. `state`: they are, and the article says so."
        ),
    ] = "refuse"
    mixed_machines: Annotated[
        Literal["refuse", "state"],
        Meta(
            description="`refuse`: records of machines that differ (processor, cores, memory, "
            "kernel, microcode) are not analysed together. `state`: they are, block by block, and "
            "the article says so."
        ),
    ] = "refuse"
    mixed_runtimes: Annotated[
        Literal["refuse", "state"],
        Meta(
            description="`refuse`: records of one runtime in several builds are not analysed "
            "together. `state`: they are, block by block, and the article says so."
        ),
    ] = "refuse"
    catalogue: Annotated[
        dict[CatalogueName, Options],
        Meta(
            description="Entries of models, laid over those of `models.yaml`: keys of one that is "
            "there, as `{qwen2.5-coder-0.5b-instruct: {path: /data/q.gguf}}`, or a whole one. The "
            "sum still holds."
        ),
    ] = {}
    runtime_options: Annotated[
        dict[str, Options],
        Meta(
            description="Options of runtimes, by their names, laid over those of "
            "`runtime_options.yaml`.",
            extra_json_schema={
                "additionalProperties": {
                    "type": "object",
                    "required": ["version"],
                    "properties": {
                        "version": {"type": "string", "description": "The pinned version."}
                    },
                }
            },
        ),
    ] = {}

    def __post_init__(self) -> None:
        for name in ("models", "runtimes", "kinds"):
            chosen = getattr(self, name)
            twice = sorted({each for each in chosen if chosen.count(each) > 1})
            if twice:
                raise ValueError(f"`{name}` names {', '.join(twice)} twice. Name each once.")
        check_arms(self.runtimes, self.arms)
        check_twins({name: self._made_of(arm) for name, arm in self.arms.items()})
        check_contrasts(self.contrasts, self.compared, "arms" if self.arms else "runtimes")
        if self.energy == "gpu" and self.settings.gpu_layers <= 0:
            raise ValueError(
                f"`energy` is gpu and `settings.gpu_layers` is {self.settings.gpu_layers}: no GPU "
                "would compute. Let one compute, or take `energy: processor`."
            )
        check_entries(self.meters, self.energy)
        for runtime, options in self.runtime_options.items():
            if not isinstance(options.get("version"), str):
                raise ValueError(
                    f"`runtime_options.{runtime}.version` is {options.get('version')!r}. Expected "
                    "the version as a text. Put it into quotes, or add it."
                )

    def _made_of(self, arm: Arm) -> tuple[object, ...]:
        """Return all that an arm is with what the study says."""
        settings = arm.settings if arm.as_installed else arm.asked(self.settings)
        options = merged(self.runtime_options.get(arm.runtime, {}), arm.options)
        return arm.runtime, settings, options

    @property
    def compared(self) -> dict[str, Arm]:
        """What is compared, by name, in the order of the study."""
        return arms_of(self.runtimes, self.arms)

    @property
    def campaign(self) -> str:
        """The name of this execution of the study, or of the archive."""
        return self.measurements.campaign or self.study

    @property
    def archived(self) -> bool:
        """Whether records and grades come from an archived campaign."""
        return self.measurements.source == "archive"


# Keys of older configurations, and what holds instead.
RETIRED = {
    "settle.cap_s": "Settling takes `settle.seconds` on every runtime; what is not steady then is "
    "flagged.",
    "limits.load_during_tasks_s": "A runtime that loads the weights again is known by another "
    "process that holds them, and no time is allowed for it.",
}


def without_retired(config: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration without the keys that had a meaning once: an archive may hold them."""
    kept = dict(config)
    for name in RETIRED:
        part, key = name.split(".")
        inside = kept.get(part)
        if isinstance(inside, Mapping):
            kept[part] = {each: value for each, value in inside.items() if each != key}
    return kept


def _refuse_retired(config: Mapping[str, object], named: str) -> None:
    """Raise UserError for a key that has no meaning any more."""
    for name, instead in RETIRED.items():
        part, key = name.split(".")
        inside = config.get(part)
        if isinstance(inside, Mapping) and key in inside:
            raise UserError(
                f"{named} has `{name}`, which no longer exists. {instead} Take it out. {EXPLAINED}"
            )


def study_from(
    config: Mapping[str, object],
    runtime_options: Mapping[str, object],
    named: str = "The configuration",
) -> Study:
    """Return the study that a plain configuration describes.

    `runtime_options` lie under those of the configuration: the pinned ones of
    config/runtime_options.yaml, or none for an archived configuration, which holds its own. `named`
    is what errors call the configuration. Raises UserError for a key that is not known, missing, or
    has a value that is not allowed.
    """
    needed = [key for key in ("study", "models") if key not in config]
    needed += [] if {"runtimes", "arms"} & set(config) else ["runtimes"]
    if needed:
        raise UserError(
            f"{named} has no {' and no '.join(f'`{key}`' for key in needed)}. A configuration "
            "stands on the defaults alone and needs `study`, a name of its own, `models` and "
            f"`runtimes` (or `arms`). Add what is missing. {EXPLAINED}"
        )
    _refuse_retired(config, named)
    refuse_shared(config.get("arms"), named)
    options = merged(runtime_options, config.get("runtime_options", {}))
    return converted({**config, "runtime_options": options}, Study, named)


def archived_configuration(study: Study) -> Options:
    """Return the configuration as an archive keeps it, to be read again by `study_from`.

    The campaign is the archive's name, so that it is not repeated inside. Where meters are and who
    may read them is left out. So is where models are: the archived catalogue has their entries.
    """
    own = {"source": "measure", "campaign": ""}
    kept = {**msgspec.to_builtins(study), "measurements": own, "meters": public(study.meters)}
    del kept["catalogue"]
    return kept


def configuration_schema() -> Schema:
    """Return the JSON schema of a study's configuration."""
    return schema_of(Study, "The configuration of one study")
