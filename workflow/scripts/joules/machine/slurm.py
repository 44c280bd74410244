"""Slurm's job that this process runs in: which, on what node, alone there or not, how long yet.

Slurm itself is asked (`squeue`, `sinfo`), by formats of our own, since a job's name may hold any
words. What it does not answer is unknown, with the reason. Standard library and msgspec only.
"""

import dataclasses
import math
import os
import re
import subprocess
import time
from collections.abc import Mapping

from joules.core.known import Known, Unknown, known
from joules.core.machine_facts import Allocation, StepEnergy

JOB, END_TIME = "SLURM_JOB_ID", "SLURM_JOB_END_TIME"
NODE, PARTITION = "SLURMD_NODENAME", "SLURM_JOB_PARTITION"
ARRAY, TASK = "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"
STEP = "SLURM_STEP_ID"
# sstat(1) calls these steps by name. A batch script has no number, or that of slurm.h.
STEPS_BY_NAME = {"": "batch", "4294967291": "batch", "4294967290": "interactive"}
# squeue(1): id, sharing, CPUs, time left, time limit. An array's first task has the array's id, by
# which squeue lists all of its tasks.
COLUMNS = "%A|%h|%C|%L|%l"
ALONE = "NO"  # squeue(1) of %h: "if the job requires exclusive node access"
# What of the user's own would change what the commands print, or what a script asks for: sbatch
# lets its variables replace the lines of the script.
OF_COMMANDS = ("SQUEUE_", "SINFO_", "SBATCH_", "SLURM_TIME_FORMAT")
OF_SITE = (  # these say whose job it is and where it may run, and stay
    *("SBATCH_ACCOUNT", "SBATCH_CLUSTERS", "SBATCH_CONSTRAINT", "SBATCH_PARTITION"),
    *("SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_WCKEY"),
)
PATIENCE_S = 30.0  # an overloaded controller answers late, or never
SHORT_PATIENCE_S = 5.0  # just before the tasks, a machine that waits cools down
# A job is told of its end so long before it, so that what runs can stop: see sbatch(1), --signal.
LONGEST_NOTICE_S, NOTICE_SHARE = 300.0, 0.1
EARLY_S = 60.0  # sbatch(1): "the signal may be sent up to 60 seconds earlier than specified"


@dataclasses.dataclass(frozen=True)
class Queued:
    """A job as squeue shows it.

    Attributes:
        sharing: whether others may share its nodes: NO, YES, USER, MCS or OK.
        cpus: logical CPUs of the job; None where it is no number.
        left_s: seconds until its time limit; None where squeue does not tell, infinite without one.
        limit_s: its time limit in seconds, likewise.
    """

    sharing: str
    cpus: int | None
    left_s: float | None
    limit_s: float | None


