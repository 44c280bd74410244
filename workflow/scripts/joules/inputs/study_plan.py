"""The plan of a study as it stands now: what its configuration, catalogue, prompts and code say."""

from itertools import combinations
from pathlib import Path

import msgspec

from joules.core.arms import Arm
from joules.core.catalogue import Catalogue, prompting_of
from joules.core.files import sha256_of
from joules.core.inference import Options
from joules.core.meters import public_or_unset
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.registration import (
    Compared,
    Headline,
    HeldSettings,
    Judging,
    Order,
    Plan,
    PlannedPrompts,
    Prompts,
    Surrounding,
)
from joules.core.run_parameters import max_tokens_of, options_of
from joules.core.study import Study
from joules.core.values import Sha256
from joules.inputs.humaneval import DATASET_SHA256

SETTLE_PROMPTS = "data/warm_up_prompts.jsonl"
# What decides the numbers that are computed from records and grades: a room, and what a record's
# headline is.
ANALYSIS, HEADLINE_MODULES = "analyse", ("core/energy.py", "core/record.py")


def contrasts_of(study: Study) -> list[tuple[str, str]]:
    """Return the primary pairs of arms in one order: those that are named, or else all."""
    named = study.contrasts or combinations(study.compared, 2)
    return sorted((min(pair), max(pair)) for pair in named)


def own_arms(study: Study) -> dict[str, Arm]:
    """Return the arms that are more than a runtime under its own name at the study's settings."""
    return {name: arm for name, arm in study.arms.items() if name != arm.runtime or not arm.plain}


def analysis_files(package: Path = PACKAGE) -> dict[str, Sha256]:
    """Return the hash of each file of the analysis' code, by its place in the package."""
    files = [package / name for name in HEADLINE_MODULES]
    return {
        path.relative_to(package).as_posix(): sha256_of(path)
        for path in sorted([*files, *(package / ANALYSIS).rglob("*.py")])
    }


def study_plan(study: Study, catalogue: Catalogue, root: Path = REPOSITORY) -> Plan:
    """Return the plan of a study by the catalogue and the checkout in `root`.

    A model that the catalogue does not hold is left out of the prompts: archives that are older
    than registrations have no catalogue.
    """
    options: dict[str, Options] = {name: options_of(study, name) for name in study.compared}
    asked = {
        name: PlannedPrompts(
            prompting=prompting_of(catalogue, name),
            max_tokens=max_tokens_of(study, catalogue, name),
        )
        for name in sorted(study.models)
        if name in catalogue.models
    }
    return Plan(
        compared=Compared(
            models=sorted(study.models), runtimes=options, contrasts=contrasts_of(study)
        ),
        kinds=sorted(study.kinds),
        blocks=study.blocks,
        order=Order(seed=study.seed, models=list(study.models), runtimes=list(study.compared)),
        problems=study.problems,
        prompts=Prompts(
            problems_sha256=DATASET_SHA256,
            settle_sha256=sha256_of(root / SETTLE_PROMPTS),
            models=asked,
        ),
        headline=Headline(energy=study.energy, meters=public_or_unset(study.meters)),
        settings=HeldSettings(
            asked=study.settings,
            require=sorted(study.require),
            arms=own_arms(study) or msgspec.UNSET,
        ),
        windows=Surrounding(windows=study.windows, settle=study.settle),
        limits=Judging(
            limits=study.limits,
            require_tier=study.require_tier,
            mixed_instruments=study.mixed_instruments,
            mixed_machines=study.mixed_machines,
            mixed_runtimes=study.mixed_runtimes,
        ),
        analysis=analysis_files(root / PACKAGE.relative_to(REPOSITORY)),
    )
