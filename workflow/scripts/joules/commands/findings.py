"""What the doctor finds: lines with a mark, a subject and a text.

Marks are `ok`, `note` (worth knowing; the study can start) and `blocks`.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

from joules.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report: its mark, what it is about, and what was found."""

    mark: Literal["ok", "note", "blocks"]
    what: str
    text: str


def attempt(what: str, check: Callable[[], str]) -> Finding:
    """Return `ok` with what a check says, or `blocks` with the error that it raises."""
    try:
        return Finding("ok", what, check())
    except UserError as error:
        return Finding("blocks", what, str(error))
