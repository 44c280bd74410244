"""The inside of the sandbox: a judge that holds the tests, a zygote and one solver per program.

The judge forks the zygote before it reads any job, so neither the zygote nor the solvers forked
from it ever hold the text of a test. A solver confines itself, says so, and only then receives its
program, through a pipe of its own. It answers the judge's calls with plain data and is killed.
Started by `joules.grade.sandbox.launch`, in a Python that finds nothing else of joules; speaks
length-prefixed JSON on its standard streams. Standard library only.
"""

import array
import gc
import importlib
import importlib.util
import io
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
import types
import warnings
from typing import Any, NamedTuple

from joules.grade.sandbox import confinement, judge, plain_data, seccomp, semaphores

REQUESTS, ANSWERS = 3, 4
JUDGE_MEMORY_BYTES = 4 << 30
# What solutions often use is imported once, before the forks; the rest when a solution asks for it.
USUAL_MODULES = "bisect collections copy functools heapq itertools math operator re string typing"

# Of the size and kind of a usual answer.
REHEARSAL = '''
from typing import List, Tuple
import math

def helper(number):
    return [digit for digit in str(number) if digit.isdigit()]

def rehearsed(numbers: List[float], text: str = "") -> Tuple[float, str]:
    """ Take numbers and a text, and return a number and a text.
    >>> rehearsed([1.0, 2.0], "a")
    (3.0, "a")
    """
    total, seen = 0.0, {}
    for place, number in enumerate(numbers):
        for other in range(place + 1, len(numbers)):
            if abs(number - numbers[other]) < 0.5 and number not in seen:
                seen[number] = seen.get(number, 0) + 1
        total += math.floor(number)
    words = sorted(set(text.split()), key=lambda word: (len(word), word))
    while len(words) > 1:
        words.pop()
    try:
        return total + int("".join(helper(total))), "%s" % words[0]
    except (ValueError, IndexError):
        return total, text
'''


class Confinement(NamedTuple):
    """How judge and zygote confine themselves: the version of Landlock, and what stays open."""

    landlock_abi: int
    readable: list[str]
    listable: list[str]
    scratch: str | None = None


class Inherited(NamedTuple):
    """What the zygote makes once for all solvers: each of them then needs less time."""

    zygote: int
    scope: int | None
    limits: dict[int, tuple[int, int]]
    filter: seccomp.SolverFilter


def read_frame(descriptor: int, followed: bool = False) -> bytes | None:
    """Read one length-prefixed message, or None at the end of the stream.

    One message is sent at a time, so what comes with its head is its body; unless it may be
    `followed` by another one, which is then left in the pipe.
    """
    data = b""
    size = 4
    while len(data) < size:
        chunk = os.read(descriptor, size - len(data) if followed else 65536)
        if not chunk:
            return None
        data += chunk
        if len(data) >= 4:
            size = 4 + struct.unpack("I", data[:4])[0]
    return data[4:]


def write_frame(descriptor: int, data: bytes) -> None:
    """Write one length-prefixed message."""
    data = struct.pack("I", len(data)) + data
    while data:
        data = data[os.write(descriptor, data) :]


def confine(to: Confinement) -> None:
    """Confine this process for good; its children inherit it. Raises CannotConfine or OSError."""
    confinement.drop_capabilities()
    confinement.restrict_files(to.readable, to.listable, ["/dev/null"], to.landlock_abi, to.scratch)
    seccomp.install(seccomp.starter_filter(os.uname().machine, to.landlock_abi))


