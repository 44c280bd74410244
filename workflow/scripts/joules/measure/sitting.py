"""One sitting at this machine: the workflow that a run belongs to, and ends with."""

import contextlib
import os
import select
import signal
import threading
from pathlib import Path

import psutil


def workflow_process() -> psutil.Process:
    """Return the outermost Snakemake above this process; this process itself when there is none."""
    me = psutil.Process()
    for ancestor in reversed(me.parents()):
        with contextlib.suppress(psutil.Error):
            if any(Path(part).name == "snakemake" for part in ancestor.cmdline()[:3]):
                return ancestor
    return me


def session_id() -> str:
    """Return what this sitting at this machine is called: boot id and start of the workflow."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip() if boot.exists() else str(int(psutil.boot_time()))
    return f"{boot_id}/{workflow_process().create_time():.2f}"


def end_with_workflow() -> None:
    """End this process, its runtime first, when the workflow's process ends, however it ends.

    A kill of the workflow must leave no server and no half measurement behind. SIGTERM becomes an
    ordinary exit, so that context managers stop the runtime.
    """

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    owner = workflow_process()
    if owner.pid == os.getpid() or not hasattr(os, "pidfd_open"):
        return
    handle = os.pidfd_open(owner.pid)

    def watch() -> None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-workflow", daemon=True).start()
