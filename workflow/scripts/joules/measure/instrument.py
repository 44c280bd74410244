"""CodeCarbon as an instrument: explicit settings, a tracker object per window, a stated tier.

CodeCarbon 3.3.2 falls back to a model of power without an error, takes settings from the
environment and from files, and swallows exceptions of its constructor. Each of these is closed
here: what cannot be closed is stated in the record as the energy tier.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from joules.core import machine_facts
from joules.core.conditions import Limits
from joules.core.energy import WALL, Energy
from joules.core.errors import UserError
from joules.core.machine_facts import CodeCarbonFacts
from joules.core.record import WindowName
from joules.core.units import joule_from_kwh
from joules.core.values import EnergyChoice
from joules.machine import surroundings
from joules.measure.fingerprint import instrument_sha256
from joules.measure.named_meters import NamedMeters
from joules.measure.power_trace import Reading
from joules.measure.tiers import (
    COUNTED,
    HEADLINES,
    Components,
    assess,
    cards_of,
    processor_is_counted,
    require_headline,
    tier_of,
)
from joules.measure.validity import SeenOfCounters
from joules.meters.reader import OwnReader

SAMPLING_INTERVAL_S = 1.0
LONGEST_STILL_S = 2.5  # counters advance every few milliseconds; three readings are a second apart


def refuse_hidden_settings() -> None:
    """Raise UserError where CodeCarbon would silently take settings from outside."""
    variables = surroundings.matching(surroundings.OF_CODECARBON)
    files = list(map(str, surroundings.homes_file(".codecarbon.config")))
    if variables or files:
        raise UserError(
            f"CodeCarbon would silently take settings from {', '.join(variables + files)}. "
            "Every setting must come from this study's config. "
            "Unset the variables and move the files away, then run again."
        )


class _ToFile(logging.Filter):
    """Write each message to a file, and keep it from the handlers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def filter(self, record: logging.LogRecord) -> bool:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{record.levelname} {record.getMessage()}\n")
        return False


def keep_messages(path: Path) -> None:
    """Send CodeCarbon's warnings to `path`; each tracker prints them to the terminal again."""
    path.write_text("")
    logger = logging.getLogger("codecarbon")
    for former in [each for each in logger.filters if isinstance(each, _ToFile)]:
        logger.removeFilter(former)
    logger.addFilter(_ToFile(path))


def make_tracker(
    name: str, country_iso_code: str, folder: Path, counted: bool = True, cards: int = 0
) -> Any:
    """Return a new offline tracker with every argument spelled out.

    RAM power is forced to 0: CodeCarbon would add a constant guessed from the number of memory
    modules. Where the processor is not `counted` whole, its model is asked for: CodeCarbon would
    take the platform's counter, or that of the cores, for the processor. Of `cards` GPUs every one
    is asked for by its number: else CUDA_VISIBLE_DEVICES would choose among them. Raises UserError
    when the constructor failed, which CodeCarbon itself does not say.
    """
    from codecarbon import OfflineEmissionsTracker

    refuse_hidden_settings()
    logging.getLogger("codecarbon").setLevel(logging.WARNING)
    tracker = OfflineEmissionsTracker(
        country_iso_code=country_iso_code,
        project_name=name,
        experiment_name=name,
        measure_power_secs=SAMPLING_INTERVAL_S,
        tracking_mode="machine",
        output_methods=[],
        output_dir=str(folder),
        log_level="warning",
        allow_multiple_runs=True,
        pue=1.0,
        wue=0.0,
        force_ram_power=0,
        rapl_include_dram=False,
        rapl_prefer_psys=False,
        force_mode_cpu_load=not counted,
        gpu_ids=list(range(cards)) or None,
    )
    if not hasattr(tracker, "_hardware"):
        raise UserError(
            "CodeCarbon could not be set up and gave no reason. "
            f"It was asked to write nothing and to use the folder {folder}. "
            "Look at its messages above."
        )
    try:
        tracker._ensure_hardware_ready()
    except Exception:  # NVML's own classes, for a card that is listed and gives no handle
        if not cards:
            raise
        _set_up_without_cards(tracker)
    return tracker


def _set_up_without_cards(tracker: Any) -> None:
    """Set a tracker up as on a machine without GPU, so that a lost card ends no run.

    The own reader counts that it could not be read, which makes the run invalid.
    """
    from codecarbon.core import gpu as library

    gpu: Any = library
    tracker._hardware, tracker._gpu_ids = [], None  # CodeCarbon keeps a plan per choice of cards
    seen = gpu.is_nvidia_system, gpu.is_rocm_system
    gpu.is_nvidia_system = gpu.is_rocm_system = lambda: False
    try:
        tracker._ensure_hardware_ready()
    finally:
        gpu.is_nvidia_system, gpu.is_rocm_system = seen


