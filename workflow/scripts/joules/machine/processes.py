"""Child processes that end with their parent, and errors that say how a child ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from joules.core.errors import UserError

# Of the user's environment, only what a program needs to find its libraries and its devices.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TMPDIR")
# Run in the child before the program itself: prctl(2) with PR_SET_PDEATHSIG (1) outlives execve(2)
# and sends the signal when the parent's thread that made the child ends. SIGTERM, because the child
# may have children of its own to end. This is no preexec_fn: the parent has threads.
LAUNCHER = """
import ctypes, os, signal, sys
library = ctypes.CDLL(None)
if hasattr(library, "prctl"):
    library.prctl(1, int(signal.SIGTERM), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("The parent ended before its child had started.")
os.execvp(sys.argv[2], sys.argv[2:])
"""
# The same, and stays as the program's parent: a server that does not end on SIGTERM is killed, with
# all of its group. llama.cpp's server can miss the signal and wait for ever (seen in 1 of 30). It
# ends as the program did, so that its own parent sees how. It leaves no core of its own, which some
# systems take seconds to store: prctl(2) with PR_SET_DUMPABLE (4).
SUPERVISOR = """
import ctypes, os, signal, sys
library = ctypes.CDLL(None)
def die_with_parent(number):
    if hasattr(library, "prctl"):
        library.prctl(1, int(number), 0, 0, 0)
die_with_parent(signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("The parent ended before its child had started.")
supervisor = os.getpid()
program = os.fork()
if program == 0:
    die_with_parent(signal.SIGKILL)
    if os.getppid() == supervisor:
        os.execvp(sys.argv[2], sys.argv[2:])
    os._exit(1)
def end(*_):
    os.kill(program, signal.SIGTERM)
    signal.alarm(5)
signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
signal.signal(signal.SIGTERM, end)
status = os.waitpid(program, 0)[1]
if os.WIFSIGNALED(status):
    if hasattr(library, "prctl"):
        library.prctl(4, 0, 0, 0, 0)
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(supervisor, os.WTERMSIG(status))
sys.exit(os.waitstatus_to_exitcode(status))
"""
WRONG_BUILD = (
    "Likely it was built for another CPU, or with AMX instructions (ggml-org/llama.cpp issue "
    "20824). Delete its build (.venv and .wheels, or its folder in resources/runtimes) and run "
    "again: it is then built for this CPU, without AMX."
)
REMEDIES = {
    "SIGSEGV": WRONG_BUILD,
    "SIGILL": WRONG_BUILD,
    "SIGKILL": "Likely memory ran out (see `dmesg`). Close programs or take a smaller model.",
}
SIGNALS_BY_TEXT = {str(signal.strsignal(each)).lower(): each.name for each in signal.Signals}
POLL_S = 0.02


def minimal_environment() -> dict[str, str]:
    """Return the part of the user's environment that a runtime may see."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    supervised: bool = False,
    **pipes: Any,
) -> subprocess.Popen[str]:
    """Start a child with this environment alone, leader of a process group, its output in `log`.

    On Linux it gets SIGTERM when this thread ends, however it ends. One that may not end on that is
    to be `supervised`. `pipes` may name stdin and stdout; they are then UTF-8 text.
    """
    launcher = SUPERVISOR if supervised else LAUNCHER
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", launcher, str(os.getpid()), *command],
            env=dict(environment),
            encoding="utf-8",
            start_new_session=True,
            stderr=output,
            **{"stdin": subprocess.DEVNULL, "stdout": output, **pipes},
        )


def living(group: int) -> list[int]:
    """Return the ids of a process group's processes; a zombie has ended and is none of them."""
    import psutil  # here, because a runtime's own environment has none

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def end(process: subprocess.Popen[str], patience_s: float = 10.0) -> None:
    """End a child of `start`: SIGTERM, some patience; then SIGKILL for what is left of its group.

    Nothing of it runs on return. Raises UserError when the kernel does not end a process.
    """
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    until = time.monotonic() + patience_s
    while left := living(process.pid):
        if time.monotonic() > until:
            raise UserError(
                f"The processes {left} do not end, not even by SIGKILL. Expected none to be left. "
                "They wait for a device or a disk; look at it before measuring again."
            )
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    process.wait()


def ending(returncode: int) -> str:
    """Return in words how a process ended, from the return code of `subprocess`."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"


def died(label: str, model: str, how: str, log: Path) -> UserError:
    """Return the error for a runtime that ended while it was needed; `how` is from `ending`."""
    remedies = dict.fromkeys(text for name, text in REMEDIES.items() if name in how)
    said = f" {' Or else: '.join(remedies)}" if remedies else f" Its last words: {tail(log)}."
    return UserError(
        f"{label} {how} while it ran {model}. Expected it to run until it is stopped.{said} "
        f"Its log is {log}."
    )


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(port: int, label: str) -> None:
    """Raise UserError when a configured port of the loopback interface is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"Port {port}, configured for {label}, cannot be had ({error.strerror}). Expected "
                "a free port. Stop what uses it, or take the option away to have one chosen."
            ) from error


def tail(log: Path, lines: int = 3) -> str:
    """Return the last lines of a log, for an error message."""
    if not log.exists():
        return "nothing"
    return " | ".join(log.read_text(errors="replace").splitlines()[-lines:]) or "nothing"


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Poll until `ready()`; return False when the time is over first."""
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True
