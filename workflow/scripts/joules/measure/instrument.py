"""CodeCarbon as an instrument: explicit settings, a tracker object per window, a stated tier.

CodeCarbon 3.3.2 falls back to a model of power without an error, takes settings from the
environment and from files, and swallows exceptions of its constructor. Each of these is closed
here: what cannot be closed is stated in the record as the energy tier.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from joules.core import machine_facts
from joules.core.errors import UserError
from joules.core.machine_facts import CodeCarbonFacts, Component
from joules.core.places import PACKAGE
from joules.core.record import Energy, WindowName
from joules.core.units import joule_from_kwh
from joules.core.values import Tier
from joules.measure.power_trace import Reading
from joules.meters.reader import CounterMeter

Components = dict[str, Component]
T = TypeVar("T")

TIERS: Final[tuple[Tier, ...]] = ("estimated", "sampled", "measured")  # from the weakest on
COUNTER_MODES = ("intel_rapl", "windows_emi")  # CodeCarbon's names for counted CPU energy
SAMPLING_INTERVAL_S = 1.0

# The modules that decide what a joule in a record means; their hash is in every record.
INSTRUMENT_MODULES = (
    *("core/record", "core/units", "machine/gpus", "machine/machine_state", "measure/instrument"),
    *("measure/power_trace", "measure/protocol", "measure/run_entries", "measure/validity"),
    *("meters/counter", "meters/nvml", "meters/powercap", "meters/reader"),
)


def refuse_hidden_settings() -> None:
    """Raise UserError where CodeCarbon would silently take settings from outside."""
    variables = [name for name in os.environ if name.upper().startswith("CODECARBON_")]
    files = [
        str(folder / ".codecarbon.config")
        for folder in (Path.home(), Path.cwd())
        if (folder / ".codecarbon.config").exists()
    ]
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


def make_tracker(name: str, country_iso_code: str, folder: Path) -> Any:
    """Return a new offline tracker with every argument spelled out.

    RAM power is forced to 0: CodeCarbon would add a constant guessed from the number of memory
    modules. Raises UserError when the constructor failed, which CodeCarbon itself does not say.
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
    )
    if not hasattr(tracker, "_hardware"):
        raise UserError(
            "CodeCarbon could not be set up and gave no reason. "
            f"It was asked to write nothing and to use the folder {folder}. "
            "Look at its messages above."
        )
    tracker._ensure_hardware_ready()
    return tracker


def components(tracker: Any) -> Components:
    """Return per component what its energy comes from, as CodeCarbon set itself up."""
    found = {name: Component("none") for name in ("cpu", "gpu", "dram")}
    found["ram_model"] = Component("off", power_w=0)
    for hardware in tracker._hardware:
        kind = type(hardware).__name__
        if kind == "CPU":
            files = getattr(getattr(hardware, "_intel_interface", None), "_rapl_files", [])
            modelled = hardware._mode not in COUNTER_MODES
            found["cpu"] = Component(
                hardware._mode,
                files=[file.path for file in files],
                wrap_range_j=[joule_from_kwh(file.max_energy_reading.kWh) for file in files],
                sampling_interval_s=SAMPLING_INTERVAL_S,
                model_power_w=hardware._tdp if modelled else None,
                generic_model=bool(hardware._is_generic_tdp) if modelled else None,
            )
        elif kind == "GPU":
            counted = all(device.last_energy is not None for device in hardware.devices.devices)
            found["gpu"] = Component(
                "nvml_energy_counter" if counted else "power_samples",
                devices=hardware.num_gpus,
                sampling_interval_s=SAMPLING_INTERVAL_S,
            )
    return found


def tier_of(parts: Components) -> tuple[Tier, str]:
    """Return the energy tier and the reason why it is not higher.

    `measured`: all energy from counters. `sampled`: some integrated from power readings.
    `estimated`: the CPU's energy is a model of its load, not a reading.
    """
    cpu = parts["cpu"].source
    if cpu not in COUNTER_MODES:
        return "estimated", f"CPU energy is a model ({cpu}): {why_no_counter()}"
    if parts["gpu"].source == "power_samples":
        return "sampled", "The GPU has no energy counter; its power is read once a second."
    return "measured", "CPU and GPU energy come from counters."


def why_no_counter(root: Path = Path("/sys/class/powercap")) -> str:
    """Return in one sentence why no CPU energy counter can be read, with the remedy."""
    files = sorted(root.glob("*/energy_uj")) if root.is_dir() else []
    if not files:
        return (
            f"{root} has no energy counter. Virtual machines and containers usually have none; "
            "measure on the machine itself, or mount the folder read-only into the container."
        )
    blocked = [file for file in files if not os.access(file, os.R_OK)]
    if blocked:
        state = blocked[0].stat()
        return (
            f"{blocked[0]} has mode {state.st_mode & 0o777:04o} and owner {state.st_uid}. "
            f"Make it readable before the study: sudo chmod a+r {root}/*/energy_uj"
        )
    return f"{files[0]} can be read, but CodeCarbon does not use it."


