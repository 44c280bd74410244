"""Own reader of all energy meters.

Of the counters of processor, memory and GPU: a second opinion beside CodeCarbon. Of the meters that
the configuration names: the only one.
"""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Sequence
from typing import Final

from joules.core.known import Known, known
from joules.meters.counter import Counter
from joules.meters.meter import Channel, Meter, Reading
from joules.meters.polled import Polled

STOP_S: Final = 5.0  # that the end of a run waits for a counter that hangs
COMPONENTS: Final = ("cpu", "gpu", "dram", "psys")
PROCESSOR: Final = ("cpu", "gpu")


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
        self.counters = [Counter(channel, largest_power_w) for channel in meter.channels]
        self.lock = threading.Lock()
        self._stop = threading.Event()
        name = f"meter-{meter.LABEL}"
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

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

    `named` are the meters of the configuration. Each is asked by itself, and none is part of what
    this class adds up.
    """

    def __init__(
        self,
        meters: Sequence[Meter] = (),
        interval_s: float = 1.0,
        largest_power_w: float = 5000.0,
        named: Sequence[Polled] = (),
    ) -> None:
        self.meters, self.interval_s, self.named = list(meters), interval_s, list(named)
        self._threads = [
            _Thread(meter, interval_s, largest_power_w) for meter in meters if meter.channels
        ]
        for thread in self._threads:
            thread.advance()

    def __enter__(self) -> "OwnReader":
        for meter in self.named:
            meter.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for meter in self.named:
            meter.stop()
        for thread in self._threads:
            thread.stop()

    def meter(self, label: str) -> Meter | None:
        """Return the meter of that label; None where it is not read here."""
        return next((each for each in self.meters if label == each.LABEL), None)

    @property
    def _counters(self) -> list[Counter]:
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

    def _of(self, component: str) -> list[Counter]:
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


def _named(counter: Counter) -> str:
    return f"{counter.channel.component} {counter.channel.name}"


def _power_of(counter: Counter, start_s: float, end_s: float) -> Power:
    limit_w = counter.channel.power_limit_w
    return Power(
        counter.channel.name,
        (counter.at_j(end_s) - counter.at_j(start_s)) / (end_s - start_s),
        counter.sampled_w(start_s, end_s),
        known(limit_w, "the card states no limit"),
    )
