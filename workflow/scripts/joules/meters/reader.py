"""Own reader of the energy meters: a second opinion beside CodeCarbon, and the DRAM counter."""

import bisect
import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Sequence
from typing import Final

from joules.core.known import Known, Unknown, known
from joules.meters.meter import Channel, Meter, Reading

SHORTEST_STEP_S = 0.01  # counters advance in steps of milliseconds; less says nothing of power
SHORTEST_SAMPLED_S = 2.0  # one sample a second: the mean over less says little
COMPONENTS: Final = ("cpu", "gpu", "dram", "psys")
PROCESSOR: Final = ("cpu", "gpu")


class _Counter:
    """One channel over the time of a run: joules since its first reading, without wraps.

    `moments_s`, `totals_j` and `powers_w` are those of each good reading. Guarded by the lock of
    its meter's thread.
    """

    def __init__(self, channel: Channel, largest_power_w: float) -> None:
        self.channel, self._largest_power_w = channel, largest_power_w
        self.unreadable = self.resets = self.leaps = 0
        self._shown_j: float | None = None
        self.total_j = 0.0
        self.moments_s: list[float] = []
        self.totals_j: list[float] = []
        self.shown_j: list[float] = []
        self.powers_w: list[float | None] = []

    def take(self, reading: Reading | None) -> None:
        """Add a reading; None: it could not be read, and is caught up with at the next one."""
        if reading is None or reading.energy_j is None:
            self.unreadable += 1
            return
        now_j, last_j = reading.energy_j, self._shown_j
        if last_j is not None:
            passed_s = max(reading.moment_s - self.moments_s[-1], SHORTEST_STEP_S)
            self.total_j += self._step_j(last_j, now_j, self._largest_power_w * passed_s)
        self._shown_j = now_j
        self.moments_s.append(reading.moment_s)
        self.totals_j.append(self.total_j)
        self.shown_j.append(now_j)
        self.powers_w.append(reading.power_w)

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
        pairs = zip(self.shown_j[where], self.moments_s[where], strict=True)
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


@dataclasses.dataclass(frozen=True)
class Power:
    """A card's power between two moments: by its counter, as it was sampled, and its limit."""

    name: str
    counted_w: float
    sampled_w: Known[float]
    limit_w: Known[float]


class _Thread:
    """One meter, read by a thread of its own and by whoever asks in between."""

    def __init__(self, meter: Meter, interval_s: float, largest_power_w: float) -> None:
        self.meter, self._interval_s = meter, interval_s
        self.counters = [_Counter(channel, largest_power_w) for channel in meter.channels]
        self.lock = threading.Lock()
        self._stop = threading.Event()
        name = f"meter-{meter.LABEL}"
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.advance()

    def advance(self) -> None:
        """Read once. Whatever goes wrong counts as unreadable and ends no thread and no run."""
        with self.lock:
            readings: Sequence[Reading | None] = [None] * len(self.counters)
            with contextlib.suppress(Exception):  # a driver's library raises what it likes
                readings = self.meter.read()
            for counter, reading in zip(self.counters, readings, strict=True):
                counter.take(reading)