def energy_of(data: Any, parts: Components, dram_j: float | None) -> Energy:
    """Return the joules per component of a CodeCarbon result; a part that is not there is None.

    Those of the memory are from the own counters.
    """
    return Energy(
        cpu=None if parts["cpu"].source == "none" else joule_from_kwh(data.cpu_energy),
        gpu=None if parts["gpu"].source == "none" else joule_from_kwh(data.gpu_energy),
        dram=dram_j,
    )


@dataclasses.dataclass
class MeasuredWindow:
    """An interval with its own energy, from before it opens. Filled when it closes.

    `readings` are those that its tracker took. `late_s` is how far the first or the last of them
    is off the start or the end, whichever is more.
    """

    name: WindowName
    start_monotonic_s: float = 0.0
    start_wall: str = ""
    duration_s: float = 0.0
    energy_j: Energy = Energy(None, None, None)
    energy_own_j: Energy = Energy(None, None, None)
    readings: list[Reading] = dataclasses.field(default_factory=list)
    late_s: float = 0.0
    meters_j: dict[str, float | None] | UnsetType = UNSET

    @property
    def end_s(self) -> float:
        """The end, by the monotonic clock."""
        return self.start_monotonic_s + self.duration_s

    def longest_silence_s(self) -> float:
        """Return the longest time in which the tracker took no reading."""
        moments = [reading.moment_s for reading in self.readings]
        edges = [self.start_monotonic_s, *moments, self.end_s]
        return max(later - earlier for earlier, later in itertools.pairwise(edges))


class Lap(NamedTuple):
    """What lies between two readings of one tracker, in seconds and joule."""

    duration_s: float
    energy_j: Energy


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


