"""Workers of the sandbox as this side sees them: start, send a job, receive a verdict, end."""

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from joules.core.errors import UserError
from joules.core.grade_file import VerdictName
from joules.grade.sandbox import launch
from joules.grade.sandbox.judge import JobMessage, StartMessage
from joules.inputs.humaneval import Problem

JOBS_PER_WORKER = 1000
JOBS_TO_START = 40  # graded while a worker starts, at least
GRACE_S = 20.0


@dataclass(frozen=True)
class Limits:
    """What one program may use. CPU time decides `timeout`; wall time guards against sleeping."""

    cpu_s: float = 3.0
    wall_s: float = 10.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class Job:
    """One program to grade. `program` is its source, or None when the model gave no code.

    `header` is what the test needs beside the program: imports and helpers of the prompt.
    `cpu_s`, where given, replaces the limit of CPU time.
    """

    id: str
    entry_point: str
    header: str
    test: str
    program: str | None
    cpu_s: float | None = None

    @classmethod
    def of(cls, problem: Problem, program: str | None, id: str | None = None) -> "Job":
        """Return the job that tests `program` against a HumanEval problem."""
        return cls(
            id or problem.task_id, problem.entry_point, problem.header, problem.test, program
        )


@dataclass(frozen=True)
class Verdict:
    """The outcome of one job, why, and what it used; a `worn` worker takes no further job."""

    id: str
    verdict: VerdictName
    reason: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    max_rss_bytes: int = 0
    worn: bool = False


@dataclass(frozen=True)
class _Answer:
    """What a worker says; see `joules.grade.sandbox.judge.AnswerMessage`."""

    error: str
    scratch: bool
    verdict: Verdict | None


# Functions of C libraries are looked up once, by the process that the others are forked from.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",
    "MALLOC_ARENA_MAX": "1",
    "LD_BIND_NOW": "1",
}
BROKE_ITS_SANDBOX = "sandbox"
_CONTROL = Job(
    "control", "f", "", "def check(f):\n    assert f() == 1\n", "def f():\n    return 1\n"
)


class WorkerLost(Exception):
    """A worker could not start, ended, or did not answer in time."""


@dataclass
class Setup:
    """How workers are started on this machine; `own_view` lets them mount a scratch folder.

    Where `cores` are given, a worker stays on the one that has the fewest: its processes hand work
    to each other many times a program, and waking another core takes longer than a usual call.
    """

    landlock_abi: int
    bubblewrap: str | None
    limits: Limits
    own_view: bool = True
    cores: tuple[int, ...] = ()
    idle: list["_Worker"] = field(default_factory=list)
    on_core: Counter[int] = field(default_factory=Counter)

    def start(self, count: int) -> None:
        """Start workers until `count` wait for a job, without waiting until they are ready."""
        while len(self.idle) < count:
            self.idle.append(_Worker(self))

    def worker(self) -> "_Worker":
        """Return a worker that waits for a job. Raises WorkerLost when none can be started."""
        worker = self.idle.pop() if self.idle else _Worker(self)
        worker.wait_until_confined()
        return worker

    def close(self) -> None:
        """End the workers that wait, all at once."""
        for worker in self.idle:
            worker.strike()
        while self.idle:
            self.idle.pop().close()


