"""The order of runs: randomised complete blocks, seeded, with a null control.

Standard library, msgspec and the configuration only: rule files import this, so that the plan
exists once.
"""

import csv
import io
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from joules.core.errors import UserError
from joules.core.study import Study
from joules.core.values import RunKind
from joules.core.wording import counted

KINDS: tuple[RunKind, ...] = get_args(RunKind)
BLOCK_KINDS: tuple[RunKind, ...] = ("task", "fixed")
COLUMNS = ("position", "block", "model", "runtime", "kind")  # of the plan as CSV
STARTS = 64  # where the rotation of the control may start, drawn by the seed


class Run(NamedTuple):
    """One cell (model, arm) in one block: the experimental unit. Blocks count from 1."""

    model: str
    arm: str
    kind: RunKind
    repetition: int


def turns(arms: int, length: int) -> list[int]:
    """Return whose turn it is to be its own control: the number of an arm, from 0, for each place.

    A further arm takes a place from an earlier one wherever it has had fewer turns than that one.
    So all have about as many turns after any number of places, and a further arm changes nothing
    but the places that it takes itself. Neighbouring places are of different arms.
    """
    taken = [0] * length
    for new in range(1, arms):
        had = Counter[int]()
        for place, old in enumerate(taken):
            taken[place] = new if had[new] < had[old] else old
            had[taken[place]] += 1
    return taken


def control_arms(
    models: Sequence[str], arms: Sequence[str], blocks: int, seed: int
) -> dict[tuple[str, int], str]:
    """Return for each model and block the arm that is measured a second time.

    Models that follow each other have different ones in a block. More blocks, models or arms, each
    added at the end of its list, leave all as it was, but for the turns of the new arm.
    """
    start = random.Random(f"{seed}/control").randrange(STARTS)
    turn = turns(len(arms), start + len(models) + blocks)
    return {
        (model, block): arms[turn[start + number + block - 1]]
        for number, model in enumerate(models)
        for block in range(1, blocks + 1)
    }


def plan(
    models: Sequence[str],
    arms: Sequence[str],
    kinds: Sequence[str],
    blocks: int,
    seed: int,
) -> list[Run]:
    """Return all runs of a study in the order in which they are to be measured.

    A block holds every cell once per kind, and per model one `control`: a second run of the arm
    whose turn it is. The runs of a model stay together, so that those which are compared are
    minutes apart; the order of models, and for each model the order of its runs, are drawn by a
    generator of the block's own, so that adding blocks leaves the old order as it was. `quality`
    runs follow after the last block.
    """
    controls = control_arms(models, arms, blocks, seed) if "control" in kinds else {}
    runs: list[Run] = []
    for block in range(1, blocks + 1):
        drawing = random.Random(f"{seed}/{block}")
        for model in drawing.sample(models, len(models)):
            cells = [
                Run(model, arm, kind, block)
                for kind in BLOCK_KINDS
                if kind in kinds
                for arm in arms
            ]
            if controls:
                cells.append(Run(model, controls[model, block], "control", block))
            drawing.shuffle(cells)
            runs += cells
    if "quality" in kinds:
        last = [Run(model, arm, "quality", 1) for model in models for arm in arms]
        random.Random(f"{seed}/quality").shuffle(last)
        runs += last
    return runs


def plan_of(study: Study, blocks: int | None = None) -> list[Run]:
    """Return all runs of a study, or of the study with another number of blocks.

    Those of an archived campaign are in its schedule (`joules.core.reading.runs_of`): it may be of
    another plan than today's.
    """
    return plan(study.models, list(study.compared), study.kinds, blocks or study.blocks, study.seed)


def positions(runs: Sequence[Run]) -> dict[Run, int]:
    """Return the planned position of every run, from 1."""
    return {run: position for position, run in enumerate(runs, start=1)}


def place_of(run: Run, runs: Sequence[Run]) -> int:
    """Return the planned position of a run, from 1. Raises UserError for a run not planned."""
    if run in runs:
        return runs.index(run) + 1
    raise UserError(
        f"{run.model}, {run.arm}, {run.kind}, block {run.repetition} is no run of this study. "
        "Expected one of its schedule.csv: in each block one arm per model has a control, each "
        "in its turn. Ask for such a run, or for `all`."
    )


def urgency(planned: Mapping[Run, int], run: Run) -> int:
    """Return how urgent a run is among those planned: the first most, the last and others 1."""
    return len(planned) + 1 - planned.get(run, len(planned))


def to_csv(runs: Sequence[Run]) -> str:
    """Return the plan as CSV text: position, block, model, runtime (the arm), kind."""
    lines = [",".join(COLUMNS)]
    lines += [
        f"{position},{run.repetition},{run.model},{run.arm},{run.kind}"
        for position, run in enumerate(runs, start=1)
    ]
    return "\n".join(lines) + "\n"


def from_csv(text: str, named: str) -> list[Run]:
    """Return the plan of a CSV text of `to_csv`. Raises UserError, which calls it `named`."""
    reader = csv.reader(io.StringIO(text))
    header, rows = next(reader, []), list(reader)
    runs: list[Run] = []
    for number, row in enumerate(rows, start=1):
        position, block, model, arm, kind = row if len(row) == len(COLUMNS) else [""] * 5
        known = next((each for each in KINDS if each == kind), None)
        if position != str(number) or not block.isdecimal() or known is None:
            runs = []
            break
        runs.append(Run(model, arm, known, int(block)))
    if tuple(header) != COLUMNS or not runs:
        raise UserError(
            f"{named} is no schedule. Expected the columns {', '.join(COLUMNS)} and one run per "
            "line, in the order of their positions. Import the archive again."
        )
    return runs


def check_fits(runs: Sequence[Run], study: Study, named: str) -> None:
    """Raise UserError where a schedule, called `named`, is not one of the study's configuration.

    It may have another order than today's plan, and other turns of the control.
    """
    expected = Counter(_without_turn(run) for run in plan_of(study))
    seen = Counter(_without_turn(run) for run in runs)
    foreign = sorted({run.arm for run in runs} - set(study.compared))
    where = "arm" if study.arms else "runtime"
    wrong = [f"names {arm}, which is no {where} there" for arm in foreign]
    for word, differing in (("lacks", expected - seen), ("has, beyond those,", seen - expected)):
        first = ", ".join(map(str, min(differing, default=())))
        if differing:
            wrong.append(f"{word} {counted(differing.total(), 'run')}, such as {first}")
    if wrong:
        raise UserError(
            f"{named} does not fit the configuration that lies beside it: it {'; it '.join(wrong)}."
            " Expected every run of its models, runtimes, kinds and blocks, once. Import the "
            "archive again."
        )


def _without_turn(run: Run) -> tuple[str, str, str, str]:
    """Return a run in words; a control without its arm, for it may be anyone's turn."""
    arm = "any arm" if run.kind == "control" else run.arm
    return run.model, arm, run.kind, f"block {run.repetition}"
