"""When a study will end, told by cell and kind of run: an expectation, never a measurement.

A run takes what the runs of its cell and kind took. Where there was none yet, as before the quality
runs, which come last and answer all problems, it takes the time of its answers at the pace of its
cell (of the warm-up, then of its own runs), and around them what other runs took.
"""

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from joules.core import imported, paths, stored
from joules.core.errors import UserError
from joules.core.plan import Run
from joules.core.record import Record
from joules.core.study import Study
from joules.core.warm_up_files import WarmUp
from joules.inputs.humaneval import problems

FILE = "seconds.txt"  # in the journal: one line per finished run
BESIDE = 100  # characters of an answer that are not the solution
LATEST = 10  # like runs that are looked at: an older one may be of other settings
FLUSH_TOKENS = 2  # of the prompt before each prompt, and its answer

Cell = tuple[str, str]  # model and arm


class Took(NamedTuple):
    """What one finished run took: from its start to its end, and its tasks window alone."""

    seconds: float
    tasks_s: float
    model: str
    arm: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast a cell answers.

    Attributes:
        answer_s: time of each problem that it answered, with what belongs to it.
        prefill_s: of that, until the first token; a mean.
        token_s: time per generated token.
        load_s: to load the weights.
        most_tokens: of an answer.
    """

    answer_s: Mapping[str, float]
    prefill_s: float
    token_s: float
    load_s: float
    most_tokens: int


def note_run(journal: Path, record: Record, seconds: float) -> None:
    """Add a finished run, which took so long with all its attempts, to the journal."""
    tasks_s = sum(window.duration_s for window in record.windows if window.name == "tasks")
    names = f"{record.model.name} {record.arm_name} {record.kind}"
    with open(journal / FILE, "a", encoding="utf-8") as file:
        file.write(f"{seconds:.1f} {tasks_s:.1f} {names}\n")


def noted(journal: Path) -> list[Took]:
    """Return the runs that the journal holds; lines of another form are left out."""
    file = journal / FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    parts = [line.split() for line in lines]
    return [
        Took(float(each[0]), float(each[1]), *each[2:])
        for each in parts
        if len(each) == len(Took._fields)
    ]


def pace_of(warm_up: WarmUp, record: Record | None = None) -> Pace:
    """Return the pace of a cell, from its warm-up and the latest of its records there is."""
    answers = warm_up.answers
    decoded_s = sum(answer.decode_s for answer in answers)
    token_s = decoded_s / max(1, sum(answer.generated_tokens for answer in answers))
    prefill_s = statistics.mean(answer.duration_s - answer.decode_s for answer in answers)
    seen = {answer.task_id: answer.duration_s + FLUSH_TOKENS * token_s for answer in answers}
    if record is not None and record.tasks:
        decoded_s = sum(task.decode_s for task in record.tasks)
        token_s = decoded_s / max(1, record.generated_tokens)
        prefill_s = statistics.mean(task.duration_s - task.decode_s for task in record.tasks)
        gap_s = record.gaps.duration_s / len(record.tasks)
        seen = {task.task_id: task.duration_s + gap_s for task in record.tasks}
    return Pace(seen, prefill_s, token_s, warm_up.load_s, warm_up.settings.max_tokens)


def lengths() -> dict[str, float]:
    """Return how long an answer to each problem is about, relative to others: its solution's."""
    return {name: len(each.canonical_solution) + BESIDE for name, each in problems().items()}


def all_answers_s(answer_s: Mapping[str, float], lengths: Mapping[str, float]) -> float:
    """Return the time of all problems from that of some.

    In proportion to the lengths of the solutions, or else to the number of problems, whichever fits
    those that were answered: a model that always runs to its limit heeds no length.
    """
    times = list(answer_s.values())
    known = [lengths[name] for name in answer_s]
    ratio = sum(times) / sum(known)
    left = [seconds - ratio * length for seconds, length in zip(times, known, strict=True)]
    if statistics.pstdev(left) < statistics.pstdev(times):
        return ratio * sum(lengths.values())
    return statistics.mean(times) * len(lengths)


