"""What a run depends on, as one object: a change of any of it makes its record stale.

`msgspec.to_builtins` makes plain data of it, for Snakemake, and `msgspec.convert` reads that back.
"""

from collections.abc import Collection

import msgspec

from joules.core.catalogue import Catalogue, Prompting, lookup, prompting_of
from joules.core.conditions import AskedSettings, Limits, SettleRule, Windows
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.keys import near
from joules.core.study import Study
from joules.core.values import EnergyChoice, Tier


class RunParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a record depends on; never the number of blocks, position or campaign."""

    settings: AskedSettings
    windows: Windows
    settle: SettleRule
    limits: Limits
    require: tuple[str, ...]
    require_tier: Tier
    energy: EnergyChoice
    country_iso_code: str
    entry: Prompting
    options: Options


class WarmUpParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a warm-up depends on, beside its prompts."""

    settings: AskedSettings
    require: tuple[str, ...]
    options: Options


def run_parameters(study: Study, catalogue: Catalogue, model: str, runtime: str) -> RunParameters:
    """Return what the records of a model on a runtime depend on."""
    return RunParameters(
        settings=study.settings,
        windows=study.windows,
        settle=study.settle,
        limits=study.limits,
        require=study.require,
        require_tier=study.require_tier,
        energy=study.energy,
        country_iso_code=study.carbon.country_iso_code,
        entry=prompting_of(catalogue, model),
        options=options_of(study, runtime),
    )


def warm_up_parameters(study: Study, runtime: str) -> WarmUpParameters:
    """Return what the warm-ups of a runtime depend on."""
    return WarmUpParameters(
        settings=study.settings, require=study.require, options=options_of(study, runtime)
    )


def max_tokens_of(study: Study, catalogue: Catalogue, model: str) -> int:
    """Return the most tokens of an answer: the study's, or those of the model's prompt style."""
    asked = study.settings.max_tokens
    if asked != "catalogue":
        return asked
    return catalogue.prompt_styles.of(lookup(catalogue, model).prompt_style).max_tokens


def options_of(study: Study, runtime: str) -> Options:
    """Return the options of a runtime. Raises UserError where the study has none."""
    if runtime not in study.runtime_options:
        raise UserError(
            f"`runtime_options` has no entry for {runtime!r}; expected at least its `version`. "
            "Add it to config/runtime_options.yaml or to the study's own configuration."
        )
    return study.runtime_options[runtime]


def check_names(study: Study, catalogue: Catalogue, known_runtimes: Collection[str]) -> None:
    """Raise UserError for a model or runtime that is not known, or a runtime without options."""
    for model in study.models:
        lookup(catalogue, model)
    for runtime in study.runtimes:
        if runtime not in known_runtimes:
            raise UserError(
                f"Unknown runtime {runtime!r}. {near(runtime, known_runtimes)} "
                "Correct `runtimes` in the config, or add a module of that name."
            )
        options_of(study, runtime)
