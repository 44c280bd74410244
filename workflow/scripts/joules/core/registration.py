"""The plan of a study, as it is registered before anything is measured; standard library, msgspec.

A plan has parts, each readable and each with a hash of its own, so that what differs from the plan
that was fixed first can be named. Whoever has a plan and a registration compares them here.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from joules.core.analysis import (
    ALPHA,
    CORRECTION,
    DIFFERENCE,
    EQUIVALENCE,
    FAMILIES,
    INTERVALS,
    MARGIN,
    METRIC,
    SIZE,
    UNIT,
    VERDICTS,
)
from joules.core.arms import Arm
from joules.core.catalogue import Prompting
from joules.core.conditions import AskedSettings, Limits, SettleRule, Windows
from joules.core.files import rounded
from joules.core.inference import Options
from joules.core.values import EnergyChoice, RunKind, Sha256, Stored, Tier

SCHEMA: Final = 1

Mixed = Literal["refuse", "state"]


class Compared(Stored, frozen=True, kw_only=True):
    """What is compared, whatever order the configuration names it in."""

    models: Annotated[list[str], Meta(description="Names of the catalogue.")]
    runtimes: Annotated[dict[str, Options], Meta(description="The arms, each with its options.")]
    contrasts: Annotated[
        list[tuple[str, str]],
        Meta(description="The pairs that are primary; all where the study names none."),
    ]


class Order(Stored, frozen=True, kw_only=True):
    """What decides the order of runs, the turns of the control and the subset of problems."""

    seed: Annotated[int, Meta(description="Of the study.")]
    models: Annotated[list[str], Meta(description="As the configuration orders them.")]
    runtimes: Annotated[list[str], Meta(description="As the configuration orders them.")]


class PlannedPrompts(Stored, frozen=True, kw_only=True):
    """How a model is asked."""

    prompting: Annotated[
        Prompting, Meta(description="From the catalogue: the file's hash, style, template, cut.")
    ]
    max_tokens: Annotated[int, Meta(description="The most tokens of an answer.")]


class Prompts(Stored, frozen=True, kw_only=True):
    """What decides the literal prompts."""

    problems_sha256: Annotated[Sha256, Meta(description="Of the data set.")]
    settle_sha256: Annotated[Sha256, Meta(description="Of the prompts before the measured ones.")]
    models: Annotated[dict[str, PlannedPrompts], Meta(description="By the model's name.")]


class Headline(Stored, frozen=True, kw_only=True):
    """The number that the study is about."""

    energy: Annotated[EnergyChoice, Meta(description="What it adds up.")]
    metric: Annotated[str, Meta(description="A column of the table of runs.")] = METRIC
    meters: Annotated[
        dict[str, Options] | msgspec.UnsetType,
        Meta(description="Those of the configuration; absent where it names none."),
    ] = msgspec.UNSET


class Testing(Stored, frozen=True, kw_only=True):
    """How a difference is looked for, and the words that say what was found."""

    alpha: Annotated[float, Meta(description="Level of every test.")] = ALPHA
    unit: Annotated[str, Meta(description="What is tested.")] = UNIT
    difference: Annotated[str, Meta(description="Is there any?")] = DIFFERENCE
    size: Annotated[str, Meta(description="Is it beyond the margin?")] = SIZE
    equivalence: Annotated[str, Meta(description="Is it within the margin?")] = EQUIVALENCE
    correction: Annotated[str, Meta(description="For several comparisons.")] = CORRECTION
    intervals: Annotated[list[str], Meta(description="Of a ratio.")] = msgspec.field(
        default_factory=lambda: list(INTERVALS)
    )
    families: Annotated[list[str], Meta(description="What is corrected together.")] = msgspec.field(
        default_factory=lambda: list(FAMILIES)
    )
    verdicts: Annotated[list[str], Meta(description="In this order.")] = msgspec.field(
        default_factory=lambda: list(VERDICTS)
    )


class HeldSettings(Stored, frozen=True, kw_only=True):
    """What is asked of every arm alike, and of one alone."""

    asked: Annotated[AskedSettings, Meta(description="The settings.")]
    require: Annotated[list[str], Meta(description="Those that a runtime must be able to hold.")]
    arms: Annotated[
        dict[str, Arm] | msgspec.UnsetType,
        Meta(description="What each arm holds otherwise, where the study names arms."),
    ] = msgspec.UNSET


class Surrounding(Stored, frozen=True, kw_only=True):
    """What lies around the measured tasks of a run."""

    windows: Annotated[Windows, Meta(description="Lengths in seconds.")]
    settle: Annotated[SettleRule, Meta(description="Prompts of our own.")]


class Judging(Stored, frozen=True, kw_only=True):
    """What makes a run invalid, and what may be analysed together."""

    limits: Annotated[Limits, Meta(description="Of a run.")]
    require_tier: Annotated[Tier, Meta(description="Lowest energy tier to measure with.")]
    mixed_instruments: Annotated[Mixed, Meta(description="Versions of the measuring code.")]
    mixed_machines: Annotated[Mixed, Meta(description="Machines that differ.")]
    mixed_runtimes: Annotated[Mixed, Meta(description="Builds of one runtime.")]


class Plan(Stored, frozen=True, kw_only=True):
    """Everything that is fixed before a study is measured, in parts."""

    compared: Annotated[Compared, Meta(description="What is compared.")]
    kinds: Annotated[list[RunKind], Meta(description="What runs are for.")]
    blocks: Annotated[int, Meta(description="How many: the sample size.")]
    order: Annotated[Order, Meta(description="In which order, and which problems are drawn.")]
    problems: Annotated[Literal["all"] | int, Meta(description="How many of HumanEval's.")]
    prompts: Annotated[Prompts, Meta(description="How models are asked.")]
    headline: Annotated[Headline, Meta(description="The number that is compared.")]
    margin: Annotated[float, Meta(description="Of equivalence and of size.")] = MARGIN
    tests: Annotated[Testing, Meta(description="How differences are looked for.")] = Testing()
    settings: Annotated[HeldSettings, Meta(description="What is held equal.")]
    windows: Annotated[Surrounding, Meta(description="What lies around the tasks.")]
    limits: Annotated[Judging, Meta(description="Which runs count.")]
    analysis: Annotated[
        dict[str, Sha256], Meta(description="The analysis' code: each of its files.")
    ]


WORDS = {
    "compared": "what is compared",
    "kinds": "the kinds of runs",
    "blocks": "the number of blocks",
    "order": "the seed or the order of runs",
    "problems": "the problems",
    "prompts": "the prompts",
    "headline": "the headline",
    "margin": "the margin",
    "tests": "the tests",
    "settings": "the settings",
    "windows": "the windows",
    "limits": "the limits",
    "analysis": "the code of the analysis",
}
"""The parts of a plan, as the article names them."""


class Registered(Stored, frozen=True, kw_only=True):
    """The mark of a plan that was registered, as every record of the study holds it."""

    sha256: Annotated[Sha256, Meta(description="Over the hashes of the parts.")]
    registered_on: Annotated[str, Meta(description="UTC, ISO 8601.")]
    parts: Annotated[
        dict[str, Sha256],
        Meta(description="Of each part of the plan, as JSON with sorted keys and no blanks."),
    ]


class Registration(Stored, frozen=True, kw_only=True):
    """The plan of a study, fixed before its first run."""

    schema: Annotated[Literal[1], Meta(description="Version of this contract.")]
    study: Annotated[str, Meta(description="The configuration's name.")]
    registered: Annotated[Registered, Meta(description="What the records of the study hold.")]
    plan: Annotated[Plan, Meta(description="What was fixed, for people.")]


def sha256_of_part(content: object) -> Sha256:
    """Return the sha256 of plain data as canonical JSON: sorted keys, no blanks, UTF-8."""
    text = json.dumps(
        rounded(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def hashes_of(plan: Plan) -> dict[str, Sha256]:
    """Return the hash of each part of a plan."""
    return {name: sha256_of_part(part) for name, part in msgspec.to_builtins(plan).items()}


def mark_of(parts: Mapping[str, Sha256], now: datetime.datetime) -> Registered:
    """Return the mark of a plan, whose parts have these hashes, registered at a time with zone."""
    on = now.astimezone(datetime.UTC).isoformat(timespec="seconds")
    return Registered(sha256=sha256_of_part(dict(parts)), registered_on=on, parts=dict(parts))


def registration_of(study: str, plan: Plan, now: datetime.datetime) -> Registration:
    """Return the registration of the plan of a study, made at a time with zone."""
    mark = mark_of(hashes_of(plan), now)
    return Registration(schema=SCHEMA, study=study, registered=mark, plan=plan)


def differing(registered: Registered, plan: Plan) -> list[str]:
    """Return in words the parts in which a plan differs from the registered one.

    A part that only one of them has differs: nobody fixed it, or nobody holds to it.
    """
    now, then = hashes_of(plan), registered.parts
    names = [*WORDS, *sorted(then.keys() - WORDS.keys())]
    return [WORDS.get(name, name) for name in names if now.get(name) != then.get(name)]
