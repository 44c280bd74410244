"""Which plan a study is registered with, from its folder of results, and when a new one is written.

The plan that was fixed first stays: its file is written once, and every record holds its mark.
"""

import datetime
from collections.abc import Iterator
from pathlib import Path

from joules.core import paths, stored
from joules.core.registration import Plan, Registered, Registration, hashes_of, registration_of


def measured_files(results: Path) -> Iterator[Path]:
    """Yield every record and every invalid attempt of a study, those of its journal last."""
    yield from sorted(paths.records_folder(results).rglob("*.json"))
    yield from sorted(paths.journal_folder(results).glob("*.json"))


def is_measured(results: Path) -> bool:
    """Return whether a run of the study was ever finished, valid or not."""
    return next(measured_files(results), None) is not None


def mark_of_study(results: Path) -> Registered | None:
    """Return the mark of the plan that the study was registered with; None where it was not.

    Where the file is gone, what was measured holds the mark. Raises UserError for a file that is no
    registration, or is not as it was written.
    """
    file = paths.registration_file(results)
    if file.exists():
        return stored.read_registered(file)
    first = next(measured_files(results), None)
    return None if first is None else stored.read_mark(first).registration


def to_register(results: Path, study: str, plan: Plan) -> Registration | None:
    """Return the registration to write for a study; None where there is nothing to write.

    A study in which nothing was measured and that has none gets one of this plan. Where the file of
    a measured study is gone, it is made again with its date if the plan is still the same. A study
    whose first run had no registration gets none afterwards.
    """
    if paths.registration_file(results).exists():
        return None
    if not is_measured(results):
        return registration_of(study, plan, datetime.datetime.now(datetime.UTC))
    mark = mark_of_study(results)
    if mark is None or mark.parts != hashes_of(plan):
        return None
    return Registration(schema=1, study=study, registered=mark, plan=plan)
