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
from collections.abc import Sequence
from pathlib import Path

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
from joules.machine.gpus import gpu_state
from joules.machine.processor import cpu_model

CPU = Path("/sys/devices/system/cpu")


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


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


def cgroup_quota_cores() -> float | None:
    """Return the CPU quota of this control group in cores; None when there is no limit."""
    quota = (_read("/sys/fs/cgroup/cpu.max") or "max").split()
    return None if quota[0] == "max" else int(quota[0]) / int(quota[1])


def usable_cores() -> int:
    """Return min(physical cores, cores this process may run on, cgroup quota), at least 1."""
    limits = [psutil.cpu_count(logical=False) or 1, len(psutil.Process().cpu_affinity())]
    quota = cgroup_quota_cores()
    if quota is not None:
        limits.append(int(quota))
    return max(1, min(limits))


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
    flags = (_read("/proc/cpuinfo") or "").split("flags", 1)[-1].split("\n", 1)[0].split()
    return MachineFacts(
        cpu=cpu_model(),
        architecture=platform.machine(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        usable_cores=usable_cores(),
        cgroup_quota_cores=cgroup_quota_cores(),
        memory_bytes=psutil.virtual_memory().total,
        sgx="sgx" in flags,
        virtualisation=virtualisation(),
        kernel=platform.release(),
        os=_os_name(),
        python=platform.python_version(),
        packages={package: version_of(package) for package in packages},
        commit=_commit(),
    )


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _commit() -> Commit:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return Commit(git("rev-parse", "HEAD"), None if changes is None else bool(changes))


def observe() -> MachineState:
    """Return what may change from run to run: clocks, temperatures, load, memory, power."""
    swap, battery = psutil.swap_memory(), psutil.sensors_battery()
    temperatures = [
        Temperature(f"{chip}/{sensor.label or index}", sensor.current)
        for chip, sensors in psutil.sensors_temperatures().items()
        for index, sensor in enumerate(sensors)
    ]
    return MachineState(
        governors=_distinct(f"{CPU}/cpu*/cpufreq/scaling_governor"),
        energy_preferences=_distinct(f"{CPU}/cpu*/cpufreq/energy_performance_preference"),
        turbo_off=_read(CPU / "intel_pstate/no_turbo"),
        boost=_read(CPU / "cpufreq/boost"),
        smt=_read(CPU / "smt/active"),
        frequency_mhz=[each.current for each in psutil.cpu_freq(percpu=True) or []],
        throttle_count=sum(
            int(text)
            for path in glob.glob(f"{CPU}/cpu*/thermal_throttle/*_throttle_count")
            if (text := _read(path)) and text.isdigit()
        ),
        temperatures=temperatures,
        load_average=list(os.getloadavg()),
        pressure=Pressure(*map(_pressure, ("cpu", "memory", "io"))),
        memory_available_bytes=psutil.virtual_memory().available,
        swap_in_bytes=swap.sin,
        swap_out_bytes=swap.sout,
        power_plugged=battery.power_plugged if battery else None,
        platform_profile=_read("/sys/firmware/acpi/platform_profile"),
        boot_time=psutil.boot_time(),
        gpus=gpu_state(),
    )


def _pressure(resource: str) -> list[str] | None:
    return (_read(f"/proc/pressure/{resource}") or "").splitlines()[:1] or None


def package_temperature() -> float | None:
    """Return the processor's temperature in °C; None where there is no sensor."""
    for chip in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
        sensors = psutil.sensors_temperatures().get(chip)
        if sensors:
            return max(sensor.current for sensor in sensors)
    return None


@dataclasses.dataclass(frozen=True)
class CpuUse:
    """CPU seconds so far: of the whole machine, stolen by the hypervisor, and per process."""

    busy_s: float
    stolen_s: float
    processes: dict[tuple[int, float], tuple[str, float]]


def cpu_use() -> CpuUse:
    """Read the machine's CPU times and those of every process."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # guest time is already part of user time (proc_stat(5))
    counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    processes = {}
    for process in psutil.process_iter(["pid", "name", "cpu_times", "create_time"]):
        used = process.info["cpu_times"]
        if used is not None:
            key = (process.info["pid"], process.info["create_time"])
            processes[key] = (process.info["name"], used.user + used.system)
    return CpuUse(counted - idle, getattr(times, "steal", 0.0), processes)


def own_processes() -> set[tuple[int, float]]:
    """Return this process and all below it."""
    me = psutil.Process()
    return {(process.pid, process.create_time()) for process in [me, *me.children(recursive=True)]}


def foreign_use(
    before: CpuUse, after: CpuUse, own: set[tuple[int, float]], duration_s: float, cores: int
) -> ForeignUse:
    """Return what other processes used between two readings, as shares of the whole machine.

    Processes that ended in between are counted by the difference to the machine's total.
    """
    spent = {
        key: seconds - before.processes.get(key, ("", 0.0))[1]
        for key, (_, seconds) in after.processes.items()
    }
    ours = sum(seconds for key, seconds in spent.items() if key in own)
    capacity = max(duration_s * cores, 1e-9)
    top = sorted(((s, after.processes[k][0]) for k, s in spent.items() if k not in own))[::-1][:5]
    return ForeignUse(
        share=max(0.0, after.busy_s - before.busy_s - ours) / capacity,
        steal_share=(after.stolen_s - before.stolen_s) / capacity,
        top=[ForeignProcess(name, seconds) for seconds, name in top if seconds > 0],
    )
