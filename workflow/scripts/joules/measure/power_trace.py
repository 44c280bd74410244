"""Power over the time of one run, from the readings that the trackers take once a second."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from msgspec import UNSET

from joules.core.record import Trace

SHORTEST_S = 0.5  # readings closer than this are taken together: power over less is mostly noise


class Reading(NamedTuple):
    """Joules since the start of a window at a moment of the monotonic clock; dram where counted."""

    moment_s: float
    cpu_j: float
    gpu_j: float
    dram_j: float | None


class HasReadings(Protocol):
    """A window: where it starts, and its readings in order of time."""

    @property
    def start_monotonic_s(self) -> float: ...  # noqa: D102

    @property
    def readings(self) -> list[Reading]: ...  # noqa: D102


def thinned(readings: Sequence[Reading], start_s: float) -> list[Reading]:
    """Return readings at least `SHORTEST_S` apart, the last one always among them."""
    kept: list[Reading] = []
    for reading in readings:
        before_s = kept[-1].moment_s if kept else start_s
        if reading.moment_s - before_s >= SHORTEST_S:
            kept.append(reading)
    if readings and kept and kept[-1] != readings[-1]:
        kept[-1] = readings[-1]
    return kept or list(readings[-1:])


def trace(
    windows: Iterable[HasReadings],
    with_gpu: bool,
    interval_s: float,
    wall_w: Callable[[Sequence[float], float], list[float | None] | None] = lambda *_: None,
) -> Trace:
    """Return mean power between readings, by component; times from the start of the first window.

    `time_s[i]` is the end of an interval that begins at `time_s[i - 1]`, or at the start of its
    window. A component that is not there is None. `wall_w` gives the power of the whole machine in
    intervals of one window, by their ends and its start.
    """
    times: list[float] = []
    wall: list[float | None] = []
    power: dict[str, list[float]] = {"cpu": [], "gpu": [], "dram": []}
    began_s: float | None = None
    for window in windows:
        began_s = window.start_monotonic_s if began_s is None else began_s
        before = Reading(window.start_monotonic_s, 0.0, 0.0, 0.0)
        kept = thinned(window.readings, window.start_monotonic_s)
        ends_s = [each.moment_s for each in kept if each.moment_s > window.start_monotonic_s]
        wall += wall_w(ends_s, window.start_monotonic_s) or []
        for reading in kept:
            passed_s = reading.moment_s - before.moment_s
            if passed_s <= 0:
                continue
            times.append(reading.moment_s - began_s)
            power["cpu"].append((reading.cpu_j - before.cpu_j) / passed_s)
            power["gpu"].append((reading.gpu_j - before.gpu_j) / passed_s)
            if reading.dram_j is not None:
                power["dram"].append((reading.dram_j - (before.dram_j or 0.0)) / passed_s)
            before = reading
    return Trace(
        source="codecarbon",
        interval_s=interval_s,
        time_s=times,
        cpu_power_w=power["cpu"],
        gpu_power_w=power["gpu"] if with_gpu else None,
        dram_power_w=power["dram"] if len(power["dram"]) == len(times) else None,
        wall_power_w=wall if wall and len(wall) == len(times) else UNSET,
    )
