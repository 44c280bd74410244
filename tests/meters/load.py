"""The load that an emulated meter meters: its power over time, and its energy in closed form."""

import dataclasses
import math
import threading
import time


class SimulatedClock:
    """A clock that moves when it is told to; both sides of an emulated meter can run on it."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s, self._lock = now_s, threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            return self._now_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now_s += seconds


class RealClock:
    """The monotonic clock."""

    def __call__(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclasses.dataclass(frozen=True)
class Load:
    """A sine about `base_w`, and `burst_w` more within `burst_s`. Times count from its start."""

    base_w: float = 60.0
    swing_w: float = 15.0
    period_s: float = 17.0
    burst_w: float = 40.0
    burst_s: tuple[float, float] = (20.3, 41.7)

    def power_w(self, moment_s: float) -> float:
        burst = self.burst_w if self.burst_s[0] <= moment_s < self.burst_s[1] else 0.0
        return self.base_w + self.swing_w * math.sin(2 * math.pi * moment_s / self.period_s) + burst

    def energy_j(self, moment_s: float) -> float:
        """Return the integral of the power from 0 on."""
        waves = self.swing_w * self.period_s / (2 * math.pi)
        swing = waves * (1 - math.cos(2 * math.pi * moment_s / self.period_s))
        begin_s, end_s = self.burst_s
        burst = self.burst_w * max(0.0, min(moment_s, end_s) - begin_s)
        return self.base_w * moment_s + swing + burst

    @property
    def most_w(self) -> float:
        return self.base_w + self.swing_w + self.burst_w


def steady(watts: float) -> Load:
    """Return a load that never changes."""
    return Load(watts, 0.0, 1.0, 0.0, (0.0, 0.0))