class NumpyFinder:
    """Finder on the meta path for numpy, and for no other package of the folder it lies in."""

    def __init__(self, folder: str) -> None:
        """Keep the folder of the package."""
        self.folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the import spec of numpy, None for other names."""
        if name != "numpy":
            return None
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each thread would reserve memory
        return importlib.util.spec_from_file_location(
            name, f"{self.folder}/__init__.py", submodule_search_locations=[self.folder]
        )


class Silence(io.TextIOBase):
    """Standard output of a solver: takes everything and keeps nothing."""

    def write(self, text: str, /) -> int:
        """Drop the text."""
        return len(text)

    def writable(self) -> bool:
        """Tell that writing works."""
        return True


class NoInput(io.TextIOBase):
    """Standard input of a solver: reading fails."""

    def read(self, size: int | None = -1, /) -> str:
        """Raise OSError."""
        raise OSError("there is no standard input")

    readline = read  # type: ignore[assignment]

    def readable(self) -> bool:
        """Tell that this is an input."""
        return True


def become_solver(cpu_s: float, descriptors: list[int], inherited: Inherited) -> None:
    """Confine this fresh child and tell the judge. Leaves only the two pipe ends open."""
    os.setsid()
    confinement.die_with_parent(inherited.zygote)
    if inherited.scope is not None:
        confinement.enter_ruleset(inherited.scope)
    high = [os.dup2(descriptor, 100 + i) for i, descriptor in enumerate(descriptors)]
    null = os.open("/dev/null", os.O_RDWR)  # its own: two programs share no open file
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(high[0], REQUESTS)
    os.dup2(high[1], ANSWERS)
    os.closerange(5, 256)
    whole_s = int(-(-cpu_s // 1))
    confinement.set_limits(inherited.limits | {resource.RLIMIT_CPU: (whole_s, whole_s + 1)})
    inherited.filter.install()
    random.seed(0)
    write_frame(ANSWERS, judge.READY)


def run_solver() -> None:
    """Define the program, then answer one call after another until the pipe closes.

    Answers: S (does not compile), M (out of memory), E + class name (raised), R (ready),
    V + plain data (value).
    """
    request = read_frame(REQUESTS, followed=True)  # by the first call, to be read once defined
    if request is None:
        return
    job: judge.ProgramMessage = json.loads(request)
    module = sys.modules["program"]
    try:
        code = compile(job["program"], "<program>", "exec")
    except Exception as error:
        write_frame(ANSWERS, b"S" + describe(error))
        return
    try:
        exec(code, module.__dict__)
        function = module.__dict__[job["entry_point"]]
    except MemoryError:
        write_frame(ANSWERS, b"M")
        return
    except BaseException as error:
        write_frame(ANSWERS, b"E" + describe(error))
        return
    write_frame(ANSWERS, b"R")
    while (request := read_frame(REQUESTS)) is not None:
        try:
            answer = b"V" + plain_data.dumps(function(*plain_data.loads(request)))
        except MemoryError:
            answer = b"M"
        except BaseException as error:
            answer = b"E" + describe(error)
        write_frame(ANSWERS, answer)


def describe(error: BaseException) -> bytes:
    """Name an exception: its class, and the module for a missing one.

    Messages are left out: they can hold addresses, and equal completions must give equal verdicts.
    """
    name = type(error).__name__[:80]
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        name += f" {error.name[:80]}"
    return ascii(name)[1:-1].encode("ascii")


def prepare_for_solvers() -> None:
    """Leave what every solver finds: no environment, no streams, an empty program."""
    os.environ.clear()
    sys.argv[:] = [""]
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = Silence()  # type: ignore[misc,assignment]
    sys.stdin = sys.__stdin__ = NoInput()  # type: ignore[misc,assignment]
    sys.meta_path.insert(0, semaphores.Finder())
    sys.modules["program"] = types.ModuleType("program")
    sys.modules["__main__"] = types.ModuleType("__main__")


def rehearse() -> None:
    """Do what solvers do, with a program of ours.

    It leaves room in memory next to what they use anyway: each page that a solver does not share
    with the zygote is copied when it writes to it, and that is most of what a solver costs.
    """
    for _ in range(3):
        names: dict[str, Any] = {}
        exec(compile(REHEARSAL, "<rehearsal>", "exec"), names)
        plain_data.dumps(names["rehearsed"](*plain_data.loads(plain_data.dumps(([1.5, 2], "a")))))


def run_zygote(start: judge.StartMessage, to: Confinement, link: socket.socket) -> None:
    """Fork a solver for each request and end it when told. Sees neither programs nor tests."""
    try:
        parent = os.getppid()
        threads = confinement.thread_limit()
        to = to._replace(scratch=confinement.own_scratch(to.readable))
        confinement.die_with_parent(parent)
        file_bytes = confinement.SCRATCH_BYTES if to.scratch else 0
        inherited = Inherited(
            zygote=os.getpid(),
            scope=confinement.scope_ruleset(to.landlock_abi),
            limits=confinement.solver_limits(start["memory_bytes"], threads, file_bytes),
            filter=seccomp.SolverFilter(os.uname().machine),
        )
        confine(to)
    except (confinement.CannotConfine, OSError) as problem:
        link.sendall(str(problem).encode())
        return
    prepare_for_solvers()
    rehearse()
    gc.freeze()
    gc.enable()
    unused = last_change(to.scratch)
    link.sendall(judge.WITH_SCRATCH if to.scratch else judge.READY)
    solver = 0
    while True:
        order, ancillary, _, _ = link.recvmsg(1, socket.CMSG_LEN(8))
        if not order:
            return
        left = judge.Ended(0, 0.0, 0, False, 0)
        if order != judge.FORK:
            before = unused
            status, usage = end_of(solver, order == judge.WAIT)
            unused = last_change(to.scratch)
            cpu_s = usage.ru_utime + usage.ru_stime
            left = judge.Ended(status, cpu_s, usage.ru_maxrss * 1024, before != unused, 0)
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[:8])
        if descriptors and not left.worn:
            solver = os.fork()
            if solver == 0:
                try:
                    become_solver(start["cpu_s"], list(descriptors), inherited)
                    run_solver()
                finally:
                    os._exit(0)
            left = left._replace(solver=solver)
        for descriptor in descriptors:
            os.close(descriptor)
        link.sendall(judge.ENDED.pack(*left))


def end_of(solver: int, may_end: bool) -> tuple[int, resource.struct_rusage]:
    """Kill a solver, after a moment in which it `may_end` by itself; return how it ended and used.

    The status of wait(2) is 0 where it had to be killed.
    """
    ended = may_end and ends_by_itself(solver)
    os.kill(solver, signal.SIGKILL)
    _, status, usage = os.wait4(solver, 0)
    return status if ended else 0, usage


def last_change(scratch: str | None) -> int:
    """Return when an entry of the scratch folder was last made or removed, in ns.

    No program can set it back: that system call is refused.
    """
    return os.stat(scratch).st_mtime_ns if scratch else 0


def ends_by_itself(solver: int, seconds: float = 1.0) -> bool:
    """Wait for a solver that closed its pipes; tell whether it has ended, or still runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, solver, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.001)
    return False


