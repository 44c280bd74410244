"""The GPUs of this machine: whether there is one, and the state of NVIDIA's, by NVML."""

import sys
from pathlib import Path
from typing import Any

from joules.core.machine_facts import Gpu
from joules.machine.asking import known

CLOCK_REASONS = {  # nvml.h, nvmlClocksEventReasons: those that mean a limit of heat or power
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
# The older name is the only one that drivers before version 535 know.
ASKED_FOR_REASONS = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)

# Through which a program computes on a GPU: NVIDIA's driver, AMD's, and Windows' own below WSL.
DEVICES = ("nvidia[0-9]*", "kfd", "dxg")


def devices(folder: Path = Path("/dev")) -> list[str]:
    """Return by what a runtime could compute on a GPU here, whoever made it; empty: by nothing.

    A graphics unit within a processor is not looked for where no driver lets programs compute on
    it; its energy is the processor's.
    """
    if sys.platform == "darwin":
        return ["Metal"]
    return sorted(str(path) for pattern in DEVICES for path in folder.glob(pattern))


def gpu_state() -> list[Gpu]:
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

    def clocks_held_by(gpu: Any) -> list[str] | None:
        for name in ASKED_FOR_REASONS:
            ask = getattr(pynvml, name, None)
            reasons = None if ask is None else known(ask, gpu)
            if reasons is not None:
                return [text for bit, text in CLOCK_REASONS.items() if reasons & bit]
        return None

    def held_by_heat_ns(gpu: Any) -> int | None:
        policy = getattr(pynvml, "NVML_PERF_POLICY_THERMAL", None)
        held = None if policy is None else known(pynvml.nvmlDeviceGetViolationStatus, gpu, policy)
        return held.violationTime if held else None

    found = []
    for index in range(count):
        gpu = known(pynvml.nvmlDeviceGetHandleByIndex, index)
        if gpu is None:  # the meter says why; a card that is lost in a run changes their number
            continue
        memory = known(pynvml.nvmlDeviceGetMemoryInfo, gpu)
        limit = known(pynvml.nvmlDeviceGetEnforcedPowerLimit, gpu)  # mW
        found.append(
            Gpu(
                name=known(pynvml.nvmlDeviceGetName, gpu),
                driver=driver,
                memory_bytes=memory.total if memory else None,
                power_limit_w=limit / 1000 if limit else None,
                temperature_c=known(
                    pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU
                ),
                clocks_held_by=clocks_held_by(gpu),
                held_by_heat_ns=held_by_heat_ns(gpu),
            )
        )
    return found
