"""A machine with a scripted GPU: NVML's own binding loads a library that tests/nvml/driver.c makes.

Unlike the scripted module of test_gpu.py it reaches every process, so that a whole study runs on
it. The card names itself as scripted.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "nvml/driver.c"
WATTS = 80.0  # of driver.c


def variables(folder: Path, *flags: str) -> dict[str, str]:
    """Build the driver in a folder; return the variables by which processes find it.

    `flags` are of the compiler, such as a name that the driver is to have for another one. Skips
    the test where a real driver is, or no compiler.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.path.exists("/dev/nvidiactl"):
        pytest.skip("no compiler" if compiler is None else "this machine has a GPU")
    library, tool = folder / "libnvidia-ml.so.1", folder / "nvidia-smi"
    command = [compiler, *flags, "-shared", "-fPIC", "-O1", "-o", library, SOURCE]
    subprocess.run(command, check=True)
    tool.write_text("#!/bin/sh\nexit 0\n")
    tool.chmod(0o755)
    return {
        "LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":"),
        "PATH": f"{folder}:{os.environ['PATH']}",
    }
