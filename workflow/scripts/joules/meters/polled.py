"""A meter of the configuration, read by a thread of its own, so that nobody waits for it.

What it read is asked for later: the energy of a window is interpolated between the readings around
its ends, and is None where that says too little.
"""

import contextlib
import dataclasses
import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Final

from joules.core.energy import WALL
from joules.core.inference import Facts
from joules.meters.counter import Counter
from joules.meters.meter import WHOLE_MACHINE, BadAnswer, Meter, MeterFault, Reading, Unreachable

LEAST_READINGS: Final = 20  # in a window: each end is known to a part of one interval
LEAST_STEPS: Final = 100  # of the meter's resolution, in the energy of a window
LONGEST_RETRY_S: Final = 30.0  # a device that refuses a password must not lock us out
END_S: Final = 0.5  # that the end of a run waits for a reading in flight
STEADY_S: Final = 120.0  # a steady load may show one power for so long, in whole watts
LEAST_W: Final = 1.0  # no machine that runs takes less
RENEWED_S: Final = 10.0  # at least so often, where a source does not say


@dataclasses.dataclass(frozen=True)
class Entry:
    """A meter as the configuration names it: its name there, its module, how often it is read."""

    name: str
    module: str
    every_s: float


@dataclasses.dataclass(frozen=True)
class Seen:
    """How a meter did between two moments.

    Attributes:
        readings: how many it gave.
        gap_s: the longest time without one, in seconds.
        stale: channels that showed one value for longer than they may while power flowed.
        resets: steps back that are no wrap, and leaps forward, since the start.
        steps: the fewest steps of its resolution in the energy of a channel; None without one.
    """

    readings: int
    gap_s: float
    stale: Sequence[str]
    resets: int
    steps: float | None


