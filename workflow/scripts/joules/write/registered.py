"""Whether a study is analysed as its plan was registered before the first run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from joules.core.registration import Plan, differing
from joules.core.stored import MarkOfRun, read_mark
from joules.core.wording import number_of
from joules.write.claims_file import NOT_REGISTERED, RegistrationFacts


def registration_facts(marks: Sequence[MarkOfRun], plan: Plan) -> RegistrationFacts:
    """Return what the first run was registered with, and what differs now from it.

    `marks` are those of all records, `plan` is the plan that is analysed. A run that carries
    another registration than the first one, or none, differs as well.
    """
    first = min(marks, key=lambda mark: mark.position.actual).registration
    if first is None:
        return NOT_REGISTERED
    differs = differing(first, plan)
    others = sum(mark.registration != first for mark in marks)
    if others:
        differs.append(f"the registration of {number_of(others, 'run')}")
    return RegistrationFacts(
        sha256=first.sha256,
        registered_on=first.registered_on,
        confirmatory=not differs,
        differs=differs,
    )


def registration_of(records: Sequence[str | Path], plan: Mapping[str, object]) -> RegistrationFacts:
    """Return the same of record files and of a plan as plain data. Raises UserError."""
    return registration_facts([read_mark(path) for path in records], msgspec.convert(plan, Plan))
