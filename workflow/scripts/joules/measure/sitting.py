"""One sitting at this machine: the workflow that a run belongs to, and ends with."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import psutil

from joules.core.files import write_atomic
from joules.machine import identity, machine_state

PROGRAM = "snakemake"
INNER_MODES = ("subprocess", "remote")  # of a Snakemake that another one started for a job
# What a batch system calls the job that it runs: Slurm, PBS, LSF.
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
LOOK_S = 1.0
PUTTING_AWAY_S = 60.0  # that an end which has begun may take, before a further signal breaks in
FIRST_TEMPERATURES = "first_temperatures.txt"  # in the journal, one line per sitting
NO_SENSOR = "none"


class Workflow(NamedTuple):
    """The process of a workflow: its id and its start, in clock ticks since boot."""

    pid: int
    ticks: int | None


def _is_inner(arguments: Sequence[str]) -> bool:
    modes = dict(zip(arguments, arguments[1:], strict=False))
    return modes.get("--mode") in INNER_MODES


def workflow_process() -> Workflow:
    """Return the workflow above this process; this process itself when there is none.

    It is the nearest Snakemake that no other one started for a job. A Snakemake further up runs a
    workflow of its own, of which this one may be a step. On a node of a cluster there is but the
    one that was started for the job.
    """
    chosen = os.getpid()
    process = psutil.Process()
    # Not `parents()`, which compares times of start by a clock that can be set.
    with contextlib.suppress(psutil.Error):
        while (pid := process.ppid()) > 0:
            process = psutil.Process(pid)
            arguments = process.cmdline()
            if not identity.runs_program(arguments, PROGRAM):
                continue
            if not _is_inner(arguments):
                return Workflow(pid, identity.start_ticks(pid))
            chosen = pid
    return Workflow(chosen, identity.start_ticks(chosen))


def session_id() -> str:
    """Return what this sitting at this machine is called: boot id and start of the workflow.

    The start is in clock ticks since boot, which a step of the wall clock does not move. A job of a
    batch system adds its id.
    """
    job = next((os.environ[name] for name in JOB_VARIABLES if os.environ.get(name)), None)
    named = f"{identity.boot_id()}/{workflow_process().ticks}"
    return f"{named}/{job}" if job else named


class _Leaving:
    """Signals that end this process, as an exit that puts away what it has begun.

    A terminal that is gone sends one to this process and to its workflow, whose end sends another.
    The further ones must not break into the putting away, or a folder or a server is left behind.
    """

    def __init__(self) -> None:
        self._began_s = -PUTTING_AWAY_S

    def take(self, number: int, frame: FrameType | None) -> None:
        """Leave, unless that has begun lately."""
        if time.monotonic() - self._began_s < PUTTING_AWAY_S:
            return
        self._began_s = time.monotonic()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


def end_with_workflow() -> None:
    """End this process, its runtime first, when the workflow's process ends, however it ends.

    A kill of the workflow must leave no server and no half measurement behind. SIGTERM, and SIGHUP
    of a terminal or connection that is gone, become an ordinary exit, so that context managers
    stop the runtime and remove their folders; Ctrl-C is one already. `nohup` stays in force.
    """
    leaving = _Leaving()
    signal.signal(signal.SIGTERM, leaving.take)
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leaving.take)
    owner = workflow_process()
    if owner.pid != os.getpid():
        threading.Thread(
            target=_watch, args=(owner,), name="end-with-workflow", daemon=True
        ).start()


def _watch(owner: Workflow) -> None:
    """Wait for the end of a workflow, then end this process: again, where that was not heeded."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(owner.pid)
            if identity.start_ticks(owner.pid) == owner.ticks:
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll()
    while identity.start_ticks(owner.pid) == owner.ticks:
        time.sleep(LOOK_S)
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PUTTING_AWAY_S)


def first_temperature_c(journal: Path, session: str) -> float | None:
    """Return the processor's temperature when this sitting began: read once, kept in the journal.

    None where there is no sensor.
    """
    file = journal / FIRST_TEMPERATURES
    lines = file.read_text().splitlines() if file.exists() else []
    kept = dict(line.split(" ", 1) for line in lines)
    if session not in kept:
        temperature_c = machine_state.package_temperature()
        kept[session] = NO_SENSOR if temperature_c is None else f"{temperature_c:.1f}"
        write_atomic(file, "".join(f"{each} {seen}\n" for each, seen in kept.items()))
    return None if kept[session] == NO_SENSOR else float(kept[session])
