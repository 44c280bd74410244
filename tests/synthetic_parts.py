"""The parts of a synthetic record: windows, answers, power over time, machine, instrument."""

import datetime
import hashlib

from joules.core.energy import Energy
from joules.core.machine_facts import (
    CodeCarbonFacts,
    Commit,
    Component,
    Environment,
    ForeignUse,
    Instrument,
    MachineAfter,
    MachineBefore,
    MachineFacts,
    Pressure,
    Virtualisation,
)
from joules.core.plan import Run
from joules.core.record import Trace, Window, WindowName
from joules.core.values import Tier

IDLE_POWER_W = 4.0
BUSY_POWER_W = 10.0
FIRST_MOMENT = datetime.datetime(2026, 11, 25, 8, 0, tzinfo=datetime.UTC)


def sha256(*words: object) -> str:
    """Return the sha256 of words joined by slashes."""
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()


def energy(cpu_j: float, dram: bool) -> Energy:
    """Return so much energy of the CPU, and a tenth of it in the memory where that is known."""
    return Energy(cpu=cpu_j, gpu=None, dram=cpu_j * 0.1 if dram else None)


def window(name: WindowName, start_s: float, duration_s: float, cpu_j: float, dram: bool) -> Window:
    return Window(
        name=name,
        start_monotonic_s=start_s,
        start_wall=(FIRST_MOMENT + datetime.timedelta(seconds=start_s)).isoformat(
            timespec="milliseconds"
        ),
        duration_s=duration_s,
        energy_j=energy(cpu_j, dram),
        net_energy_j=energy(cpu_j - IDLE_POWER_W * duration_s, dram),
        energy_own_j=energy(cpu_j, dram) if dram else Energy(None, None, None),
    )


def answer(run: Run, index: int) -> tuple[str, list[int]]:
    """Return an answer and its tokens; every tenth differs between runtimes, from token 2 on."""
    word = sha256(run.arm)[:4] if index % 10 == 0 else "same"
    return f"    return {index}  # {word}\n", [11, index, int(sha256(word)[:4], 16), 7]


def trace(duration_s: float, dram: bool) -> Trace:
    """Return power once a second: idle, busy, idle."""
    count = max(1, min(120, int(duration_s)))
    power = [BUSY_POWER_W if 0.2 < place / count < 0.9 else IDLE_POWER_W for place in range(count)]
    return Trace(
        source="own_counters" if dram else "codecarbon",
        interval_s=1.0,
        time_s=[float(second) for second in range(count)],
        cpu_power_w=power,
        gpu_power_w=None,
        dram_power_w=[0.1 * watt for watt in power] if dram else None,
    )


def instrument(tier: Tier) -> Instrument:
    return Instrument(
        tier=tier,
        tier_reason="Synthetic: no instrument was read.",
        components={"cpu": Component(source="synthetic")},
        codecarbon=CodeCarbonFacts(
            version="3.3.2",
            measure_power_secs=1.0,
            tracking_mode="machine",
            force_ram_power=0,
            country_iso_code="NLD",
        ),
        modules_sha256=sha256("instrument"),
    )


def environment() -> Environment:
    """Return the machine before and after a run: quiet, and the same."""
    state = {
        "governors": ["performance"],
        "energy_preferences": [],
        "turbo_off": None,
        "boost": None,
        "smt": None,
        "frequency_mhz": [],
        "throttle_count": 0,
        "temperatures": [],
        "load_average": [0.1, 0.1, 0.1],
        "pressure": Pressure(cpu=None, memory=None, io=None),
        "memory_available_bytes": 8 * 2**30,
        "swap_in_bytes": 0,
        "swap_out_bytes": 0,
        "power_plugged": None,
        "platform_profile": None,
        "boot_time": FIRST_MOMENT.timestamp(),
    }
    quiet = ForeignUse(share=0.001, steal_share=0.0, top=[])
    return Environment(
        before=MachineBefore(**state, busy_share=0.01, temperature_c=40.0, machine=machine()),
        after=MachineAfter(**state, foreign_cpu=quiet, clock_jump_s=0.0),
    )


def machine() -> MachineFacts:
    return MachineFacts(
        cpu="Synthetic CPU",
        architecture="x86_64",
        physical_cores=4,
        logical_cores=8,
        usable_cores=4,
        cgroup_quota_cores=None,
        memory_bytes=16 * 2**30,
        sgx=False,
        virtualisation=Virtualisation(
            hypervisor_flag=False, container_file=False, vm="none", container="none"
        ),
        kernel="6.8.0",
        os="Synthetic OS 1",
        python="3.11.7",
        packages={"codecarbon": "3.3.2", "snakemake": "9.27.1"},
        commit=Commit(sha=None, dirty=None),
    )