class _Worker:
    """One running judge with its zygote."""

    def __init__(self, setup: Setup, core: int | None = None) -> None:
        """Start the processes, on a `core` where one is given or `setup` has some."""
        self.setup = setup
        self.core = core
        if core is None and setup.cores:
            self.core = min(setup.cores, key=lambda each: setup.on_core[each])
        if self.core is not None:
            setup.on_core[self.core] += 1
        self.confined = self.scratch = False
        self.jobs_done = 0
        self.deadline = 0.0
        self.incoming = b""
        command, held = launch.command_of(setup.bubblewrap, setup.own_view)
        self.process = subprocess.Popen(
            command,
            pass_fds=[held],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.input, self.output = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.output, False)
        start: StartMessage = {
            "landlock_abi": setup.landlock_abi,
            "memory_bytes": setup.limits.memory_bytes,
            "cpu_s": setup.limits.cpu_s,
            "parent": os.getpid() if setup.bubblewrap is None else 0,
            "numpy": launch.numpy_folder(),
            "core": self.core,
        }
        with contextlib.suppress(WorkerLost):  # told by what the worker says, or does not say
            self.send(start, 30)

    def wait_until_confined(self) -> None:
        """Wait until judge and zygote are confined. Raises WorkerLost."""
        if self.confined:
            return
        try:
            answer = None
            while answer is None:
                select.select([self.output], [], [], max(0.0, self.deadline - time.monotonic()))
                answer = self.receive()
        except WorkerLost as lost:
            self.kill()
            assert self.process.stderr
            said = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise WorkerLost(said[-1][:300] if said else str(lost)) from None
        if answer.error:
            self.close()
            raise WorkerLost(answer.error)
        self.confined, self.scratch = True, answer.scratch

    def send(self, message: StartMessage | JobMessage, seconds: float) -> None:
        """Send one message; an answer is due within `seconds`. Raises WorkerLost."""
        self.deadline = time.monotonic() + seconds
        data = json.dumps(message).encode("ascii")
        data = struct.pack("I", len(data)) + data
        try:
            while data:
                data = data[os.write(self.input, data) :]
        except OSError as error:
            raise WorkerLost("the worker ended") from error

    def receive(self) -> _Answer | None:
        """Return the answer if it is complete, else None. Raises WorkerLost."""
        try:
            chunk = os.read(self.output, 1 << 16)
            if not chunk:
                raise WorkerLost("the worker ended")
            self.incoming += chunk
        except BlockingIOError:
            pass
        if len(self.incoming) >= 4:
            end = 4 + struct.unpack("I", self.incoming[:4])[0]
            if len(self.incoming) >= end:
                said, self.incoming = self.incoming[4:end], self.incoming[end:]
                try:
                    return msgspec.json.decode(said, type=_Answer)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise WorkerLost(f"the worker's answer is none: {error}") from error
        if time.monotonic() > self.deadline:
            raise WorkerLost("the worker did not answer in time")
        return None

    def strike(self) -> None:
        """Kill judge and zygote, without waiting; a solver dies with its zygote."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill judge and zygote, and wait until they are gone."""
        self.strike()
        self.process.wait()

    def close(self) -> None:
        """End the processes and close the pipes."""
        self.kill()
        if self.core is not None:
            self.setup.on_core[self.core] -= 1
            self.core = None
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def run(
    setup: Setup,
    jobs: Sequence[Job],
    workers: int,
    limits: Limits,
    nonce: str | None = None,
    ours: bool = False,
) -> list[Verdict]:
    """Grade `jobs` on up to `workers` workers; `nonce` seeds what their tests draw.

    Programs of `ours` take away what they wrote, so their workers are used on. A job whose worker
    was lost is tried once more, with nothing beside it.
    """
    setup.start(min(workers, len(jobs)))
    waiting = [index for index, job in enumerate(jobs) if job.program is not None]
    waiting.reverse()
    verdicts = [Verdict(job.id, "no_code") for job in jobs]
    busy: dict[_Worker, int] = {}
    suspects: list[int] = []
    try:
        while waiting or busy or suspects:
            if suspects and not busy:
                index = suspects.pop()
                verdicts[index] = _tried_again(setup, jobs[index], limits, nonce)
            while waiting and not suspects and len(busy) < max(1, workers):
                try:
                    worker = setup.worker()
                except WorkerLost:
                    if not busy:
                        raise
                    break  # a running program may use up what a new worker needs
                index = waiting.pop()
                busy[worker] = index
                more = len(waiting) >= workers and worker.jobs_done + 1 < JOBS_PER_WORKER
                _submit(worker, jobs[index], limits, nonce, more)
            ready = (
                select.select([worker.output for worker in busy], [], [], 1.0)[0] if busy else []
            )
            for worker in list(busy):
                if worker.output not in ready and time.monotonic() < worker.deadline:
                    continue
                try:
                    answer = worker.receive()
                except WorkerLost as lost:
                    answer = _Answer(str(lost), False, None)
                if answer is None:
                    continue
                index = busy.pop(worker)
                worker.jobs_done += 1
                if answer.verdict is None:
                    worker.close()
                    suspects.append(index)
                    continue
                verdicts[index] = answer.verdict
                if worker.jobs_done == JOBS_PER_WORKER - JOBS_TO_START and waiting:
                    setup.idle.insert(0, _Worker(setup, worker.core))  # ready when needed
                if worker.jobs_done < JOBS_PER_WORKER and (ours or not answer.verdict.worn):
                    setup.idle.append(worker)
                    continue
                worker.close()
                if answer.verdict.worn and waiting:
                    setup.idle.insert(0, _Worker(setup, worker.core))
    finally:
        for worker in busy:
            worker.close()
    return verdicts


def _tried_again(setup: Setup, job: Job, limits: Limits, nonce: str | None) -> Verdict:
    """Grade a job whose worker was lost, alone; it is to blame where only its sandbox fails.

    Raises UserError where the sandbox fails for a harmless program too.
    """
    try:
        return _alone(setup, job, limits, nonce)
    except WorkerLost as lost:
        reason = str(lost)
    try:
        sound = _alone(setup, _CONTROL, limits, nonce).verdict == "passed"
    except WorkerLost as lost:
        raise UserError(_harness_message(job.id, reason)) from lost
    if not sound:
        raise UserError(_harness_message(job.id, reason))
    return Verdict(job.id, "crashed", BROKE_ITS_SANDBOX)


def _alone(setup: Setup, job: Job, limits: Limits, nonce: str | None) -> Verdict:
    """Grade one job on a new worker while there is no other. Raises WorkerLost."""
    setup.close()
    worker = setup.worker()
    try:
        _submit(worker, job, limits, nonce, more=False)
        answer = None
        while answer is None:
            select.select([worker.output], [], [], max(0.0, worker.deadline - time.monotonic()))
            answer = worker.receive()
        if answer.verdict is None:
            raise WorkerLost(answer.error)
        return answer.verdict
    finally:
        worker.close()


def _submit(worker: _Worker, job: Job, limits: Limits, nonce: str | None, more: bool) -> None:
    """Send a job; `more` says that another one follows."""
    assert job.program is not None
    message: JobMessage = {
        "id": job.id,
        "entry_point": job.entry_point,
        "header": job.header,
        "test": job.test,
        "program": job.program,
        "nonce": nonce,
        "cpu_s": limits.cpu_s if job.cpu_s is None else job.cpu_s,
        "wall_s": limits.wall_s,
        "more": more,
    }
    with contextlib.suppress(WorkerLost):
        worker.send(message, limits.wall_s + GRACE_S)


def _harness_message(job: str, reason: str) -> str:
    return (
        f"The sandbox failed twice while it graded {job} ({reason}). A verdict was expected. "
        "This says nothing about the program, so nothing is counted. Check free memory and "
        "processes, then run the same command again."
    )
