"""Own reader of the energy counters: a second opinion beside CodeCarbon, and the DRAM counter."""

import bisect
import itertools
import threading
import time
from collections.abc import Callable

from joules.core.units import MICROJOULE, counter_delta_uj
from joules.meters.counter import Counter

SHORTEST_STEP_S = 0.01  # counters advance in steps of milliseconds; less says nothing of power
COMPONENTS = ("cpu", "gpu", "dram", "psys")


class CounterMeter:
    """Cumulative joules per component since `start`, read once a second so that no wrap is lost.

    `total_j()` may be called at any time; the difference of two calls is the energy between
    them. A component without a counter is None. A counter that cannot be read at some moment is
    counted in `unreadable` and caught up with at the next reading. A step backwards is a wrap when
    the power that it would mean is possible, at most `largest_power_w`; else the counter was reset
    (suspend, driver reload): it is counted in `resets` and its step is not counted as energy.
    """

    def __init__(
        self,
        counters: list[Counter],
        interval_s: float = 1.0,
        largest_power_w: float = 5000.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = counters
        self.interval_s = interval_s
        self.unreadable = 0
        self.resets = 0
        self._largest_power_w = largest_power_w
        self._clock = clock
        self._last = [counter.read_uj() for counter in counters]
        self._last_s = [clock()] * len(counters)
        self._total_uj = [0] * len(counters)
        self._history: list[tuple[float, dict[str, float | None]]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="counter-meter", daemon=True)
        self._remember()

    def __enter__(self) -> "CounterMeter":
        if self.counters:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.interval_s):
            self._advance()

    def _advance(self) -> None:
        with self._lock:
            for index, counter in enumerate(self.counters):
                try:
                    now_uj, now_s = counter.read_uj(), self._clock()
                except (OSError, ValueError):
                    self.unreadable += 1
                    continue
                step_uj = counter_delta_uj(self._last[index], now_uj, counter.range_uj)
                passed_s = max(now_s - self._last_s[index], SHORTEST_STEP_S)
                wrapped = now_uj < self._last[index]
                if wrapped and step_uj * MICROJOULE > self._largest_power_w * passed_s:
                    self.resets += 1
                    step_uj = 0
                self._total_uj[index] += step_uj
                self._last[index], self._last_s[index] = now_uj, now_s
            self._remember()

    def _remember(self) -> None:
        if self.counters:
            self._history.append((self._clock(), self._totals()))

    def _totals(self) -> dict[str, float | None]:
        totals: dict[str, float | None] = dict.fromkeys(COMPONENTS)
        for counter, total_uj in zip(self.counters, self._total_uj, strict=True):
            totals[counter.component] = (totals[counter.component] or 0.0) + total_uj * MICROJOULE
        return totals

    def total_j(self) -> dict[str, float | None]:
        """Return the joules since the start for `cpu`, `gpu`, `dram` and `psys`."""
        self._advance()
        return self._totals()

    def between_j(self, start_s: float, end_s: float) -> float | None:
        """Return CPU plus GPU joules between two moments of the past, of the monotonic clock.

        Interpolated between readings; None without a CPU counter, or when the moments are less
        than two reading intervals apart: the clock does not allow it then.
        """
        if end_s - start_s < 2 * self.interval_s or self._totals()["cpu"] is None:
            return None
        with self._lock:
            history = list(self._history)
        first = max(0, bisect.bisect_right(history, start_s, key=lambda each: each[0]) - 1)
        last = bisect.bisect_left(history, end_s, key=lambda each: each[0]) + 1
        near = history[first:last]

        def at(moment_s: float) -> float:
            (before_s, before), (after_s, after) = next(
                (pair for pair in itertools.pairwise(near) if pair[1][0] >= moment_s),
                (near[-1], near[-1]),
            )
            low, high = ((each["cpu"] or 0.0) + (each["gpu"] or 0.0) for each in (before, after))
            share = (moment_s - before_s) / (after_s - before_s) if after_s > before_s else 0.0
            return low + (high - low) * min(1.0, max(0.0, share))

        return at(end_s) - at(start_s)

    def largest_gap_s(self, start_s: float, end_s: float) -> float | None:
        """Return the longest time without a reading between two moments; None without counters."""
        if not self.counters:
            return None
        with self._lock:
            moments = [moment for moment, _ in self._history if start_s <= moment <= end_s]
        edges = [start_s, *moments, end_s]
        return max(later - earlier for earlier, later in itertools.pairwise(edges))

    def smallest_range_j(self, component: str) -> float | None:
        """Return after how many joules the first counter of a component wraps; None without one."""
        ranges = [each.range_uj for each in self.counters if each.component == component]
        return min(ranges) * MICROJOULE if ranges else None
