"""What is recorded about the machine, and what others did on it while a run was measured.

Linux files are read where they exist; what cannot be known is None. Nothing here names the
machine's owner, host or address.
"""

import dataclasses
import glob
import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from joules.core.machine_facts import (
    Commit,
    ForeignProcess,
    ForeignUse,
    MachineFacts,
    MachineState,
    Pressure,
    Temperature,
    Virtualisation,
)
from joules.core.places import REPOSITORY
from joules.machine import control_groups, processor
from joules.machine.asking import known
from joules.machine.gpus import gpu_state

CPU = Path("/sys/devices/system/cpu")


def _read(path: str | Path) -> str | None:
    return processor.text_of(Path(path))


def _distinct(pattern: str) -> list[str]:
    return sorted({text for path in glob.glob(pattern) if (text := _read(path)) is not None})


def virtualisation() -> Virtualisation:
    """Return whether this is a virtual machine or a container, as far as it shows."""
    tool = shutil.which("systemd-detect-virt")

    def detected(option: str) -> str | None:
        if tool is None:
            return None
        return subprocess.run([tool, option], capture_output=True, text=True).stdout.strip()

    return Virtualisation(
        hypervisor_flag=" hypervisor" in (_read("/proc/cpuinfo") or ""),
        container_file=any(Path(p).exists() for p in ("/.dockerenv", "/run/.containerenv")),
        vm=detected("-v"),
        container=detected("-c"),
    )


@dataclasses.dataclass(frozen=True)
class Cores:
    """The cores of this machine, and what of them is left to this process.

    Attributes:
        physical: of the machine; None where it does not show them.
        logical: of the machine; None where even these are not told.
        allowed: physical cores that affinity and cpuset leave; logical ones where `are_physical`
            is false.
        are_physical: whether `allowed` counts physical cores.
        quota: CPU quota of the control groups, in cores; None without one.
    """

    physical: int | None
    logical: int | None
    allowed: int
    are_physical: bool
    quota: float | None

    @property
    def usable(self) -> int:
        """How many cores this process may use, at least 1; a part of a core is none."""
        return max(1, min(self.allowed, self.allowed if self.quota is None else int(self.quota)))


def cores(root: Path = processor.ROOT) -> Cores:
    """Return the cores of this machine and what affinity and control groups leave of them."""
    cpus = processor.allowed_cpus()
    physical, logical = known(psutil.cpu_count, logical=False), known(psutil.cpu_count)
    allowed = processor.physical_cores_of(cpus, root)
    if allowed is None and physical is not None:
        allowed = min(physical, len(cpus))
    return Cores(
        physical=physical,
        logical=logical,
        allowed=len(cpus) if allowed is None else allowed,
        are_physical=allowed is not None,
        quota=control_groups.quota_cores(root),
    )


def usable_cores() -> int:
    """Return the physical cores that affinity and control groups leave, at least 1.

    Where the machine does not show its physical cores, logical ones are counted.
    """
    return cores().usable


def threads_of(configured: int | str) -> int:
    """Return the number of runtime threads: a number as it is; `auto` leaves one core free.

    With all cores, thread pools that spin starve their own server (measured: 5 times slower).
    """
    return max(1, usable_cores() - 1) if configured == "auto" else int(configured)


