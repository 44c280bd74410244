"""Which process, and since when, by what nobody can set: boot, start in clock ticks, program.

A wall clock steps, a process id is used again, and words of a command line say anything.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

PROC = Path("/proc")
START_TICKS = 22  # field of /proc/PID/stat, from 1: see proc_pid_stat(5)
STATE = 3  # the first field after the name, which may hold spaces and brackets
ENDED = ("Z", "X", "x")  # states of a process that waits for its parent alone
# Options of Python that are followed by a value, and those that name what it runs.
PYTHON_OPTIONS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")


def boot_id() -> str:
    """Return the name that the kernel gave this boot; it stays when the clock is set."""
    file = PROC / "sys/kernel/random/boot_id"
    if file.exists():
        return file.read_text().strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return "unknown"


def _state_and_ticks(pid: int) -> tuple[str, int] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[START_TICKS - STATE])


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where it does not run.

    Where there is no /proc, the kernel notes the start by the wall clock, once, when it happens.
    """
    if (PROC / "self/stat").exists():
        found = _state_and_ticks(pid)
        return None if found is None or found[0] in ENDED else found[1]
    import psutil  # slow to load, and /proc says all on Linux

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return round(process.create_time() * 100)
    except psutil.Error:
        return None


def pid_namespace() -> str:
    """Return the name of the space that process ids are counted in; "" where there is but one."""
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


def runs_program(arguments: Sequence[str], name: str) -> bool:
    """Return whether a command line runs the program `name`, whatever else its words say.

    So it does when it is called by that name, when Python runs the module of that name (`-m`), and
    when Python runs a script of that name.
    """
    if not arguments:
        return False
    program = PurePath(arguments[0]).name
    if program == name:
        return True
    if not program.lower().startswith(("python", "pypy")):
        return False
    rest = iter(arguments[1:])
    for argument in rest:
        if argument in PYTHON_OPTIONS_WITH_VALUE:
            next(rest, None)
        elif argument == "-m":
            return next(rest, "") in (name, f"{name}.__main__")
        elif argument.startswith("-") and not argument.startswith("--"):
            if "c" in argument:  # also at the end of joined options, as in -Ic
                return False
            if argument.endswith("m"):
                return next(rest, "") in (name, f"{name}.__main__")
        elif not argument.startswith("-"):
            return PurePath(argument).name == name
    return False
