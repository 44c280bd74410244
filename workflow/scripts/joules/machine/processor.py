"""The processor's name. Standard library only: builds for one processor are keyed by it."""

import platform
from pathlib import Path

INFO = Path("/proc/cpuinfo")


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    for line in INFO.read_text().splitlines() if INFO.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