def seconds_to_go(
    left: Sequence[Run],
    took: Sequence[Took],
    paces: Mapping[Cell, Pace],
    study: Study,
    lengths: Mapping[str, float],
) -> float:
    """Return the seconds that the runs which are left will take."""
    total = 0.0
    for run in left:
        same = [each.seconds for each in took if _alike(run, each)]
        if same:
            total += statistics.mean(same[-LATEST:])
        else:
            total += _unseen_s(run, took, paces, study, lengths)
    return total


def _alike(run: Run, took: Took) -> bool:
    kinds = {"control": "task"}  # the second run of a cell is as long as the first
    same_kind = kinds.get(run.kind, run.kind) == kinds.get(took.kind, took.kind)
    return same_kind and (run.model, run.arm) == (took.model, took.arm)


def _unseen_s(
    run: Run,
    took: Sequence[Took],
    paces: Mapping[Cell, Pace],
    study: Study,
    lengths: Mapping[str, float],
) -> float:
    """Return the seconds of a run of which no like was seen: its answers, and what is around."""
    pace = paces[run.model, run.arm]
    some = len(lengths) if study.problems == "all" else study.problems
    if run.kind == "fixed":
        tasks_s = some * (pace.prefill_s + (pace.most_tokens + FLUSH_TOKENS) * pace.token_s)
    else:
        tasks_s = all_answers_s(pace.answer_s, lengths)
        if run.kind != "quality":
            tasks_s = min(some / len(lengths), 1.0) * tasks_s
            if len(pace.answer_s) == some:
                tasks_s = sum(pace.answer_s.values())
    own = [each for each in took if (each.model, each.arm) == (run.model, run.arm)]
    around = [each.seconds - each.tasks_s for each in own or took]
    if around:
        return tasks_s + statistics.mean(around)
    windows = study.windows
    waiting_s = windows.preflight_s + 3 * windows.idle_s + windows.rest_s + study.settle.seconds
    return tasks_s + waiting_s + pace.load_s


def expected_s(results: Path, study: Study, runs: Sequence[Run], left: Sequence[Run]) -> float:
    """Return the seconds that some of a study's runs are expected to take.

    Raises UserError or OSError where a warm-up or a record of their cells cannot be read.
    """
    records = paths.records_folder(results)
    paces = {
        cell: pace_of(
            stored.read_warm_up(paths.warm_up_file(results, *cell)),
            _latest(records, runs, cell),
        )
        for cell in {(run.model, run.arm) for run in left}
    }
    took = noted(paths.journal_folder(results))
    return seconds_to_go(left, took, paces, study, lengths())


def remaining(results: Path, study: Study, runs: Sequence[Run]) -> str:
    """Return in words how many runs are left, and when measuring will end."""
    left = [run for run in runs if imported.place(results, run) is None]
    said = f"{len(left)} run{'s' if len(left) != 1 else ''} to go"
    try:
        to_go_s = expected_s(results, study, runs, left)
    except (UserError, OSError):  # an expectation must not cost a run
        return said
    return f"{said}, measuring ends about {clock(time.time() + to_go_s, time.time())}"


def clock(then_s: float, now_s: float) -> str:
    """Return a time of this machine's clock, with its day where that is another one."""
    then, now = time.localtime(then_s), time.localtime(now_s)
    same_day = (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday)
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", then)


def _latest(records: Path, runs: Sequence[Run], cell: Cell) -> Record | None:
    """Return the newest record of a cell's runs that stop where the answer ends, or None."""
    files = [
        paths.record_path(records, run)
        for run in runs
        if (run.model, run.arm) == cell and run.kind in ("task", "control")
    ]
    there = [file for file in files if file.exists()]
    return stored.read_record(there[-1]) if there else None
