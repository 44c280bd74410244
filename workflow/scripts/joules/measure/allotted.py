"""What a run may do inside a batch system's job: on a node of its own, in the time that is left.

A block is measured in one sitting, or it holds no pair. So none is begun that would not end in
time: the run is refused, and what asked for it is told so by a file.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from joules.core import imported, paths, stored
from joules.core.conditions import Limits
from joules.core.errors import UserError
from joules.core.files import write_atomic
from joules.core.known import Unknown
from joules.core.machine_facts import Allocation
from joules.core.plan import Run
from joules.core.study import Study
from joules.machine import slurm
from joules.measure import time_to_end
from joules.measure.protocol import Report

MARGIN = 1.1  # of the expected time of a block: what is cut off is lost as a block


class TooLittleTimeError(UserError):
    """The next block would not end in the time that the job has left."""


def refuse_shared(allocation: Allocation | None, limits: Limits) -> None:
    """Raise UserError on a node that other jobs may share, unless runs that broke a rule are kept.

    Where it is not known the run goes on, and its record says that rule `not_exclusive` was not
    checked, and why.
    """
    if allocation is None or allocation.exclusive is not False or limits.flag_only:
        return
    raise UserError(
        f"Slurm's job {allocation.job} does not have the node {allocation.node} for itself "
        f"({allocation.basis}): what other jobs compute there would be in every joule. Expected a "
        "job with --exclusive. Submit it by `make slurm`, or with --exclusive; or keep such runs, "
        "flagged and without a claim, by `limits.flag_only: true`."
    )


def together(run: Run, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that belong into one sitting with a run: its block; of `quality`, it alone.

    Runs of kind `quality` come after the last block and are in no pair.
    """
    if run.kind == "quality":
        return [run]
    return [each for each in runs if each.repetition == run.repetition and each.kind != "quality"]


def begun(results: Path, block: Sequence[Run], session: str) -> bool:
    """Return whether a run of a block was measured in this sitting."""
    records = paths.records_folder(results)
    files = [paths.record_path(records, run) for run in block]
    return any(stored.read_record(file).session == session for file in files if file.exists())


def require_time(
    results: Path, study: Study, run: Run, runs: Sequence[Run], session: str, report: Report
) -> None:
    """Refuse to begin a block that is not expected to end before the job does.

    Raises TooLittleTimeError, and leaves its words in the file of `paths.stopped_file`. Outside a
    job nothing is asked; where Slurm or the warm-ups do not tell the times, `report` says so, and
    the run goes on.
    """
    usable_s = slurm.usable_s()
    if usable_s is None or usable_s == math.inf:
        return
    if isinstance(usable_s, Unknown):
        report(f"the time that this job has left is not known: {usable_s.reason}")
        return
    block = together(run, runs)
    if begun(results, block, session):
        return
    left = [each for each in block if imported.place(results, each) is None]
    try:
        needed_s = time_to_end.expected_s(results, study, runs, left)
    except (UserError, OSError) as error:
        report(f"it is not known whether this block ends before the job does: {error}")
        return
    if needed_s * MARGIN <= usable_s:
        return
    what = "The next run" if run.kind == "quality" else f"Block {run.repetition}"
    said = (
        f"{what} would take about {needed_s / 60:.1f} minutes, and {max(0, usable_s) / 60:.1f} of "
        f"Slurm's job {slurm.job_id()} can be used. It is not begun; what is finished stays. Give "
        "the same command again, which goes on in a new job"
    )
    stopped = paths.stopped_file(results)
    stopped.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(stopped, said + "\n")
    raise TooLittleTimeError(f"{said}.")
