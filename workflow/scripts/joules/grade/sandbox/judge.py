"""The judge's side of the sandbox: runs a test against a program that lives in another process.

Loaded inside the sandbox: standard library only.
"""

import array
import builtins
import functools
import os
import random
import select
import signal
import socket
import struct
import time
from collections.abc import Sequence
from types import CodeType
from typing import Any, NamedTuple, TypedDict

from joules.grade.sandbox import plain_data

READY = b"confined"
WITH_SCRATCH = READY + b", with a scratch folder"
FORK, KILL, WAIT = b"F", b"K", b"W"
ENDED = struct.Struct("=idq?i")
WEAK_SEED = 0  # of gradings before there was a nonce
START_S = 10.0


class StartMessage(TypedDict):
    """What a worker is told first. `parent` is 0 where it has a name space of its own.

    It stays on `core`, where one is named.
    """

    landlock_abi: int
    memory_bytes: int
    cpu_s: float
    parent: int
    numpy: str | None
    core: int | None


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


class Ended(NamedTuple):
    """What the zygote answers: what an ended solver leaves behind, and the process id of a new one.

    `status` is of wait(2), and 0 where the solver still had to be killed; `worn` tells whether
    files of it are left in the scratch folder; `solver` is 0 where none was forked.
    """

    status: int
    cpu_s: float
    max_rss_bytes: int
    worn: bool
    solver: int


def message_of(entry_point: str, program: str) -> bytes:
    """Return all that a solver is told of a job."""
    return f"{entry_point}\n{program}".encode("utf-8", "surrogatepass")


def program_of(message: bytes) -> tuple[str, str]:
    """Return entry point and program of such a message."""
    entry_point, _, program = message.decode("utf-8", "surrogatepass").partition("\n")
    return entry_point, program


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

    def __init__(self, link: socket.socket, order: bytes = FORK) -> None:
        """Have the zygote fork a solver; `order` may be to end the one before it first.

        Where that one left files behind, none is forked, and `ended` says so.
        """
        self.link = link
        self.cpu_s = self.wall_s = START_S
        self.incoming = b""
        self.defined = False
        self.stopped: Stopped | None = None
        self.raised = ""
        self.inert: set[str] = set()
        solver_end, self.requests = os.pipe()
        self.answers, answer_end = os.pipe()
        self.can_read, self.can_write = select.poll(), select.poll()
        self.can_read.register(self.answers, select.POLLIN)
        self.can_write.register(self.requests, select.POLLOUT)
        for descriptor in (self.requests, self.answers):
            os.set_blocking(descriptor, False)
        try:
            self.ended = ask_zygote(link, order, [solver_end, answer_end])
        finally:
            os.close(solver_end)
            os.close(answer_end)
        self.start = time.perf_counter()
        self.clock = ((~self.ended.solver) << 3) | 2
        if not self.ended.solver:
            os.close(self.requests)
            os.close(self.answers)

    def _used_cpu_s(self) -> float:
        try:
            return time.clock_gettime(self.clock)
        except OSError:
            return 0.0

    def _wait(self, for_what: select.poll) -> None:
        """Wait for the pipe. Raises Stopped when CPU time (decides) or wall time (guards) is up."""
        while True:
            wall = self.start + self.wall_s - time.perf_counter()
            cpu = self.cpu_s - self._used_cpu_s()
            if cpu <= 0:
                raise Stopped("timeout", "cpu")
            if wall <= 0:
                raise Stopped("timeout", "wall")
            if for_what.poll(1000 * min(wall, max(cpu, 0.002))):
                return

    def _read(self, size: int) -> bytes:
        """Return the next `size` bytes of the answers, keeping what came with them."""
        while len(self.incoming) < size:
            self._wait(self.can_read)
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
                self._wait(self.can_write)
            except BrokenPipeError:
                raise Stopped("died", "") from None

    def define(self, job: JobMessage) -> None:
        """Send the program; it is being defined while the test runs to its first call."""
        try:
            ready = self.receive()
        except Stopped as stopped:
            raise HarnessError("a solver did not start") from stopped
        if ready != READY:
            raise HarnessError("a solver could not confine itself")
        self.cpu_s, self.wall_s = job["cpu_s"], job["wall_s"]
        self.start = time.perf_counter()
        self.send(message_of(job["entry_point"], job["program"]))

    def await_definition(self) -> None:
        """Wait until the program is defined, where nobody has. Raises Stopped when that fails."""
        if self.defined or self.stopped is not None:
            return
        self.defined = True
        try:
            answer = self.receive()
            kind, text = answer[:1], answer[1:].decode("ascii", "replace")
            if kind != b"R":
                verdict = {b"S": "syntax", b"M": "memory"}.get(kind, "failed")
                raise Stopped(verdict, "" if kind == b"M" else text)
        except Stopped as stopped:
            self.stopped = stopped
            raise

    def _ask(self, arguments: tuple[Any, ...]) -> bytes:
        """Send the arguments of a call and return the answer to it."""
        if self.defined:
            self.send(plain_data.dumps(arguments))
            return self.receive()
        try:
            self.send(plain_data.dumps(arguments))
        except Stopped as stopped:
            # What became of its definition says more than a pipe that it has closed.
            if stopped.verdict == "died":
                self.await_definition()
            raise
        self.await_definition()
        return self.receive()

    def call(self, *arguments: Any) -> Any:
        """Call the program's function; this is the `candidate` that a test receives."""
        if self.stopped is not None:
            raise self.stopped
        try:
            answer = self._ask(arguments)
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

    def end(self, died: bool, more: bool) -> tuple[Ended, "Session | None"]:
        """Have the solver killed; return what it leaves, and the next session where there is one.

        The status counts only where the solver `died`. The zygote forks the next solver in the
        same breath where `more` is asked for, and nothing is left of this one.
        """
        if died:  # one that still waits for a call then sees the end, and ends
            os.close(self.requests)
        order = WAIT if died else KILL
        try:
            if more:
                successor = Session(self.link, order)
                return successor.ended, successor if successor.ended.solver else None
            return ask_zygote(self.link, order), None
        finally:
            os.close(self.answers)
            if not died:
                os.close(self.requests)