class Instrument:
    """Energy of windows and of tasks on this machine, for the length of one run."""

    def __init__(
        self,
        country_iso_code: str,
        folder: Path,
        meter: OwnReader,
        energy: EnergyChoice = "processor",
        limits: Limits | None = None,
    ) -> None:
        self._country = country_iso_code
        self._folder = folder
        self.meter, self.energy = meter, energy
        self.named = NamedMeters(meter.named, energy, limits or Limits())
        self.tasks_late_s = 0.0
        # The first start in a process probes the hardware for seconds; it is thrown away here.
        first = self._tracker("first")
        first.start()
        first.stop()
        self._assessed = assess(first, meter, SAMPLING_INTERVAL_S)
        self.components: Components = self._assessed.components
        require_headline(energy, self.components)
        self.tier, self.tier_reason = (
            tier_of(self._assessed, energy) if energy != WALL else self.named.tier()
        )

    def _tracker(self, name: str) -> Any:
        counted, cards = processor_is_counted(self.meter), len(cards_of(self.meter))
        return make_tracker(name, self._country, self._folder, counted, cards)

    @property
    def is_counted(self) -> bool:
        """Whether the energy that tasks and gaps are told apart by comes from counters."""
        if self.energy != WALL:
            return self.tier != "estimated"
        return self.components["cpu"].tier in ("measured", "sampled")

    def headline_j(self, energy_j: Energy) -> float:
        """Return what the study's headline adds up of an energy."""
        return energy_j.headline_j(self.energy)

    def between_j(self, start_s: float, end_s: float) -> float | None:
        """Return the headline's joules between two moments, by the own counters alone.

        None where one of its components has no counter, or the clock does not allow it.
        """
        counted = HEADLINES[self.energy]
        parts = [each for each in counted if each in self.components and self.components[each].tier]
        return self.meter.between_j(start_s, end_s, parts)

    def seen_of_counters(self, tasks: "MeasuredWindow") -> SeenOfCounters:
        """Return how the own reader's counters did over the tasks window."""
        reader, start_s, end_s = self.meter, tasks.start_monotonic_s, tasks.end_s
        own = {"cpu": tasks.energy_own_j.cpu, "gpu": tasks.energy_own_j.gpu}
        alone = {
            part
            for part, own_j in own.items()
            if self.components[part].source in COUNTED and own_j is None
        }
        return SeenOfCounters(
            counters=len(reader.channels),
            unreadable=reader.unreadable,
            resets=reader.resets,
            leaps=reader.leaps,
            still=reader.still(start_s, end_s, LONGEST_STILL_S),
            without_range=reader.without_range(),
            alone=sorted(alone | set(self._assessed.unshared)),
            powers=reader.powers(start_s, end_s),
        )

    def facts(self) -> machine_facts.Instrument:
        """Return the record's `instrument` part."""
        return machine_facts.Instrument(
            tier=self.tier,
            tier_reason=self.tier_reason,
            components=self.components | self.named.component(),
            codecarbon=CodeCarbonFacts(
                version=importlib.metadata.version("codecarbon"),
                measure_power_secs=SAMPLING_INTERVAL_S,
                tracking_mode="machine",
                force_ram_power=0,
                country_iso_code=self._country,
            ),
            modules_sha256=instrument_sha256(),
            headline=self.energy,
            meters=self.named.facts(),
        )

    def _keep_readings(self, tracker: Any, window: MeasuredWindow) -> None:
        """Keep what the tracker reads once a second: no second sampler is needed for it.

        One reading at a time: the reading at a window's end may fall on that of the second, and
        CodeCarbon 3.3.2 would count the time since the last reading twice.
        """
        read, dram_before_j = tracker._do_measurements, self.meter.total_j()["dram"]
        one_at_a_time = threading.Lock()

        def read_and_keep() -> None:
            with one_at_a_time:
                read()
                # CodeCarbon sets it only after this function, which is after the lock is open.
                tracker._last_measured_time = time.perf_counter()
                dram_j = _difference(dram_before_j, self.meter.total_j()["dram"])
                window.readings.append(
                    Reading(
                        time.monotonic(),
                        joule_from_kwh(tracker._total_cpu_energy.kWh),
                        joule_from_kwh(tracker._total_gpu_energy.kWh),
                        dram_j,
                    )
                )

        tracker._do_measurements = read_and_keep

    @contextlib.contextmanager
    def window(
        self, name: WindowName, at_ends: Callable[[], object] = lambda: None
    ) -> Iterator[MeasuredWindow]:
        """Measure one window by a tracker object of its own.

        `at_ends` is called, and the own counters are read, as near as can be to the tracker's first
        reading and to its last, whose energy lies between. A stopped CodeCarbon tracker cannot be
        started again: it fails silently and returns the old number.
        """
        window = MeasuredWindow(name)
        tracker = self._tracker(name)
        self._keep_readings(tracker, window)
        at_ends()
        # Here and not after start(), which reads at its beginning and then takes milliseconds.
        own_before = self.meter.total_j()
        tracker.start()
        began = tracker._start_time  # when the first reading was taken, by perf_counter
        early_s = math.inf if began is None else time.perf_counter() - began
        window.start_monotonic_s = time.monotonic()
        window.start_wall = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        try:
            yield window
        finally:
            window.duration_s = time.monotonic() - window.start_monotonic_s
            # stop() of 3.3.2 takes no reading when the last is younger than 50 ms: up to 50 ms of
            # energy would be lost.
            tracker._measure_power_and_energy()
            own_after = self.meter.total_j()
            at_ends()
            taken = list(window.readings)
            late_s = abs(taken[-1].moment_s - window.end_s) if taken else window.duration_s
            window.late_s = max(early_s, late_s)
            tracker.stop()
        data = getattr(tracker, "final_emissions_data", None)
        if data is None:
            raise RuntimeError(f"CodeCarbon returned no energy for the window {name}.")
        window.readings = taken
        window.energy_own_j = Energy(
            *(_difference(own_before[part], own_after[part]) for part in ("cpu", "gpu", "dram"))
        )
        window.energy_j = energy_of(data, self.components, window.energy_own_j.dram)

    @contextlib.contextmanager
    def tasks(self) -> Iterator[Callable[[], Lap]]:
        """Yield a function that returns the lap since it was called last, or since the start.

        So each moment lies in exactly one lap, whatever the tracker's own work takes: a task of
        CodeCarbon's own leaves out 1.5 ms at its end. The laps have a tracker of their own, so that
        they can be held against the window's. `tasks_late_s` is the longest that a reading took.
        """
        self.tasks_late_s = 0.0
        tracker, whole = self._tracker("tasks"), MeasuredWindow("tasks")
        self._keep_readings(tracker, whole)
        tracker.start()
        last = whole.readings[-1]

        def lap() -> Lap:
            nonlocal last
            asked_s, before = time.monotonic(), last
            tracker._measure_power_and_energy()
            last = whole.readings[-1]
            self.tasks_late_s = max(self.tasks_late_s, last.moment_s - asked_s)
            none = {name for name, part in self.components.items() if part.source == "none"}
            energy_j = Energy(
                cpu=None if "cpu" in none else last.cpu_j - before.cpu_j,
                gpu=None if "gpu" in none else last.gpu_j - before.gpu_j,
                dram=_difference(before.dram_j, last.dram_j),
            )
            return Lap(last.moment_s - before.moment_s, energy_j)

        try:
            yield lap
        finally:
            tracker.stop()