def main() -> None:
    """Fork the zygote, confine this process, then judge one job after another."""
    gc.disable()  # what is loaded here stays, and is frozen before the first job
    jobs, results, null = os.dup(0), os.dup(1), os.open("/dev/null", os.O_RDWR)
    start: judge.StartMessage = json.loads(read_frame(jobs) or b"{}")
    readable, listable = confinement.readable_paths()
    if start["numpy"]:
        readable += [start["numpy"], start["numpy"] + ".libs"]
        sys.meta_path.append(NumpyFinder(start["numpy"]))
    to = Confinement(start["landlock_abi"], readable, listable)
    warnings.simplefilter("ignore")
    for name in USUAL_MODULES.split():
        importlib.import_module(name)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    be_first_when_memory_runs_out()
    link, zygote_end = socket.socketpair()
    judge_pid = os.getpid()
    confinement.die_with_parent(start["parent"] or os.getppid())
    if os.fork() == 0:
        try:
            confinement.die_with_parent(judge_pid)
            os.close(jobs)
            os.close(results)
            link.close()
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            run_zygote(start, to, zygote_end)
        finally:
            os._exit(0)
    zygote_end.close()
    link.settimeout(30)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (JUDGE_MEMORY_BYTES, JUDGE_MEMORY_BYTES))
        confine(to)
        seccomp.SolverFilter(os.uname().machine, judge=True).install()
        told = link.recv(1000)
        scratch = told == judge.WITH_SCRATCH
        error = "" if told.startswith(judge.READY) else told.decode() or "the zygote is gone"
    except (confinement.CannotConfine, OSError) as problem:
        error, scratch = str(problem), False
    tell(results, {"error": error, "scratch": scratch, "verdict": None})
    if error:
        return
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    signal.signal(signal.SIGALRM, judge.out_of_time)
    gc.freeze()
    gc.enable()
    # A solver confines itself while the next job is on its way, and none waits for nothing.
    session: judge.Session | None = None
    while (message := read_frame(jobs)) is not None:
        job: judge.JobMessage = json.loads(message)
        try:
            verdict, session = judge.judge(session or judge.Session(link), job)
        except (judge.HarnessError, OSError) as problem:
            tell(results, {"error": ascii(str(problem)), "scratch": False, "verdict": None})
            return
        tell(results, {"error": "", "scratch": scratch, "verdict": verdict})


def tell(results: int, message: judge.AnswerMessage) -> None:
    """Send a message to whoever started this worker."""
    write_frame(results, json.dumps(message).encode("ascii"))


def be_first_when_memory_runs_out() -> None:
    """Ask the kernel to end this process tree before any other when the machine has no memory."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        return
