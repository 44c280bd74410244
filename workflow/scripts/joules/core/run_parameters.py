"""What a run depends on, as one object: a change of any of it makes its record stale.

`msgspec.to_builtins` makes plain data of it, for Snakemake, and `msgspec.convert` reads that back.
"""

from collections.abc import Collection, Mapping

import msgspec

from joules.core.arms import Arm
from joules.core.catalogue import Catalogue, Prompting, lookup, prompting_of
from joules.core.conditions import AskedSettings, Limits, SettleRule, Windows
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.keys import merged, near
from joules.core.meters import public_or_unset
from joules.core.registration import sha256_of_part
from joules.core.study import Study
from joules.core.values import EnergyChoice, Sha256, Tier


class RunParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a record depends on; never the number of blocks, position or campaign."""

    arm: Arm
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
    meters: dict[str, Options] | msgspec.UnsetType = msgspec.UNSET


class WarmUpParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a warm-up depends on, beside its prompts."""

    arm: Arm
    settings: AskedSettings
    require: tuple[str, ...]
    options: Options


def run_parameters(study: Study, catalogue: Catalogue, model: str, arm: str) -> RunParameters:
    """Return what the records of a model on an arm depend on."""
    chosen = study.compared[arm]
    return RunParameters(
        arm=chosen,
        settings=chosen.asked(study.settings),
        windows=study.windows,
        settle=study.settle,
        limits=study.limits,
        require=study.require,
        require_tier=study.require_tier,
        energy=study.energy,
        country_iso_code=study.carbon.country_iso_code,
        entry=prompting_of(catalogue, model),
        options=options_of(study, arm),
        meters=public_or_unset(study.meters),
    )


def hashes_of_parameters(parameters: RunParameters) -> dict[str, Sha256]:
    """Return the hash of each part of what a run depends on, as its record holds them."""
    parts = msgspec.to_builtins(parameters)
    return {name: sha256_of_part(part) for name, part in parts.items()}


def differing_parameters(measured: Mapping[str, Sha256], parameters: RunParameters) -> list[str]:
    """Return the parts in which a run was measured otherwise than it would be now, by name.

    `measured` is what its record holds. An older record holds none, and differs in all.
    """
    now = hashes_of_parameters(parameters)
    return [name for name in sorted({*now, *measured}) if now.get(name) != measured.get(name)]


def warm_up_parameters(study: Study, arm: str) -> WarmUpParameters:
    """Return what the warm-ups of an arm depend on."""
    chosen = study.compared[arm]
    return WarmUpParameters(
        arm=chosen,
        settings=chosen.asked(study.settings),
        require=study.require,
        options=options_of(study, arm),
    )


def max_tokens_of(study: Study, catalogue: Catalogue, model: str) -> int:
    """Return the most tokens of an answer: the study's, or those of the model's prompt style."""
    asked = study.settings.max_tokens
    if asked != "catalogue":
        return asked
    return catalogue.prompt_styles.of(lookup(catalogue, model).prompt_style).max_tokens


def options_of(study: Study, arm: str) -> Options:
    """Return the options of an arm: those of its runtime, with its own laid over them.

    Raises UserError where the study has none for that runtime.
    """
    chosen = study.compared[arm]
    runtime = chosen.runtime
    if runtime not in study.runtime_options:
        raise UserError(
            f"`runtime_options` has no entry for {runtime!r}; expected at least its `version`. "
            "Add it to config/runtime_options.yaml or to the study's own configuration."
        )
    options = merged(study.runtime_options[runtime], chosen.options)
    assert isinstance(options, Mapping)
    return options


def check_names(study: Study, catalogue: Catalogue, known_runtimes: Collection[str]) -> None:
    """Raise UserError for a model or runtime that is not known, or a runtime without options."""
    for model in study.models:
        lookup(catalogue, model)
    for name, arm in study.compared.items():
        if arm.runtime not in known_runtimes:
            where = f"arms.{name}.runtime" if study.arms else "runtimes"
            raise UserError(
                f"Unknown runtime {arm.runtime!r}. {near(arm.runtime, known_runtimes)} "
                f"Correct `{where}` in the config, or add a module of that name."
            )
        options_of(study, name)
