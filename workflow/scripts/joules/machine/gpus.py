"""State of the NVIDIA GPUs of this machine, by NVML."""

from collections.abc import Callable
from typing import Any

from joules.core.machine_facts import Gpu

CLOCK_REASONS = {  # nvml.h, nvmlClocksEventReasons: those that mean a limit of heat or power
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


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
            Gpu(
                name=ask(pynvml.nvmlDeviceGetName, gpu),
                driver=driver,
                memory_bytes=memory.total if memory else None,
                power_limit_w=limit / 1000 if limit else None,
                temperature_c=ask(
                    pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU
                ),
                clocks_held_by=[text for bit, text in CLOCK_REASONS.items() if reasons & bit],
                held_by_heat_ns=held_by_heat_ns(gpu),
            )
        )
    return found