def require_tier(tier: Tier, reason: str, wanted: Tier) -> None:
    """Raise UserError when the machine's tier is below the one that the study asks for."""
    if TIERS.index(tier) < TIERS.index(wanted):
        raise UserError(
            f"This machine's energy tier is `{tier}`. {reason} "
            f"The study asks for `{wanted}`. Mend that, measure on another machine, "
            "or lower `require_tier` in the config and accept weaker claims."
        )


def modules_sha256() -> str:
    """Return one hash over the source of the instrument's modules."""
    digest = hashlib.sha256()
    for name in INSTRUMENT_MODULES:
        digest.update((PACKAGE / f"{name}.py").read_bytes())
    return digest.hexdigest()


def energy_of(data: Any, parts: Components, dram_j: float | None) -> Energy:
    """Return the joules per component of a CodeCarbon result; a part that is not there is None.

    Those of the memory are from the own counters.
    """
    return Energy(
        cpu=joule_from_kwh(data.cpu_energy),
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

    @property
    def end_s(self) -> float:
        """The end, by the monotonic clock."""
        return self.start_monotonic_s + self.duration_s

    def longest_silence_s(self) -> float:
        """Return the longest time in which the tracker took no reading."""
        moments = [reading.moment_s for reading in self.readings]
        edges = [self.start_monotonic_s, *moments, self.end_s]
        return max(later - earlier for earlier, later in itertools.pairwise(edges))


class MeasureTask(Protocol):
    """A function that runs one task and returns its result, its seconds and its energy."""

    def __call__(self, name: str, work: Callable[[], T]) -> tuple[T, float, Energy]: ...  # noqa: D102


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


class Instrument:
    """Energy of windows and of tasks on this machine, for the length of one run."""

    def __init__(self, country_iso_code: str, folder: Path, meter: CounterMeter) -> None:
        self._country = country_iso_code
        self._folder = folder
        self.meter = meter
        self.tasks_late_s = 0.0
        # The first start in a process probes the hardware for seconds; it is thrown away here.
        first = make_tracker("first", country_iso_code, folder)
        first.start()
        first.stop()
        self.components = components(first)
        for part in ("dram", "psys"):
            files = [counter.source for counter in meter.counters if counter.component == part]
            if files:
                self.components[part] = Component(
                    "own_counter",
                    files=files,
                    wrap_range_j=meter.smallest_range_j(part),
                    sampling_interval_s=meter.interval_s,
                )
        self.tier, self.tier_reason = tier_of(self.components)

    def facts(self) -> machine_facts.Instrument:
        """Return the record's `instrument` part."""
        return machine_facts.Instrument(
            tier=self.tier,
            tier_reason=self.tier_reason,
            components=self.components,
            codecarbon=CodeCarbonFacts(
                version=importlib.metadata.version("codecarbon"),
                measure_power_secs=SAMPLING_INTERVAL_S,
                tracking_mode="machine",
                force_ram_power=0,
                country_iso_code=self._country,
            ),
            modules_sha256=modules_sha256(),
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
    def window(self, name: WindowName) -> Iterator[MeasuredWindow]:
        """Measure one window by a tracker object of its own.

        A stopped CodeCarbon tracker cannot be started again: it fails silently and returns the
        old number.
        """
        window = MeasuredWindow(name)
        tracker = make_tracker(name, self._country, self._folder)
        self._keep_readings(tracker, window)
        tracker.start()
        own_before = self.meter.total_j()
        began = tracker._start_time  # when the first reading was taken, by perf_counter
        early_s = math.inf if began is None else time.perf_counter() - began
        window.start_monotonic_s = time.monotonic()
        window.start_wall = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        try:
            yield window
        finally:
            window.duration_s = time.monotonic() - window.start_monotonic_s
            own_after = self.meter.total_j()
            # stop() of 3.3.2 takes no reading when the last is younger than 50 ms: up to 50 ms of
            # energy would be lost.
            tracker._measure_power_and_energy()
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
    def tasks(self) -> Iterator[MeasureTask]:
        """Yield a function that runs one task and returns its result, seconds and energy.

        It has a tracker of its own: `start_task` on the window's tracker would lose energy of
        the window (measured: 10 of 18 J). `tasks_late_s` is then by how much the longest time
        between a task's two readings was longer than the task.
        """
        self.tasks_late_s = 0.0
        tracker = make_tracker("task", self._country, self._folder)

        def measure(name: str, work: Callable[[], T]) -> tuple[T, float, Energy]:
            own_before = self.meter.total_j()["dram"]
            tracker.start_task(name)
            start = time.monotonic()
            try:
                result = work()
            finally:
                duration_s = time.monotonic() - start
                data = tracker.stop_task(name)
            self.tasks_late_s = max(self.tasks_late_s, abs(data.duration - duration_s))
            dram_j = _difference(own_before, self.meter.total_j()["dram"])
            return result, duration_s, energy_of(data, self.components, dram_j)

        # A warm-up task, so that no first-use cost falls into the first measured one.
        measure("first", lambda: None)
        self.tasks_late_s = 0.0
        try:
            yield measure
        finally:
            tracker.stop()