def ask_zygote(link: socket.socket, order: bytes, pipes: Sequence[int] = ()) -> Ended:
    """Give the zygote an order, with the pipe ends of a solver to fork; return its answer."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", pipes))] if pipes else []
    try:
        link.sendmsg([order], rights)
        return Ended(*ENDED.unpack(link.recv(ENDED.size)))
    except (OSError, struct.error) as error:
        raise HarnessError("the zygote is gone") from error


@functools.lru_cache(maxsize=512)
def compiled(source: str) -> CodeType:
    """Return the code of a test or its header: many programs are judged by the same one."""
    return compile(source, "<test>", "exec", dont_inherit=True)


def judge(session: Session, job: JobMessage) -> tuple[VerdictMessage, Session | None]:
    """Run one program against its test.

    Returns the verdict with its reason and its costs, and the session of the next job, if any.
    """
    names: dict[str, Any] = {"__name__": "judge"}
    random.seed(WEAK_SEED if job["nonce"] is None else job["nonce"])
    try:
        exec(compiled(job["header"]), names)
        exec(compiled(job["test"]), names)
        check = names["check"]
    except Exception as error:
        raise HarnessError(f"the test itself cannot be run: {type(error).__name__}") from error
    names[job["entry_point"]] = session.call
    try:
        session.define(job)
        signal.setitimer(signal.ITIMER_REAL, job["wall_s"] + 1)
        try:
            check(session.call)
        finally:  # a program that was not called has to be one, too
            session.await_definition()
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
    ended, successor = session.end(verdict == "died", job["more"])
    if verdict == "died" and os.WIFSIGNALED(ended.status):
        number = os.WTERMSIG(ended.status)
        verdict, reason = "crashed", signal.Signals(number).name
        if number == signal.SIGXCPU:
            verdict, reason = "timeout", "cpu"
    elif verdict == "died":
        verdict, reason = "failed", "ended without an answer"
    if ended.cpu_s >= job["cpu_s"] and verdict in ("passed", "crashed", "failed"):
        verdict, reason = "timeout", "cpu"
    said: VerdictMessage = {
        "id": job["id"],
        "verdict": verdict,
        "reason": ascii(reason)[1:-1][:160],
        "cpu_s": ended.cpu_s,
        "wall_s": time.perf_counter() - session.start,
        "max_rss_bytes": ended.max_rss_bytes,
        "worn": ended.worn,
    }
    return said, successor


def out_of_time(number: int, frame: object) -> None:
    """Handle SIGALRM: a test spins on what the program answered."""
    raise Stopped("timeout", "wall")
