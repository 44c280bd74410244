"""One energy counter, whatever hardware it is of."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Counter:
    """One energy counter: the component it belongs to, where it is, and its range in joule."""

    component: str
    source: str
    range_uj: int
    read_uj: Callable[[], int]
