"""What the archive of an unfinished study says of itself: which of its files are missing."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from joules.core.values import Stored

SCHEMA: Final = 1


class Unfinished(Stored, frozen=True, kw_only=True):
    """What was planned, what is there, and what is missing, so that nobody takes a part for all."""

    schema: Annotated[Literal[1], Meta(description="Version of this contract.")]
    planned: Annotated[int, Meta(ge=1, description="Runs of the study.")]
    measured: Annotated[int, Meta(ge=0, description="Of those, the runs whose record is here.")]
    missing: Annotated[
        list[str],
        Meta(description="Files of a finished archive that are not here, by their names."),
    ]

    def told(self) -> str:
        """Return in words how much is there."""
        runs = f"{self.measured} of {self.planned} runs are measured"
        return f"{runs}, {len(self.missing)} files are missing"
