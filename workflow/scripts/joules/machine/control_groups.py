"""How much of the processor this process's control groups leave it, cgroup v1 and v2.

A group's quota holds for all groups below it, so every ancestor that can be seen counts. A
container sees its own part of the tree; what lies above that part is not shown to anybody inside.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from joules.machine.processor import ROOT, text_of


def quota_cores(root: Path = ROOT) -> float | None:
    """Return the smallest CPU quota of these groups, in cores; None where there is no limit."""
    quotas = [quota for folder in _folders(root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _quota(folder: Path) -> float | None:
    """Return the quota of one group in cores; None without one."""
    both = (text_of(folder / "cpu.max") or "").split()  # v2: quota or `max`, period
    if len(both) != 2:
        v1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        both = [text_of(folder / name) or "" for name in v1]  # v1: -1 is no limit
    if not all(part.isdigit() for part in both) or int(both[1]) == 0:
        return None
    return int(both[0]) / int(both[1])


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folder of each group that may hold a CPU quota, and of all that lie above it."""
    groups = _groups(root)
    for line in (text_of(root / "proc/self/mountinfo") or "").splitlines():
        own, _, system = line.partition(" - ")
        fields, kind = own.split(), system.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            group = groups.get("")
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            group = groups.get("cpu")
        else:
            continue
        if group is not None:
            yield from _upwards(group, _unescaped(fields[3]), root, _unescaped(fields[4]))


def _groups(root: Path) -> dict[str, str]:
    """Return by controller the group that this process is in; `` stands for version 2."""
    groups = {}
    for line in (text_of(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), group))
    return groups


def _upwards(group: str, shown_from: str, root: Path, mounted_at: str) -> Iterator[Path]:
    """Yield a group's folder and those above it, up to where the tree is mounted.

    `shown_from` is the group that the mount shows as its top. In a container without a name space
    of its own the group has its name on the host, and in one with it, a name like `/..` where it
    lies outside: then the top is all that can be seen.
    """
    top = root / mounted_at.lstrip("/")
    try:
        below = PurePosixPath(group).relative_to(shown_from)
    except ValueError:
        below = PurePosixPath()
    if ".." in below.parts:
        below = PurePosixPath()
    yield top
    for depth in range(len(below.parts)):
        yield top.joinpath(*below.parts[: depth + 1])


def _unescaped(field: str) -> str:
    """Return a path of mountinfo, where white space is written as an octal number."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
