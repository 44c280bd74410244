"""Commands on machines whose /sys has energy counters as kernels make them; see tests/sysfs."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parent
# As an ordinary user reads: files of another owner by their mode.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
OTHERS = "find /sys/devices/virtual/powercap -name energy_uj -exec chown 65534 {} +\n"
DIFFERENCE = 1e-3  # of an energy against the difference of the counters' files

# Per layout the folders of packages and of memory whose energy is right; mirrored dies once.
LAYOUTS = {
    "intel-desktop": ("intel-rapl:0", ""),
    "intel-laptop-psys": ("intel-rapl:0", "intel-rapl:0:2"),
    "intel-server-2": ("intel-rapl:0,intel-rapl:1", "intel-rapl:0:0,intel-rapl:1:0"),
    "intel-server-12": ("intel-rapl:0,intel-rapl:9,intel-rapl:a,intel-rapl:b", ""),
    "amd-desktop": ("intel-rapl:0", ""),
    "amd-mirrored": ("intel-rapl:0", ""),
}


@functools.cache
def obstacle() -> str:
    """Return why no file system can be laid over /sys here; empty where it can."""
    if os.getuid() != 0:
        return "only root can lay a file system over /sys"
    for needed in ("unshare", "setpriv", "cc"):
        if shutil.which(needed) is None:
            return f"no program {needed}"
    over = "mount -t tmpfs none /sys/class && mount -t tmpfs none /sys/devices/virtual"
    done = subprocess.run(["unshare", "-m", "sh", "-c", over], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"/sys cannot be laid over: {done.stderr.strip()}"


def on_machine(
    layout: str, ticks: str, *command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command on a machine of that layout; skip the test where none can be made."""
    if obstacle():
        pytest.skip(obstacle())
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(CHECKOUT / "workflow/scripts"),
    }
    return subprocess.run(
        [str(HERE / "sysfs/on_machine.sh"), layout, ticks, "--", *command],
        cwd=CHECKOUT,
        env=environment | variables,
        capture_output=True,
        encoding="utf-8",
    )


def windows_on(
    layout: str,
    ticks: str = "hz=500",
    seconds: float = 6.0,
    tries: int = 1,
    before: tuple[str, ...] = (),
    zones: tuple[str, str] | None = None,
    **variables: str,
) -> dict[str, Any]:
    """Measure windows on a machine of that layout; return what tests/sysfs/window.py saw."""
    packages, dram = LAYOUTS.get(layout, ("", "")) if zones is None else zones
    program = [sys.executable, str(HERE / "sysfs/window.py")]
    numbers = [str(seconds), str(tries), packages, dram]
    done = on_machine(layout, ticks, *before, *program, *numbers, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_energy(layout: str, seconds: float, tries: int) -> dict[str, Any]:
    """Hold both readers against the difference of the counters' files; return what was seen.

    On a busy machine a reading comes late: the window is measured again, and no bound is widened.
    """
    seen = windows_on(layout, seconds=seconds, tries=tries)
    last = seen["windows"][-1]
    assert seen["tier"] == "measured", seen["reason"]
    assert last["true_cpu_j"] > 10 * seconds, "the counters moved"
    assert last["codecarbon_cpu_j"] == pytest.approx(last["true_cpu_j"], rel=DIFFERENCE)
    assert last["own_cpu_j"] == pytest.approx(last["true_cpu_j"], rel=DIFFERENCE)
    if LAYOUTS[layout][1]:
        assert last["own_dram_j"] == pytest.approx(last["true_dram_j"], rel=DIFFERENCE)
    else:
        assert last["own_dram_j"] is None
    return seen


if __name__ == "__main__":
    for name in LAYOUTS:
        final = check_energy(name, 30.0, 5)["windows"][-1]
        shown = {key: value for key, value in final.items() if value and key.endswith("_j")}
        print(name, *(f"{key} {value:.3f}" for key, value in shown.items()), flush=True)