def job_id(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the id of the job that this process runs in; None where it runs in none."""
    return environment.get(JOB) or None


def seconds_of(text: str) -> float | None:
    """Return the seconds of Slurm's `days-hours:minutes:seconds`, whose front parts may be missing.

    Infinite for UNLIMITED; None for any other word.
    """
    if text == "UNLIMITED":
        return math.inf
    if not re.fullmatch(r"-?(?:\d+-)?\d+(?::\d+){1,2}", text):
        return None
    sign = -1 if text.startswith("-") else 1
    days, _, rest = text.lstrip("-").rpartition("-")
    total = 0
    for part in rest.split(":"):
        total = total * 60 + int(part)
    return float(sign * (total + 86400 * int(days or 0)))


def queued_of(text: str, job: str) -> Queued | None:
    """Return a job as lines of squeue in `COLUMNS` show it; None where they do not."""
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 5 and parts[0] == job:
            cpus = int(parts[2]) if parts[2].isdecimal() else None
            return Queued(parts[1], cpus, seconds_of(parts[3]), seconds_of(parts[4]))
    return None


def asked(*command: str, patience_s: float = PATIENCE_S) -> Known[str]:
    """Return what one of Slurm's commands prints; unknown where it fails, with its own words."""
    own = {k: v for k, v in os.environ.items() if k in OF_SITE or not k.startswith(OF_COMMANDS)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=own, timeout=patience_s, errors="replace"
        )
    except OSError as error:
        return Unknown(f"{command[0]} cannot be run ({error.strerror})")
    except subprocess.TimeoutExpired:
        return Unknown(f"{command[0]} did not answer within {patience_s:.0f} s")
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"status {done.returncode}"
        return Unknown(f"{command[0]} failed: {said}")
    return done.stdout


def queued(job: str) -> Known[Queued]:
    """Return a job as squeue shows it."""
    text = asked("squeue", "--noheader", f"--jobs={job}", f"--format={COLUMNS}")
    if isinstance(text, Unknown):
        return text
    return queued_of(text, job) or Unknown(f"squeue does not show job {job}")


def runs(job: str) -> Known[bool]:
    """Return whether a job is there and has not ended; unknown where Slurm does not answer."""
    text = asked("squeue", "--noheader", "--format=%A")
    return text if isinstance(text, Unknown) else job in text.split()


def submitted(script: str) -> Known[str]:
    """Submit a job script; return the job's id, or Slurm's own words where it takes none."""
    text = asked("sbatch", "--parsable", script)
    return text if isinstance(text, Unknown) else text.strip().partition(";")[0]


def node_cpus(node: str | None) -> int | None:
    """Return how many logical CPUs Slurm knows of a node; None where it does not tell."""
    if node is None:
        return None
    text = asked("sinfo", "--noheader", f"--nodes={node}", "--format=%c")
    told = [] if isinstance(text, Unknown) else text.split()
    return int(told[0]) if told and told[0].isdecimal() else None


def alone(seen: Known[Queued], cpus: int | None) -> tuple[bool | None, str]:
    """Return whether a job has its node for itself, None where unknown; and what that follows from.

    `cpus` are those of the node. A job with all of them is not alone by that: a partition may give
    a CPU to several jobs.
    """
    if isinstance(seen, Unknown):
        return None, seen.reason
    of = "" if cpus is None else f" of {cpus}"
    basis = f"OverSubscribe={seen.sharing}, {seen.cpus}{of} CPUs"
    return seen.sharing == ALONE, basis


def allocation(environment: Mapping[str, str] = os.environ) -> Allocation | None:
    """Return what Slurm gave the job that this process runs in; None outside a job."""
    job = job_id(environment)
    if job is None:
        return None
    node = environment.get(NODE) or None
    array, task = environment.get(ARRAY), environment.get(TASK)
    if node is None:  # as in the shell of salloc, which may be on the login node
        seen: Known[Queued] = Unknown(f"Slurm did not start this process on a node: no {NODE}")
    else:
        seen = queued(job)
    exclusive, basis = alone(seen, node_cpus(node))
    return Allocation(
        system="slurm",
        job=f"{array}_{task}" if array and task else job,
        node=node,
        partition=environment.get(PARTITION) or None,
        exclusive=exclusive,
        basis=basis,
    )


def step(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the step of a job that this process runs in, as sstat calls it; None outside a job."""
    job, number = job_id(environment), environment.get(STEP, "")
    return None if job is None else f"{job}.{STEPS_BY_NAME.get(number, number)}"


@dataclasses.dataclass(frozen=True)
class Count:
    """What Slurm had counted of a step's energy, and when it was read.

    Attributes:
        joules: of the node, since the step began. Slurm says 0 where it counts none.
        at_s: by the monotonic clock.
    """

    joules: Known[int]
    at_s: float


def count(environment: Mapping[str, str] = os.environ) -> Count | None:
    """Read `ConsumedEnergyRaw` of the step that this process runs in; None outside a job.

    sstat asks the node's own daemon for it, so that no accounting database is needed.
    """
    own = step(environment)
    if own is None:
        return None
    command = ("sstat", "--noheader", "--parsable2", f"--jobs={own}", "--format=ConsumedEnergyRaw")
    said = asked(*command, patience_s=SHORT_PATIENCE_S)
    if isinstance(said, Unknown):
        return Count(said, time.monotonic())
    word = said.strip()
    told = known(int(word) if word.isdecimal() else None, f"sstat tells no energy of step {own}")
    return Count(told, time.monotonic())


def step_energy(before: Count | None, after: Count | None) -> StepEnergy | None:
    """Return what Slurm counted between two readings; None where there was no job."""
    if before is None or after is None:
        return None
    passed_s = after.at_s - before.at_s
    first, last = before.joules, after.joules
    if isinstance(first, Unknown):
        return StepEnergy(joules=None, duration_s=passed_s, basis=first.reason)
    if isinstance(last, Unknown):
        return StepEnergy(joules=None, duration_s=passed_s, basis=last.reason)
    joules = last - first
    basis = f"ConsumedEnergyRaw of sstat: {first}, then {last}"
    if joules <= 0:  # no plug-in that counts (acct_gather_energy/none), or one that stands still
        return StepEnergy(joules=None, duration_s=passed_s, basis=f"{basis}: none was counted")
    return StepEnergy(joules=float(joules), duration_s=passed_s, basis=basis)


def notice_s(limit_s: float) -> float:
    """Return how long before its end a job of this time limit is told of it, in seconds."""
    return min(LONGEST_NOTICE_S, limit_s * NOTICE_SHARE)


def reserve_s(limit_s: float) -> float:
    """Return how long before its end a job of this time limit may be told of it at the earliest."""
    return notice_s(limit_s) + EARLY_S


def usable_s(environment: Mapping[str, str] = os.environ) -> Known[float] | None:
    """Return the seconds until the job may be told of its end; None outside a job.

    squeue is asked first: a limit may have been changed since the job was started.
    """
    job = job_id(environment)
    if job is None:
        return None
    seen = queued(job)
    if not isinstance(seen, Unknown) and seen.left_s is not None:
        return seen.left_s - reserve_s(seen.left_s if seen.limit_s is None else seen.limit_s)
    end = environment.get(END_TIME, "")
    if end.isdecimal():
        return int(end) - time.time() - LONGEST_NOTICE_S - EARLY_S
    return seen if isinstance(seen, Unknown) else Unknown(f"squeue tells no end of job {job}")
