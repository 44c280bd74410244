"""Energy counters of NVIDIA GPUs (NVML, nvmlDeviceGetTotalEnergyConsumption)."""

import contextlib
from typing import Any

from joules.meters.counter import Counter


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
