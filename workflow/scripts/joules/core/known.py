"""What is known and what is not: the one place that holds the rule.

Absence is never a pass. A check without data says that it was not made and why; a property of all
members of nothing does not hold; a number that is missing is `Unknown` and neither 0 nor 1.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Unknown:
    """A value that cannot be had here, and why, as the end of a sentence. It has no truth."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason:
            raise ValueError("What is not known needs a reason.")

    def __bool__(self) -> bool:
        raise TypeError(f"Not known, so neither true nor false: {self.reason}")


Known: TypeAlias = T | Unknown


def known(value: T | None, reason: str) -> Known[T]:
    """Return a value, or that it is not known where it is None."""
    return Unknown(reason) if value is None else value


def each_of(members: Iterable[T], holds: Callable[[T], bool]) -> bool:
    """Return whether something holds for every member, and there is one: unlike `all`."""
    results = [holds(member) for member in members]
    return bool(results) and all(results)


def largest(values: Iterable[float], reason: str) -> Known[float]:
    """Return the largest of some numbers; without a number, that it is not known."""
    return known(max(values, default=None), reason)
