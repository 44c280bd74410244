"""The judge's side of the sandbox: runs a test against a program that lives in another process.

Loaded inside the sandbox: standard library only.
"""

import array
import builtins
import json
import os
import random
import select
import signal
import socket
import struct
import time
from typing import Any, TypedDict

from joules.grade.sandbox import plain_data

READY = b"confined"
WITH_SCRATCH = READY + b", with a scratch folder"
KILL, WAIT = b"K", b"W"
ENDED = struct.Struct("=idq?")
WEAK_SEED = 0  # of gradings before there was a nonce
START_S = 10.0


class StartMessage(TypedDict):
    """What a worker is told first. `parent` is 0 where it has a name space of its own."""

    landlock_abi: int
    memory_bytes: int
    cpu_s: float
    parent: int
    numpy: str | None


class JobMessage(TypedDict):
    """One program to judge, and its limits; `more` says that another job follows.

    `nonce` seeds what the test draws. Only the judge has it, so no program can draw the same.
    """

    id: str
    entry_point: str
    header: str
    test: str
    program: str
    nonce: str | None
    cpu_s: float
    wall_s: float
    more: bool


class VerdictMessage(TypedDict):
    """The outcome of one job, why, and what it used; `worn` says that it left files behind."""

    id: str
    verdict: str
    reason: str
    cpu_s: float
    wall_s: float
    max_rss_bytes: int
    worn: bool


class AnswerMessage(TypedDict):
    """What a worker answers: an error of its own, or a verdict; neither once it is confined.

    `scratch` tells whether its programs have a scratch folder.
    """

    error: str
    scratch: bool
    verdict: VerdictMessage | None


class ProgramMessage(TypedDict):
    """All that a solver is told of a job."""

    program: str
    entry_point: str


class HarnessError(BaseException):
    """The sandbox itself failed; says nothing about the program."""


class Stopped(BaseException):
    """The program used up its time, ended, or broke the protocol: no more calls are possible."""

    def __init__(self, verdict: str, reason: str) -> None:
        """Keep the verdict and its reason."""
        super().__init__(reason)
        self.verdict, self.reason = verdict, reason


class Raised(Exception):
    """The program raised an exception that is not a built-in one."""