class Polled:
    """One meter of the configuration. `start` it, ask it about the past, `stop` it.

    `fault` is what was in the way last, None while it answers. No method waits for the device,
    except for the bounded ones that say so.
    """

    def __init__(self, entry: Entry, meter: Meter, largest_power_w: float = 5000.0) -> None:
        self.entry, self.meter = entry, meter
        self._largest_power_w = largest_power_w
        self.counters: list[Counter] = []
        self._all: list[Counter] = []
        self.fault: MeterFault | None = None
        self.faults: dict[str, int] = {}
        self.round_trips_s: list[float] = []
        self._lock = threading.Lock()  # never held while the device is asked
        self._stop, self._first = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"meter-{entry.name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End reading; wait at most `END_S` for what is in flight."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def _watch(self) -> None:
        with contextlib.ExitStack() as opened:
            wait_s, is_open = 0.0, False
            due_s = time.monotonic()
            while not self._stop.wait(max(0.0, due_s + wait_s - time.monotonic())):
                due_s = max(due_s + self.entry.every_s, time.monotonic())
                try:
                    if not is_open:
                        opened.enter_context(self.meter)
                        self._settle()
                        is_open = True
                    self._take(self.meter.read())
                    wait_s = 0.0
                except Exception as error:  # a library raises what it likes
                    self._note(error)
                    wait_s = 0.0 if is_open else min(LONGEST_RETRY_S, 2 * wait_s + 1.0)

    def _settle(self) -> None:
        channels = list(self.meter.channels)
        if not channels:
            raise Unreachable(
                f"The meter {self.entry.name} ({self.meter.LABEL}) has nothing to read here; "
                "expected at least one channel. Look at its options."
            )
        made = [Counter(each, self._largest_power_w) for each in channels]
        whole = [each for each in made if each.channel.component in WHOLE_MACHINE]
        with self._lock:
            self._all = made
            # What the rest of a node's counters read is a part of the whole.
            self.counters = whole if whole and self.entry.name == WALL else made

    def _take(self, readings: Sequence[Reading | None]) -> None:
        with self._lock:
            for counter, reading in zip(self._all, readings, strict=True):
                counter.take(reading)
                if reading is not None and reading.round_trip_s is not None:
                    self.round_trips_s.append(reading.round_trip_s)
            self.fault = None
        if any(counter.moments_s for counter in self.counters):
            self._first.set()

    def _note(self, error: Exception) -> None:
        known = isinstance(error, MeterFault)
        fault = (
            error
            if isinstance(error, MeterFault)
            else BadAnswer(
                f"The meter {self.entry.name} ({self.meter.LABEL}) failed with "
                f"{type(error).__name__}; expected a reading. Look at the device, or at its module."
            )
        )
        with self._lock:
            self.fault = fault
            kind = type(error).__name__ if known else BadAnswer.__name__
            self.faults[kind] = self.faults.get(kind, 0) + 1

    def wait_for_first(self, most_s: float) -> bool:
        """Wait for the first reading, at most so long; return whether there is one."""
        return self._first.wait(most_s)

    def answers(self, limit_s: float) -> bool:
        """Return whether it gave a reading as lately as it should (`longest_gap_s`)."""
        with self._lock:
            lasts = [counter.moments_s[-1:] for counter in self.counters]
        now_s = time.monotonic()
        longest_s = self.longest_gap_s(limit_s)
        return bool(lasts) and all(last and now_s - last[0] <= longest_s for last in lasts)

    def wait_until_read(self, moment_s: float, most_s: float) -> bool:
        """Wait for a reading of every channel later than a moment, at most so long."""
        end_s = time.monotonic() + most_s
        while not self._read_after(moment_s):
            if time.monotonic() >= end_s:
                return False
            time.sleep(min(0.02, most_s))
        return True

    def _read_after(self, moment_s: float) -> bool:
        with self._lock:
            lasts = [counter.moments_s[-1:] for counter in self.counters]
        return bool(lasts) and all(last and last[0] >= moment_s for last in lasts)

    @property
    def is_of_whole_machine(self) -> bool:
        """Whether all that it reads belongs to the whole machine; False before it was opened."""
        parts = {counter.channel.component for counter in self.counters}
        return bool(parts) and parts <= set(WHOLE_MACHINE)

    @property
    def counts(self) -> bool:
        """Whether every channel counts energy by itself; False before it was opened."""
        return bool(self.counters) and all(each.channel.counts for each in self.counters)

    @property
    def readings(self) -> int:
        """How many readings of its first channel there are."""
        return len(self.counters[0].moments_s) if self.counters else 0

    def round_trip_s(self) -> float | None:
        """Return the median time that it took to answer; None where it answers at once."""
        return statistics.median(self.round_trips_s) if self.round_trips_s else None

    def facts(self) -> Facts:
        """Return what the device says of itself; nothing before it was opened."""
        return self.meter.facts() if self.counters else {}

    def resolution_j(self) -> float | None:
        """Return the largest step of its channels; None where none has one."""
        steps = [each.channel.resolution_j for each in self.counters]
        return max((step for step in steps if step), default=None)

    def components(self) -> list[str]:
        """Return the components that it reads, each once; none before it was opened."""
        return list(dict.fromkeys(each.channel.component for each in self.counters))

    def _of(self, component: str | None) -> list[Counter]:
        every = self.counters
        return [each for each in every if component in (None, each.channel.component)]

    def energy_j(self, start_s: float, end_s: float, component: str | None = None) -> float | None:
        """Return the joules between two moments of the past, by all channels of a component.

        Left out, by all channels. Interpolated between readings. None where a channel was not read
        on either side of a moment or has no reading in between.
        """
        with self._lock:
            found = [_between_j(each, start_s, end_s) for each in self._of(component)]
        known = [each for each in found if each is not None]
        return sum(known) if known and len(known) == len(found) else None

    def nearest_j(self, start_s: float, end_s: float) -> float | None:
        """Return the joules between the readings nearest to two moments of the past.

        Less than the truth where it was not read around them. None without two readings.
        """
        with self._lock:
            if not self.counters or min(len(each.moments_s) for each in self.counters) < 2:
                return None
            return sum(each.at_j(end_s) - each.at_j(start_s) for each in self.counters)

    def longest_gap_s(self, limit_s: float) -> float:
        """Return for how long it may give no reading: a limit, or three of its own intervals."""
        renewed = [each.channel.update_interval_s or 0.0 for each in self.counters]
        return max(limit_s, 3 * max([self.entry.every_s, *renewed]))

    def window_j(
        self, start_s: float, end_s: float, limit_s: float, component: str | None = None
    ) -> float | None:
        """Return the joules of a window, as `energy_j`; None where they would say too little.

        That is below `LEAST_READINGS` readings or `LEAST_STEPS` steps of the resolution, and where
        it gave no reading for longer than it may (`longest_gap_s`), was reset, or showed a stale
        value.
        """
        energy_j = self.energy_j(start_s, end_s, component)
        seen = self.seen(start_s, end_s, component)
        if energy_j is None or seen.readings < LEAST_READINGS:
            return None
        if seen.gap_s > self.longest_gap_s(limit_s):
            return None
        too_coarse = seen.steps is not None and seen.steps < LEAST_STEPS
        return None if too_coarse or seen.stale or seen.resets else energy_j

    def seen(self, start_s: float, end_s: float, component: str | None = None) -> Seen:
        """Return how it, or its channels of a component, did between two moments of the past."""
        with self._lock:
            asked = self._of(component)
            of_channels = [_seen_of(each, start_s, end_s, self.entry) for each in asked]
        if not of_channels:
            return Seen(0, end_s - start_s, (), 0, None)
        steps = [each.steps for each in of_channels if each.steps is not None]
        return Seen(
            readings=min(each.readings for each in of_channels),
            gap_s=max(each.gap_s for each in of_channels),
            stale=[name for each in of_channels for name in each.stale],
            resets=sum(each.resets for each in of_channels),
            steps=min(steps, default=None),
        )

    def powers(self, moments_s: Sequence[float], start_s: float) -> list[float | None]:
        """Return the power of each interval that ends at one of these moments, in watt.

        The first begins at `start_s`. It is what the source told in the middle of the interval, or
        else the mean by its counter. None where it was not read around an interval.
        """
        edges = [start_s, *moments_s]
        with self._lock:
            return [
                sum(found) if found and None not in found else None  # type: ignore[arg-type]
                for earlier, later in itertools.pairwise(edges)
                for found in [[_power_w(each, earlier, later) for each in self.counters]]
            ]


