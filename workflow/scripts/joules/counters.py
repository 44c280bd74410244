"""Own reader of the energy counters: a second opinion beside CodeCarbon, and the DRAM counter.

Reads every zone below `/sys/class/powercap` (Linux kernel, powercap.rst) and, where an NVIDIA
driver is there, the energy counter of each GPU (NVML, nvmlDeviceGetTotalEnergyConsumption).
"""

import bisect
import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from joules.units import MICROJOULE, counter_delta_uj

POWERCAP = Path("/sys/class/powercap")


@dataclasses.dataclass(frozen=True)
class Counter:
    """One energy counter: the component it belongs to, where it is, and its range in joule."""

    component: str
    source: str
    range_uj: int
    read_uj: Callable[[], int]


def _component_of(zone_name: str) -> str | None:
    if zone_name.startswith("package"):
        return "cpu"
    return {"dram": "dram", "psys": "psys"}.get(zone_name)


def powercap_counters(root: Path = POWERCAP) -> list[Counter]:
    """Return the readable package, dram and psys counters below `root`, each zone once.

    The MMIO copies of package zones count the same energy, so of two zones with one name in
    different control types the `intel-rapl` one is kept.
    """
    counters: dict[tuple[str, str], Counter] = {}
    for energy in sorted(root.glob("**/energy_uj")) if root.is_dir() else []:
        with contextlib.suppress(OSError, ValueError):
            zone = energy.parent
            name = (zone / "name").read_text().strip()
            component = _component_of(name)
            parent = zone.parent / "name"
            owner = parent.read_text().strip() if parent.exists() else ""
            if component is None or (owner, name) in counters:
                continue
            int(energy.read_text())
            counters[owner, name] = Counter(
                component,
                str(energy),
                int((zone / "max_energy_range_uj").read_text()),
                lambda file=energy: int(file.read_text()),  # type: ignore[misc]
            )
    return list(counters.values())


def nvml_counters() -> list[Counter]:
    """Return the energy counters of the NVIDIA GPUs; none without a driver or a GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except Exception:  # the library raises its own classes, all meaning: no GPU to read
        return []
    counters = []
    for index in range(count):
        with contextlib.suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)

            def read_uj(handle: Any = handle) -> int:
                return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1000  # mJ

            read_uj()
            counters.append(Counter("gpu", f"NVML device {index}", 2**63, read_uj))
    return counters


SHORTEST_STEP_S = 0.01  # counters advance in steps of milliseconds; less says nothing of power
COMPONENTS = ("cpu", "gpu", "dram", "psys")


CLOCK_REASONS = {  # nvml.h, nvmlClocksEventReasons: those that mean a limit of heat or power
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


def gpu_state() -> list[dict[str, Any]]:
    """Return per NVIDIA GPU its name, driver, memory, power limit, temperature and clock reasons.

    `held_by_heat_ns` is how long heat has held the clocks down since the driver was loaded. A value
    that the GPU does not give is None. An empty list without a driver or a GPU.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
        driver, count = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlDeviceGetCount()
    except Exception:  # the library raises its own classes, all meaning: no GPU to read
        return []

    def ask(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except pynvml.NVMLError:
            return None

    def held_by_heat_ns(gpu: Any) -> int | None:
        policy = getattr(pynvml, "NVML_PERF_POLICY_THERMAL", None)
        held = None if policy is None else ask(pynvml.nvmlDeviceGetViolationStatus, gpu, policy)
        return held.violationTime if held else None

    found = []
    for index in range(count):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = ask(pynvml.nvmlDeviceGetMemoryInfo, gpu)
        limit = ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, gpu)  # mW
        reasons = ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, gpu) or 0
        found.append(
            {
                "name": ask(pynvml.nvmlDeviceGetName, gpu),
                "driver": driver,
                "memory_bytes": memory.total if memory else None,
                "power_limit_w": limit / 1000 if limit else None,
                "temperature_c": ask(
                    pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU
                ),
                "clocks_held_by": [text for bit, text in CLOCK_REASONS.items() if reasons & bit],
                "held_by_heat_ns": held_by_heat_ns(gpu),
            }
        )
    return found


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
