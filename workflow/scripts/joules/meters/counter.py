"""One channel over the time of a run: joules since its first reading, without wraps."""

import bisect
import itertools
from typing import Final

from joules.core.known import Known, Unknown
from joules.meters.meter import Channel, Reading

SHORTEST_STEP_S: Final = 0.01  # counters advance in steps of milliseconds; less says nothing
SHORTEST_SAMPLED_S: Final = 2.0  # one sample a second: the mean over less says little


class Counter:
    """One channel over the time of a run: joules since its first reading, without wraps.

    `moments_s`, `totals_j` and `powers_w` are those of each good reading, `shown` is the number
    that its source showed. Of a channel that tells power alone, energy is the integral of its power
    by the trapezoid rule. Guarded by the lock of its meter's thread.
    """

    def __init__(self, channel: Channel, largest_power_w: float) -> None:
        self.channel, self._largest_power_w = channel, largest_power_w
        self.unreadable = self.resets = self.leaps = 0
        self._shown_j: float | None = None
        self.total_j = 0.0
        self.moments_s: list[float] = []
        self.totals_j: list[float] = []
        self.shown: list[float | None] = []
        self.powers_w: list[float | None] = []

    def take(self, reading: Reading | None) -> None:
        """Add a reading; None: it could not be read, and is caught up with at the next one."""
        if reading is None or (reading.energy_j is None and reading.power_w is None):
            self.unreadable += 1
            return
        again = reading.age_s is not None and self.moments_s[-1:] >= [reading.moment_s]
        if again:  # the source says how old its value is: it has no newer one
            return
        now_j, last_j = reading.energy_j, self._shown_j
        if now_j is None:
            now_j = self._integrated_j(reading)
        if last_j is not None:
            self.total_j += self._step_j(last_j, now_j, self._most_j(reading.moment_s))
        self._shown_j = now_j
        self.moments_s.append(reading.moment_s)
        self.totals_j.append(self.total_j)
        self.shown.append(now_j if reading.energy_j is not None else reading.power_w)
        self.powers_w.append(reading.power_w)

    def _most_j(self, moment_s: float) -> float:
        """Return the most joules that a step up to this moment can be.

        A source that renews its value seldom, or counts in coarse steps, leaps by as much.
        """
        passed_s = max(moment_s - self.moments_s[-1], SHORTEST_STEP_S)
        passed_s = max(passed_s, 2 * (self.channel.update_interval_s or 0.0))
        return self._largest_power_w * passed_s + (self.channel.resolution_j or 0.0)

    def _integrated_j(self, reading: Reading) -> float:
        """Return the joules up to a reading of power alone."""
        if not self.moments_s:
            return 0.0
        before_w, now_w = self.powers_w[-1] or 0.0, reading.power_w or 0.0
        passed_s = reading.moment_s - self.moments_s[-1]
        return (self._shown_j or 0.0) + (before_w + now_w) / 2 * passed_s

    def _step_j(self, last_j: float, now_j: float, most_j: float) -> float:
        """Return the joules of one step; 0 and a count where it is not possible."""
        if now_j >= last_j:
            if now_j - last_j <= most_j:
                return now_j - last_j
            self.leaps += 1
            return 0.0
        step_j = None
        if self.channel.range_j is not None:
            step_j = now_j - last_j + self.channel.range_j
        if step_j is None or not 0 <= step_j <= most_j:
            self.resets += 1
            return 0.0
        return step_j

    def at_j(self, moment_s: float) -> float:
        """Return the joules at a moment of the past, interpolated between readings."""
        after = bisect.bisect_left(self.moments_s, moment_s)
        if after == 0 or after == len(self.moments_s):
            return self.totals_j[min(after, len(self.moments_s) - 1)]
        before_s, after_s = self.moments_s[after - 1], self.moments_s[after]
        low, high = self.totals_j[after - 1], self.totals_j[after]
        share = (moment_s - before_s) / (after_s - before_s) if after_s > before_s else 0.0
        return low + (high - low) * share

    def covers(self, start_s: float, end_s: float) -> bool:
        """Return whether there is a reading at or before one moment and at or after another."""
        return bool(self.moments_s) and self.moments_s[0] <= start_s and end_s <= self.moments_s[-1]

    def power_at(self, moment_s: float) -> float | None:
        """Return the power at a moment of the past, in watt, interpolated between readings.

        None where the source did not tell it around that moment.
        """
        after = bisect.bisect_left(self.moments_s, moment_s)
        around = self.powers_w[max(0, after - 1) : after + 1]
        if len(around) < 2 or around[0] is None or around[1] is None:
            return around[0] if len(around) == 1 else None
        before_s, after_s = self.moments_s[after - 1], self.moments_s[after]
        share = (moment_s - before_s) / (after_s - before_s) if after_s > before_s else 0.0
        return around[0] + (around[1] - around[0]) * share

    def inside(self, start_s: float, end_s: float) -> slice:
        """Return where the readings between two moments are."""
        return slice(
            bisect.bisect_left(self.moments_s, start_s), bisect.bisect_right(self.moments_s, end_s)
        )

    def longest_still_s(self, start_s: float, end_s: float) -> float:
        """Return the longest time between two moments in which it showed one number.

        The readings just before and after count as well: they bracket the window.
        """
        inner = self.inside(start_s, end_s)
        where = slice(max(0, inner.start - 1), inner.stop + 1)
        longest_s = 0.0
        pairs = zip(self.shown[where], self.moments_s[where], strict=True)
        for _, same in itertools.groupby(pairs, key=lambda pair: pair[0]):
            moments = [min(max(moment_s, start_s), end_s) for _, moment_s in same]
            longest_s = max(longest_s, moments[-1] - moments[0])
        return longest_s

    def sampled_w(self, start_s: float, end_s: float) -> Known[float]:
        """Return the mean over time of the power that was sampled between two moments."""
        where = self.inside(start_s, end_s)
        pairs = zip(self.moments_s[where], self.powers_w[where], strict=True)
        samples = [(moment_s, power_w) for moment_s, power_w in pairs if power_w is not None]
        if not samples or samples[-1][0] - samples[0][0] < SHORTEST_SAMPLED_S:
            return Unknown(f"power was sampled for less than {SHORTEST_SAMPLED_S:g} s")
        joules = sum(
            (before_w + after_w) / 2 * (after_s - before_s)
            for (before_s, before_w), (after_s, after_w) in itertools.pairwise(samples)
        )
        return joules / (samples[-1][0] - samples[0][0])
