"""The processor: its name, its microcode, its cores. Standard library only.

Builds for one processor are keyed by its name. Everything is read below `root`, the machine's own
files unless a test lays out others.
"""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

ROOT = Path("/")


def text_of(path: Path) -> str | None:
    """Return what a file says, without white space around it; None where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def said_by_cpuinfo(key: str, root: Path = ROOT) -> str | None:
    """Return the first value of a key of /proc/cpuinfo; None where it is not there or empty."""
    for line in (text_of(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip() or None
    return None


def cpu_model(root: Path = ROOT) -> str:
    """Return the processor's name as the system gives it."""
    return said_by_cpuinfo("model name", root) or platform.processor() or platform.machine()


def microcode(root: Path = ROOT) -> str | None:
    """Return the revision of the processor's microcode; None where it is not shown."""
    return said_by_cpuinfo("microcode", root)


def listed_cpus(text: str) -> set[int]:
    """Return the numbers in a kernel's list of CPUs, for example `0-3,8`."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def allowed_cpus() -> set[int]:
    """Return the logical CPUs that this process may run on: affinity and cpuset leave them."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def physical_cores_of(cpus: Iterable[int], root: Path = ROOT) -> int | None:
    """Return on how many physical cores these logical CPUs lie; None where one does not show it.

    Two CPUs are threads of one core when the kernel lists the same siblings for both. (Numbers of
    cores, `core_id`, repeat from package to package and on some boards from cluster to cluster.)
    """
    cores = set()
    for cpu in cpus:
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        newer, older = topology / "core_cpus_list", topology / "thread_siblings_list"
        siblings = text_of(newer) or text_of(older)
        if not siblings:
            return None
        cores.add(frozenset(listed_cpus(siblings)))
    return len(cores) or None


def kinds_of_cores(root: Path = ROOT) -> tuple[int | None, int | None]:
    """Return the threads on performance and on efficiency cores; None twice where all are alike."""
    performance, efficiency = (
        text_of(root / f"sys/devices/{kind}/cpus") for kind in ("cpu_core", "cpu_atom")
    )
    if performance is None or efficiency is None:
        return None, None
    return len(listed_cpus(performance)), len(listed_cpus(efficiency))
