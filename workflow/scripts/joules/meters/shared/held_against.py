"""Power integrated by the module itself, held against a counter too coarse to measure with."""

import dataclasses

from joules.core.inference import Facts


@dataclasses.dataclass
class HeldAgainst:
    """Joules by the trapezoid rule and by the device's own counter, between first and last reading.

    `step_j` is the step of that counter; None where it is not known. A counter that went back was
    reset: then nothing is said.
    """

    step_j: float | None
    integrated_j: float = 0.0
    _first: tuple[float, float] | None = None  # moment, counter
    _last: tuple[float, float, float] | None = None  # moment, power, counter
    was_reset: bool = False

    def take(self, moment_s: float, power_w: float, counter_j: float | None) -> None:
        """Add one reading; without a counter it is left out."""
        if counter_j is None:
            return
        if self._last is None:
            self._first = (moment_s, counter_j)
        else:
            last_s, last_w, last_j = self._last
            self.was_reset |= counter_j < last_j
            self.integrated_j += (power_w + last_w) / 2 * (moment_s - last_s)
        self._last = (moment_s, power_w, counter_j)

    def facts(self) -> Facts:
        """Return both, the time between, and the counter's step; empty without two readings."""
        if self._first is None or self._last is None or self._last[0] <= self._first[0]:
            return {}
        return {
            "seconds": self._last[0] - self._first[0],
            "integrated_j": self.integrated_j,
            "counted_j": None if self.was_reset else self._last[2] - self._first[1],
            "counter_step_j": self.step_j,
        }
