"""The order of runs: randomised complete blocks, seeded, with a null control.

Standard library, msgspec and the configuration only: rule files import this, so that the plan
exists once.
"""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from joules.core.study import Study
from joules.core.values import RunKind

KINDS: tuple[RunKind, ...] = get_args(RunKind)
BLOCK_KINDS: tuple[RunKind, ...] = ("task", "fixed")


class Run(NamedTuple):
    """One cell (model, runtime) in one block: the experimental unit. Blocks count from 1."""

    model: str
    runtime: str
    kind: RunKind
    repetition: int


def plan(
    models: Sequence[str],
    runtimes: Sequence[str],
    kinds: Sequence[str],
    blocks: int,
    seed: int,
) -> list[Run]:
    """Return all runs of a study in the order in which they are to be measured.

    A block holds every cell once per kind, and per model one `control`: a second run of the
    first runtime. Each block is shuffled by a generator of its own, so that adding blocks leaves
    the old order as it was. `quality` runs follow after the last block.
    """
    runs: list[Run] = []
    for block in range(1, blocks + 1):
        cells = [
            Run(model, runtime, kind, block)
            for kind in BLOCK_KINDS
            if kind in kinds
            for model in models
            for runtime in runtimes
        ]
        if "control" in kinds:
            cells += [Run(model, runtimes[0], "control", block) for model in models]
        random.Random(f"{seed}/{block}").shuffle(cells)
        runs += cells
    if "quality" in kinds:
        last = [Run(model, runtime, "quality", 1) for model in models for runtime in runtimes]
        random.Random(f"{seed}/quality").shuffle(last)
        runs += last
    return runs


def plan_of(study: Study, blocks: int | None = None) -> list[Run]:
    """Return all runs of a study, or of the study with another number of blocks."""
    return plan(study.models, study.runtimes, study.kinds, blocks or study.blocks, study.seed)


def positions(runs: Sequence[Run]) -> dict[Run, int]:
    """Return the planned position of every run, from 1."""
    return {run: position for position, run in enumerate(runs, start=1)}


def urgency(planned: Mapping[Run, int], run: Run) -> int:
    """Return how urgent a run is among those planned: the first most, the last and others 1."""
    return len(planned) + 1 - planned.get(run, len(planned))


def to_csv(runs: Sequence[Run]) -> str:
    """Return the plan as CSV text for people: position, block, model, runtime, kind."""
    lines = ["position,block,model,runtime,kind"]
    lines += [
        f"{position},{run.repetition},{run.model},{run.runtime},{run.kind}"
        for position, run in enumerate(runs, start=1)
    ]
    return "\n".join(lines) + "\n"