class Session:
    """One program under test: calls go out, plain data comes back, within the time limits.

    The solver is forked and confines itself while this side does other things; `define` waits.
    """

    def __init__(self, link: socket.socket) -> None:
        """Have the zygote fork a solver."""
        self.link = link
        self.cpu_s = self.wall_s = START_S
        self.start = time.perf_counter()
        self.incoming = b""
        self.stopped: Stopped | None = None
        self.raised = ""
        self.inert: set[str] = set()
        solver_end, self.requests = os.pipe()
        self.answers, answer_end = os.pipe()
        for descriptor in (self.requests, self.answers):
            os.set_blocking(descriptor, False)
        rights = array.array("i", [solver_end, answer_end])
        try:
            link.sendmsg([b"F"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            self.solver = struct.unpack("=i", link.recv(4))[0]
        except (OSError, struct.error) as error:
            raise HarnessError("the zygote is gone") from error
        finally:
            os.close(solver_end)
            os.close(answer_end)
        self.clock = ((~self.solver) << 3) | 2

    def _used_cpu_s(self) -> float:
        try:
            return time.clock_gettime(self.clock)
        except OSError:
            return 0.0

    def _wait(self, reading: bool) -> None:
        """Wait for the pipe. Raises Stopped when CPU time (decides) or wall time (guards) is up."""
        while True:
            wall = self.start + self.wall_s - time.perf_counter()
            cpu = self.cpu_s - self._used_cpu_s()
            if cpu <= 0:
                raise Stopped("timeout", "cpu")
            if wall <= 0:
                raise Stopped("timeout", "wall")
            pipes = ([self.answers], []) if reading else ([], [self.requests])
            if any(select.select(*pipes, [], min(wall, max(cpu, 0.002)))):
                return

    def _read(self, size: int) -> bytes:
        """Return the next `size` bytes of the answers, keeping what came with them."""
        while len(self.incoming) < size:
            self._wait(reading=True)
            try:
                chunk = os.read(self.answers, plain_data.MAX_BYTES)
            except BlockingIOError:
                continue
            if not chunk:
                raise Stopped("died", "")
            self.incoming += chunk
        data, self.incoming = self.incoming[:size], self.incoming[size:]
        return data

    def receive(self) -> bytes:
        """Return the solver's next message."""
        size = struct.unpack("I", self._read(4))[0]
        if not 1 <= size <= plain_data.MAX_BYTES + 1:
            raise Stopped("failed", "broken answer")
        return self._read(size)

    def send(self, data: bytes) -> None:
        """Send one message to the solver."""
        data = struct.pack("I", len(data)) + data
        while data:
            try:
                data = data[os.write(self.requests, data[:65536]) :]
            except BlockingIOError:
                self._wait(reading=False)
            except BrokenPipeError:
                raise Stopped("died", "") from None

    def define(self, job: JobMessage) -> None:
        """Send the program and wait until it is defined. Raises Stopped when that fails."""
        try:
            ready = self.receive()
        except Stopped as stopped:
            raise HarnessError("a solver did not start") from stopped
        if ready != READY:
            raise HarnessError("a solver could not confine itself")
        self.cpu_s, self.wall_s = job["cpu_s"], job["wall_s"]
        self.start = time.perf_counter()
        program: ProgramMessage = {"program": job["program"], "entry_point": job["entry_point"]}
        self.send(json.dumps(program).encode("ascii"))
        answer = self.receive()
        kind, text = answer[:1], answer[1:].decode("ascii", "replace")
        if kind != b"R":
            verdict = {b"S": "syntax", b"M": "memory"}.get(kind, "failed")
            raise Stopped(verdict, "" if kind == b"M" else text)

    def call(self, *arguments: Any) -> Any:
        """Call the program's function; this is the `candidate` that a test receives."""
        if self.stopped is not None:
            raise self.stopped
        try:
            self.send(plain_data.dumps(arguments))
            answer = self.receive()
            if answer[:1] == b"M":
                raise Stopped("memory", "")
            if answer[:1] not in (b"V", b"E"):
                raise Stopped("failed", "broken answer")
        except Stopped as stopped:
            self.stopped = stopped
            raise
        if answer[:1] == b"E":
            self.raised = answer[1:].decode("ascii", "replace")
            kind = getattr(builtins, self.raised, Raised)
            plain = isinstance(kind, type) and issubclass(kind, Exception)
            raise kind() if plain else Raised(self.raised)
        try:
            return plain_data.loads(answer[1:], self.inert)
        except plain_data.NotPlain as error:
            self.stopped = Stopped("failed", "broken answer")
            raise self.stopped from error

    def end(self, died: bool) -> tuple[int, float, int, bool]:
        """Have the solver killed; return wait status, CPU time in s, peak memory in bytes.

        The last value tells whether files of it are left in the scratch folder. The status
        counts only where the solver `died`, and is 0 where it still had to be killed.
        """
        if died:  # one that still waits for a call then sees the end, and ends
            os.close(self.requests)
        try:
            self.link.sendall(WAIT if died else KILL)
            return ENDED.unpack(self.link.recv(ENDED.size))
        except (OSError, struct.error) as error:
            raise HarnessError("the zygote is gone") from error
        finally:
            os.close(self.answers)
            if not died:
                os.close(self.requests)


def judge(session: Session, job: JobMessage) -> VerdictMessage:
    """Run one program against its test. Returns the verdict with its reason and its costs."""
    names: dict[str, Any] = {"__name__": "judge"}
    random.seed(WEAK_SEED if job["nonce"] is None else job["nonce"])
    try:
        exec(job["header"], names)
        exec(job["test"], names)
        check = names["check"]
    except Exception as error:
        raise HarnessError(f"the test itself cannot be run: {type(error).__name__}") from error
    names[job["entry_point"]] = session.call
    try:
        session.define(job)
        signal.setitimer(signal.ITIMER_REAL, job["wall_s"] + 1)
        check(session.call)
        verdict, reason = "passed", ""
    except Stopped as stopped:
        verdict, reason = stopped.verdict, stopped.reason
    except MemoryError:
        verdict, reason = "failed", "broken answer"
    except Exception as error:
        verdict, reason = "failed", session.raised or type(error).__name__
        if session.inert and not session.raised:
            reason += f" with an object of {', '.join(sorted(session.inert))}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        names.clear()
    if session.stopped is not None:
        verdict, reason = session.stopped.verdict, session.stopped.reason
    status, cpu_s, max_rss_bytes, worn = session.end(verdict == "died")
    if verdict == "died" and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        verdict, reason = "crashed", signal.Signals(number).name
        if number == signal.SIGXCPU:
            verdict, reason = "timeout", "cpu"
    elif verdict == "died":
        verdict, reason = "failed", "ended without an answer"
    if cpu_s >= job["cpu_s"] and verdict in ("passed", "crashed", "failed"):
        verdict, reason = "timeout", "cpu"
    return {
        "id": job["id"],
        "verdict": verdict,
        "reason": ascii(reason)[1:-1][:160],
        "cpu_s": cpu_s,
        "wall_s": time.perf_counter() - session.start,
        "max_rss_bytes": max_rss_bytes,
        "worn": worn,
    }


def out_of_time(number: int, frame: object) -> None:
    """Handle SIGALRM: a test spins on what the program answered."""
    raise Stopped("timeout", "wall")
