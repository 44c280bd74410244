"""Joule per component, as all that is stored has it."""

import math
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from joules.core.values import EnergyChoice, Stored

WALL: Final = "wall"  # the name of the meter of the whole machine, in configuration and records


class Energy(Stored, frozen=True):
    """Joule per component; a component that the machine does not have is null."""

    cpu: Annotated[
        float | None,
        Meta(description="Processor packages, by the instrument named in `instrument`."),
    ]
    gpu: Annotated[float | None, Meta(description="All GPUs together.")]
    dram: Annotated[
        float | None,
        Meta(description="Memory, by the own counter reader; never a constant power."),
    ]

    wall: Annotated[
        float | None | UnsetType,
        Meta(
            description="Version 3. The whole machine, by the meter called `wall`; null where it "
            "cannot tell, absent where there is none."
        ),
    ] = UNSET

    def headline_j(self, counted: EnergyChoice = "processor") -> float:
        """Return what a headline adds up, in joule.

        `processor`: CPU plus GPU, `gpu` and `wall`: that alone. DRAM has a column of its own. A
        machine without GPU adds nothing for it. Raises ValueError where the component that makes
        the headline is not known: that is no headline of 0 J.
        """
        main_j = self._main_j(counted)
        if main_j is None:
            raise ValueError(f"The energy of the {counted} is not known, so there is no headline.")
        return main_j + (self.gpu or 0.0) if counted == "processor" else main_j

    def headline_or_none(self, counted: EnergyChoice = "processor") -> float | None:
        """Return what a headline adds up, in joule; None where it is not known."""
        return self.headline_j(counted) if self.has_headline(counted) else None

    def has_headline(self, counted: EnergyChoice = "processor") -> bool:
        """Return whether the component that makes the headline is known."""
        return self._main_j(counted) is not None

    def wall_j(self) -> float | None:
        """Return the energy of the whole machine; None without a meter of it."""
        return self.wall if isinstance(self.wall, float | int) else None

    def _main_j(self, counted: EnergyChoice) -> float | None:
        return {"processor": self.cpu, "gpu": self.gpu, "wall": self.wall_j()}[counted]

    def less(self, other: "Energy") -> "Energy":
        """Return this energy less another; None where one of them is not known."""

        def left(mine: float | None, theirs: float | None) -> float | None:
            return None if mine is None or theirs is None else mine - theirs

        return Energy(
            left(self.cpu, other.cpu), left(self.gpu, other.gpu), left(self.dram, other.dram)
        )

    @classmethod
    def total(cls, parts: Sequence["Energy"]) -> "Energy":
        """Return the sum; None for a component that one of the parts does not know.

        By `fsum`, whose result is the same everywhere: `sum` rounds otherwise since Python 3.12.
        """
        columns = zip(*((each.cpu, each.gpu, each.dram) for each in parts), strict=True)
        sums = [
            None if None in column else math.fsum(each or 0.0 for each in column)
            for column in columns
        ]
        return cls(*sums) if sums else cls(None, None, None)
