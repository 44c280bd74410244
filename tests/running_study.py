"""What runs of a study's processes, for tests that kill it or that look for what it left behind."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from small_study import Tree

from joules.machine.processes import wait_until


def belonging(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Yield the processes that name a folder: by command, working folder or environment."""
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            command = " ".join(process.cmdline())
            places = [command, process.cwd(), *process.environ().values()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in p for p in places):
                yield process, command


def left_after(patience_s: float, folder: Path) -> list[tuple[psutil.Process, str]]:
    """Wait until no process belongs to a folder, so long at most; return those that still do."""
    wait_until(lambda: not any(belonging(folder)), patience_s)
    return list(belonging(folder))


def held_in_a_run(tree: Tree, workflow: subprocess.Popen[str]) -> psutil.Process:
    """Wait for a run, stop its measuring script while its runtime runs, and return the script.

    A record is written when its runtime has ended, so none is made until the script is resumed.
    """
    while workflow.poll() is None:
        with contextlib.suppress(psutil.Error):
            for script in psutil.Process(workflow.pid).children(recursive=True):
                if not " ".join(script.cmdline()).endswith(".measure.py"):
                    continue
                script.suspend()
                if _has_runtime(script):
                    return script
                script.resume()
        time.sleep(0.05)
    raise AssertionError(f"the workflow in {tree.folder} ended before a run was seen")


def _has_runtime(script: psutil.Process) -> bool:
    """Return whether a runtime, or what starts it and ends with it, runs below a script."""
    for child in script.children():
        with contextlib.suppress(psutil.Error):
            line = " ".join(child.cmdline())
            if "joules.runtimes.shared.worker" in line or "ollama serve" in line:
                return True
    return False
