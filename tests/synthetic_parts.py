"""The parts of a synthetic record: windows, answers, power over time, machine."""

import datetime
import hashlib
from typing import Any

from joules.schedule import Run

IDLE_POWER_W = 4.0
BUSY_POWER_W = 10.0
FIRST_MOMENT = datetime.datetime(2026, 11, 25, 8, 0, tzinfo=datetime.UTC)


def sha256(*words: object) -> str:
    """Return the sha256 of words joined by slashes."""
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()


def window(name: str, start_s: float, duration_s: float, cpu_j: float, dram: bool) -> dict:
    energy = {"cpu": cpu_j, "gpu": None, "dram": cpu_j * 0.1 if dram else None}
    net_j = cpu_j - IDLE_POWER_W * duration_s
    return {
        "name": name,
        "start_monotonic_s": start_s,
        "start_wall": (FIRST_MOMENT + datetime.timedelta(seconds=start_s)).isoformat(
            timespec="milliseconds"
        ),
        "duration_s": duration_s,
        "energy_j": energy,
        "net_energy_j": {"cpu": net_j, "gpu": None, "dram": net_j * 0.1 if dram else None},
        "energy_own_j": {part: None if not dram else value for part, value in energy.items()},
    }


def answer(run: Run, index: int) -> tuple[str, list[int]]:
    """Return an answer and its tokens; every tenth differs between runtimes, from token 2 on."""
    word = sha256(run.runtime)[:4] if index % 10 == 0 else "same"
    return f"    return {index}  # {word}\n", [11, index, int(sha256(word)[:4], 16), 7]


def trace(duration_s: float, dram: bool) -> dict[str, Any]:
    """Return power once a second: idle, busy, idle."""
    count = max(1, min(120, int(duration_s)))
    power = [BUSY_POWER_W if 0.2 < place / count < 0.9 else IDLE_POWER_W for place in range(count)]
    return {
        "source": "own_counters" if dram else "codecarbon",
        "interval_s": 1.0,
        "time_s": [float(second) for second in range(count)],
        "cpu_power_w": power,
        "gpu_power_w": None,
        "dram_power_w": [0.1 * watt for watt in power] if dram else None,
    }


def environment(position: int) -> dict[str, Any]:
    return {
        "governors": ["performance"],
        "load_average": [0.1, 0.1, 0.1],
        "temperature_c": 40.0 + 0.1 * position,
        "busy_share": 0.01,
    }


def machine() -> dict[str, Any]:
    return {
        "cpu": "Synthetic CPU",
        "architecture": "x86_64",
        "physical_cores": 4,
        "logical_cores": 8,
        "usable_cores": 4,
        "cgroup_quota_cores": None,
        "memory_bytes": 16 * 2**30,
        "sgx": False,
        "virtualisation": {
            "hypervisor_flag": False,
            "container_file": False,
            "vm": "none",
            "container": "none",
        },
        "kernel": "6.8.0",
        "os": "Synthetic OS 1",
        "python": "3.11.7",
        "packages": {"codecarbon": "3.3.2", "snakemake": "9.27.1"},
        "commit": {"sha": None, "dirty": None},
    }
