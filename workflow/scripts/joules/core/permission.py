"""Whether a difference in energy may be claimed, as it is stored and printed."""

from joules.core.values import Stored


class Permission(Stored, frozen=True):
    """Whether a difference in energy may be claimed of any comparison, and why, in sentences.

    `smallest_p` is the least p that the most blocks of a comparison can give.
    """

    energy_difference: bool
    reason: str
    smallest_p: float

    @property
    def sentence(self) -> str:
        """What may be claimed, and why, as a line for people."""
        may = "may" if self.energy_difference else "may not"
        return f"A difference in energy {may} be claimed: {self.reason}"