class OwnReader:
    """Cumulative joules per component since the start, read once a second so that no wrap is lost.

    `total_j()` may be called at any time; the difference of two calls is the energy between
    them. A component without a counter is None. A counter that cannot be read at some moment is
    counted in `unreadable` and caught up with at the next reading. A step that would mean more than
    `largest_power_w` is not counted as energy: backwards the counter was reset (suspend, driver
    reload) and is counted in `resets`, forwards it leapt and is counted in `leaps`. A step
    backwards that power allows is a wrap; of a counter whose range is not known it is a reset.
    """

    def __init__(
        self,
        meters: Sequence[Meter] = (),
        interval_s: float = 1.0,
        largest_power_w: float = 5000.0,
    ) -> None:
        self.meters, self.interval_s = list(meters), interval_s
        self._threads = [
            _Thread(meter, interval_s, largest_power_w) for meter in meters if meter.channels
        ]
        for thread in self._threads:
            thread.advance()

    def __enter__(self) -> "OwnReader":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for thread in self._threads:
            thread.stop()

    def meter(self, label: str) -> Meter | None:
        """Return the meter of that label; None where it is not read here."""
        return next((each for each in self.meters if label == each.LABEL), None)

    @property
    def _counters(self) -> list[_Counter]:
        return [counter for thread in self._threads for counter in thread.counters]

    @property
    def channels(self) -> list[Channel]:
        """Everything that is read."""
        return [counter.channel for counter in self._counters]

    @property
    def unreadable(self) -> int:
        """How often a counter could not be read."""
        return sum(counter.unreadable for counter in self._counters)

    @property
    def resets(self) -> int:
        """How often a counter stepped back and did not wrap."""
        return sum(counter.resets for counter in self._counters)

    @property
    def leaps(self) -> int:
        """How often a counter stepped forward by more than any power allows."""
        return sum(counter.leaps for counter in self._counters)

    def _of(self, component: str) -> list[_Counter]:
        return [each for each in self._counters if each.channel.component == component]

    def total_j(self) -> dict[str, float | None]:
        """Return the joules since the start for `cpu`, `gpu`, `dram` and `psys`."""
        for thread in self._threads:
            if thread.meter.ANSWERS_AT_ONCE:
                thread.advance()
        return {
            part: sum(each.total_j for each in counters) if (counters := self._of(part)) else None
            for part in COMPONENTS
        }

    def between_j(
        self, start_s: float, end_s: float, parts: Sequence[str] = PROCESSOR
    ) -> float | None:
        """Return the joules of components between two moments of the past, of the monotonic clock.

        Interpolated between readings; None where one of `parts` has no counter that was read, or
        when the moments are less than two reading intervals apart: the clock does not allow it
        then.
        """
        counters = [self._of(part) for part in parts]
        if end_s - start_s < 2 * self.interval_s or not counters or not all(counters):
            return None
        if not all(each.moments_s for of_part in counters for each in of_part):
            return None
        return sum(
            each.at_j(end_s) - each.at_j(start_s) for of_part in counters for each in of_part
        )

    def largest_gap_s(self, start_s: float, end_s: float) -> float | None:
        """Return the longest time without a reading of some counter; None without counters."""
        gaps = []
        for counter in self._counters:
            edges = [start_s, *counter.moments_s[counter.inside(start_s, end_s)], end_s]
            gaps.append(max(later - earlier for earlier, later in itertools.pairwise(edges)))
        return max(gaps, default=None)

    def smallest_range_j(self, component: str) -> float | None:
        """Return after how many joules the first counter of a component wraps.

        None without a counter, and where the range of one is not known.
        """
        ranges = [each.channel.range_j for each in self._of(component)]
        known = [each for each in ranges if each is not None]
        return min(known) if known and len(known) == len(ranges) else None

    def without_range(self) -> list[str]:
        """Return the counters of which it is not known when they start again at 0."""
        return [_named(each) for each in self._counters if each.channel.range_j is None]

    def still(self, start_s: float, end_s: float, longest_s: float) -> list[str]:
        """Return the counters that showed one number for longer than `longest_s`, or throughout."""
        bound_s = min(longest_s, end_s - start_s)
        return [
            _named(each)
            for each in self._counters
            if each.channel.component != "psys"  # it is stated, and nothing is added up from it
            and each.longest_still_s(start_s, end_s) >= bound_s > 0
        ]

    def powers(self, start_s: float, end_s: float) -> list[Power]:
        """Return the power between two moments of every counter whose source gives power too."""
        return [
            _power_of(each, start_s, end_s)
            for each in self._counters
            if any(power_w is not None for power_w in each.powers_w) and end_s > start_s
        ]


def _named(counter: _Counter) -> str:
    return f"{counter.channel.component} {counter.channel.name}"


def _power_of(counter: _Counter, start_s: float, end_s: float) -> Power:
    limit_w = counter.channel.power_limit_w
    return Power(
        counter.channel.name,
        (counter.at_j(end_s) - counter.at_j(start_s)) / (end_s - start_s),
        counter.sampled_w(start_s, end_s),
        known(limit_w, "the card states no limit"),
    )