def _between_j(counter: Counter, start_s: float, end_s: float) -> float | None:
    inside = counter.inside(start_s, end_s)
    if inside.start == inside.stop or not counter.covers(start_s, end_s):
        return None
    return counter.at_j(end_s) - counter.at_j(start_s)


def _power_w(counter: Counter, start_s: float, end_s: float) -> float | None:
    if end_s <= start_s or not counter.covers(start_s, end_s):
        return None
    told_w = counter.power_at((start_s + end_s) / 2)
    if told_w is not None:
        return told_w
    return (counter.at_j(end_s) - counter.at_j(start_s)) / (end_s - start_s)


def _seen_of(counter: Counter, start_s: float, end_s: float, entry: Entry) -> Seen:
    inside = counter.inside(start_s, end_s)
    edges = [start_s, *counter.moments_s[inside], end_s]
    gap_s = max(later - earlier for earlier, later in itertools.pairwise(edges))
    channel, joules = counter.channel, _between_j(counter, start_s, end_s)
    steps = None
    if channel.resolution_j:
        steps = (joules or 0.0) / channel.resolution_j
    longest_s = _longest_still_s(counter, inside, joules, end_s - start_s, entry)
    stale = [channel.name] if counter.longest_still_s(start_s, end_s) > longest_s else []
    return Seen(inside.stop - inside.start, gap_s, stale, counter.resets + counter.leaps, steps)


def _longest_still_s(
    counter: Counter, inside: slice, joules: float | None, duration_s: float, entry: Entry
) -> float:
    """Return for how long a channel may show one value while power flows, in seconds.

    A counter stands still until a step is full, and until the source renews it.
    """
    channel = counter.channel
    told_w = [power_w for power_w in counter.powers_w[inside] if power_w is not None]
    power_w = statistics.mean(told_w) if told_w else (joules or 0.0) / duration_s
    told_s = channel.update_interval_s
    renewed_s = max(RENEWED_S if told_s is None else 3 * told_s, 3 * entry.every_s)
    if not channel.counts:
        return max(STEADY_S, renewed_s)
    return renewed_s + 2 * (channel.resolution_j or 0.0) / max(power_w, LEAST_W)