def version_of(package: str) -> str | None:
    """Return the version of a distribution in this environment; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_facts(packages: Sequence[str]) -> MachineFacts:
    """Return what does not change during a study: hardware, system, software.

    `packages` are the distributions whose versions are told.
    """
    flags = (processor.said_by_cpuinfo("flags") or "").split()
    seen = cores()
    performance, efficiency = processor.kinds_of_cores()
    return MachineFacts(
        cpu=processor.cpu_model(),
        architecture=platform.machine(),
        physical_cores=seen.physical,
        logical_cores=seen.logical,
        performance_cores=performance,
        efficiency_cores=efficiency,
        microcode=processor.microcode(),
        usable_cores=seen.usable,
        cgroup_quota_cores=seen.quota,
        memory_bytes=_memory_bytes(),
        sgx="sgx" in flags,
        virtualisation=virtualisation(),
        kernel=platform.release(),
        os=_os_name(),
        python=platform.python_version(),
        packages={package: version_of(package) for package in packages},
        commit=_commit(),
    )


def _memory_bytes() -> int:
    memory = known(psutil.virtual_memory)
    if memory is not None:
        return int(memory.total)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _os_name() -> str:
    release = known(platform.freedesktop_os_release) or {}
    return release.get("PRETTY_NAME") or platform.platform()


def _commit(repository: Path = REPOSITORY) -> Commit:
    """Return the commit of this checkout; none where the files lie in another repository."""
    # The user's GIT_DIR and the like would have git look elsewhere.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(repository), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=own)
        except OSError:
            return None
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != repository.resolve():
        return Commit(None, None)
    changes = git("status", "--porcelain", "--untracked-files=no")
    return Commit(git("rev-parse", "HEAD"), None if changes is None else bool(changes))


def observe() -> MachineState:
    """Return what may change from run to run: clocks, temperatures, load, memory, power."""
    battery, memory = known(lambda: psutil.sensors_battery()), known(psutil.virtual_memory)
    temperatures = [
        Temperature(f"{chip}/{sensor.label or index}", sensor.current)
        for chip, sensors in _sensors().items()
        for index, sensor in enumerate(sensors)
    ]
    swapped_in, swapped_out = _swapped_bytes()
    return MachineState(
        governors=_distinct(f"{CPU}/cpu*/cpufreq/scaling_governor"),
        energy_preferences=_distinct(f"{CPU}/cpu*/cpufreq/energy_performance_preference"),
        turbo_off=_read(CPU / "intel_pstate/no_turbo"),
        boost=_read(CPU / "cpufreq/boost"),
        smt=_read(CPU / "smt/active"),
        frequency_mhz=[each.current for each in known(lambda: psutil.cpu_freq(percpu=True)) or []],
        throttle_count=_throttle_count(),
        temperatures=temperatures,
        load_average=list(known(os.getloadavg) or ()),
        pressure=Pressure(*map(_pressure, ("cpu", "memory", "io"))),
        memory_available_bytes=None if memory is None else memory.available,
        swap_in_bytes=swapped_in,
        swap_out_bytes=swapped_out,
        power_plugged=battery.power_plugged if battery else None,
        platform_profile=_read("/sys/firmware/acpi/platform_profile"),
        boot_time=known(psutil.boot_time),
        gpus=known(gpu_state) or [],
    )


def _throttle_count() -> int | None:
    """Return how often heat slowed a core; None where the processor does not count it."""
    counts = [
        int(text)
        for path in glob.glob(f"{CPU}/cpu*/thermal_throttle/*_throttle_count")
        if (text := _read(path)) and text.isdigit()
    ]
    return sum(counts) if counts else None


def _swapped_bytes() -> tuple[int | None, int | None]:
    """Return the bytes swapped in and out since the start of the system; None where not counted.

    On Linux these are read here: psutil says 0 where the kernel does not count them.
    """
    if platform.system() != "Linux":
        swap = known(psutil.swap_memory)
        return (None, None) if swap is None else (swap.sin, swap.sout)
    counted = dict(line.split() for line in (_read("/proc/vmstat") or "").splitlines())
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    swapped = [counted.get(name) for name in ("pswpin", "pswpout")]
    into, out = (None if pages is None else int(pages) * page_bytes for pages in swapped)
    return into, out


def _sensors() -> dict[str, list[Any]]:
    # psutil has no such function where the system has no sensors
    return known(lambda: psutil.sensors_temperatures()) or {}


def _pressure(resource: str) -> list[str] | None:
    return (_read(f"/proc/pressure/{resource}") or "").splitlines()[:1] or None


def package_temperature() -> float | None:
    """Return the processor's temperature in °C; None where there is no sensor."""
    seen = _sensors()
    for chip in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
        read = [sensor.current for sensor in seen.get(chip, []) if sensor.current is not None]
        if read:
            return max(read)
    return None


@dataclasses.dataclass(frozen=True)
class CpuUse:
    """CPU seconds so far: of the whole machine, stolen by the hypervisor, and per process.

    `at_s` is when it was read, by the monotonic clock. `stolen_s` is None where the system does not
    count it: only Linux does.
    A process of psutil equals itself by its id and its start since boot, whatever the clock does.
    """

    at_s: float
    busy_s: float
    stolen_s: float | None
    processes: dict[psutil.Process, tuple[str, float]]


def cpu_use() -> CpuUse:
    """Read the machine's CPU times and those of every process."""
    at_s, times = time.monotonic(), psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # guest time is already part of user time (proc_stat(5))
    counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    processes = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        used = process.info["cpu_times"]
        if used is not None:
            processes[process] = (process.info["name"], used.user + used.system)
    return CpuUse(at_s, counted - idle, getattr(times, "steal", None), processes)


def watch_others(seconds: float) -> ForeignUse:
    """Watch the machine for some seconds; return what others used of it meanwhile.

    Its `share` is what `limits.cpu_busy` limits, for the doctor and before a run alike.
    """
    before = cpu_use()
    time.sleep(seconds)
    return foreign_use(before, cpu_use(), own_processes(), logical_cores())


def logical_cores() -> int:
    """Return the machine's logical cores, whose time the shares of the whole machine are of."""
    return known(psutil.cpu_count) or os.cpu_count() or 1


def own_processes() -> set[psutil.Process]:
    """Return this process and all below it."""
    me = psutil.Process()
    return {me, *me.children(recursive=True)}


def foreign_use(before: CpuUse, after: CpuUse, own: set[psutil.Process], cores: int) -> ForeignUse:
    """Return what other processes used between two readings, as shares of the whole machine.

    Processes that ended in between are counted by the difference to the machine's total.
    """
    spent = {
        key: seconds - before.processes.get(key, ("", 0.0))[1]
        for key, (_, seconds) in after.processes.items()
    }
    ours = sum(seconds for key, seconds in spent.items() if key in own)
    capacity = max((after.at_s - before.at_s) * cores, 1e-9)
    stolen_s = None
    if before.stolen_s is not None and after.stolen_s is not None:
        stolen_s = after.stolen_s - before.stolen_s
    top = sorted(((s, after.processes[k][0]) for k, s in spent.items() if k not in own))[::-1][:5]
    return ForeignUse(
        share=max(0.0, after.busy_s - before.busy_s - ours) / capacity,
        steal_share=None if stolen_s is None else stolen_s / capacity,
        top=[ForeignProcess(name, seconds) for seconds, name in top if seconds > 0],
    )
