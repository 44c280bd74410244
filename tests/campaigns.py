"""Archived campaigns of known truth, each on a machine of its own, for tests.

Nothing here is a measurement. A campaign is written as a study is, and packed by the rule's code.
"""

from pathlib import Path

import msgspec
import numpy as np
from synthetic import make_config, make_record, write_agreement, write_run

from joules.core import paths
from joules.core.places import REPOSITORY
from joules.core.plan import plan_of, to_csv
from joules.core.record import BrokenRule, Record
from joules.core.study import archived_configuration
from joules.core.values import Tier
from joules.write.archive import pack, unpack

BUSY = BrokenRule(code="cpu_busy", seen=0.4, limit=0.05, invalidates=False)


def on_machine(record: Record, cpu: str) -> Record:
    """Return a record as if it had been made on another processor."""
    replace = msgspec.structs.replace
    before = record.environment.before
    machine = replace(before.machine, cpu=cpu)
    environment = replace(record.environment, before=replace(before, machine=machine))
    return replace(record, environment=environment)


def write_archive(
    folder: Path,
    name: str,
    *,
    cpu: str = "",
    log_ratio: float = 0.0,
    seed: int = 1,
    blocks: int = 8,
    noise_cv: float = 0.01,
    tier: Tier = "measured",
    busy: bool = False,
    models: tuple[str, ...] = ("parrot-1m",),
    **changes: object,
) -> Path:
    """Write the archive `name`.zip into `folder` and return its path.

    `log_ratio`: true log ratio of energy, llama_cpp over ollama. `busy`: every run broke a rule and
    counts all the same. `changes`: of the configuration.
    """
    root = folder / f"{name}-results"
    config = {"demonstration": False, "blocks": blocks, **changes}
    study = make_config(models, ("ollama", "llama_cpp"), ("task", "control"), **config)
    runs = plan_of(study)
    files = []
    for position, run in enumerate(runs, start=1):
        ratio = float(np.exp(log_ratio)) if run[1] == "llama_cpp" else 1.0
        record = make_record(
            *(run, position, len(runs), study),
            seed=seed,
            ratio=ratio,
            noise_cv=noise_cv,
            tier=tier,
        )
        if busy:
            validity = msgspec.structs.replace(record.validity, codes=[BUSY])
            record = msgspec.structs.replace(record, validity=validity)
        files += write_run(root, run, on_machine(record, cpu or f"CPU of {name}"))
    files += [write_agreement(root, study, model) for model in models]
    schedule = paths.schedule_file(root)
    schedule.write_text(to_csv(runs), encoding="utf-8")
    archive = folder / f"{name}.zip"
    citation = REPOSITORY / "CITATION.cff"
    pack(root, [*files, schedule], archived_configuration(study), citation, archive)
    return archive


def write_campaign(folder: Path, name: str, **options: object) -> Path:
    """Write a campaign as `write_archive` does, unpacked into `folder`; return its folder."""
    return unpack(write_archive(folder, name, **options), folder)  # type: ignore[arg-type]
