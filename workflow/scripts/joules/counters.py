"""Own reader of the energy counters: a second opinion beside CodeCarbon, and the DRAM counter.

Reads every zone below `/sys/class/powercap` (Linux kernel, powercap.rst) and, where an NVIDIA
driver is there, the energy counter of each GPU (NVML, nvmlDeviceGetTotalEnergyConsumption).
"""

import contextlib
import dataclasses
import threading
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


class CounterMeter:
    """Cumulative joules per component since `start`, read once a second so that no wrap is lost.

    `total_j()` may be called at any time; the difference of two calls is the energy between
    them. A component without a counter is None. A counter that cannot be read at some moment is
    counted in `unreadable` and caught up with at the next reading.
    """

    def __init__(self, counters: list[Counter], interval_s: float = 1.0) -> None:
        self.counters = counters
        self.unreadable = 0
        self._interval_s = interval_s
        self._last = [counter.read_uj() for counter in counters]
        self._total_uj = [0] * len(counters)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="counter-meter", daemon=True)

    def __enter__(self) -> "CounterMeter":
        if self.counters:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._advance()

    def _advance(self) -> None:
        with self._lock:
            for index, counter in enumerate(self.counters):
                try:
                    now = counter.read_uj()
                except (OSError, ValueError):
                    self.unreadable += 1
                    continue
                self._total_uj[index] += counter_delta_uj(self._last[index], now, counter.range_uj)
                self._last[index] = now

    def total_j(self) -> dict[str, float | None]:
        """Return the joules since the start for `cpu`, `gpu` and `dram`."""
        self._advance()
        totals: dict[str, float | None] = {"cpu": None, "gpu": None, "dram": None}
        for counter, total_uj in zip(self.counters, self._total_uj, strict=True):
            if counter.component in totals:
                totals[counter.component] = (
                    totals[counter.component] or 0.0
                ) + total_uj * MICROJOULE
        return totals
