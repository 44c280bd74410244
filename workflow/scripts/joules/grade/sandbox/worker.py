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
import json
import os
import random
import resource
import signal
import socket
import sys
import time
import types
import warnings
from typing import Any, NamedTuple

from joules.grade.sandbox import confinement, judge, seccomp, semaphores, solver
from joules.grade.sandbox.solver import read_frame, write_frame

JUDGE_MEMORY_BYTES = 4 << 30
# What solutions often use is imported once, before the forks; the rest when a solution asks for it.
USUAL_MODULES = "bisect collections copy functools heapq itertools math operator re string typing"


class Confinement(NamedTuple):
    """How judge and zygote confine themselves: the version of Landlock, and what stays open."""

    landlock_abi: int
    readable: list[str]
    listable: list[str]
    scratch: str | None = None


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


def prepare_for_solvers() -> types.ModuleType:
    """Leave what every solver finds: no environment, no streams; return its empty program."""
    os.environ.clear()
    sys.argv[:] = [""]
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = solver.Silence()  # type: ignore[misc,assignment]
    sys.stdin = sys.__stdin__ = solver.NoInput()  # type: ignore[misc,assignment]
    sys.meta_path.insert(0, semaphores.Finder())
    sys.modules["program"] = types.ModuleType("program")
    sys.modules["__main__"] = types.ModuleType("__main__")
    random.seed(0)
    return sys.modules["program"]


def run_zygote(start: judge.StartMessage, to: Confinement, link: socket.socket) -> None:
    """Fork a solver for each request and end it when told. Sees neither programs nor tests."""
    try:
        parent = os.getppid()
        threads = confinement.thread_limit()
        to = to._replace(scratch=confinement.own_scratch(to.readable))
        confinement.die_with_parent(parent)
        file_bytes = confinement.SCRATCH_BYTES if to.scratch else 0
        inherited = solver.inherited(
            to.landlock_abi, start["memory_bytes"], start["cpu_s"], threads, file_bytes
        )
        confine(to)
    except (confinement.CannotConfine, OSError) as problem:
        link.sendall(str(problem).encode())
        return
    module = prepare_for_solvers()
    solver.rehearse()
    gc.freeze()
    gc.enable()
    unused = last_change(to.scratch)
    link.sendall(judge.WITH_SCRATCH if to.scratch else judge.READY)
    child = 0
    while True:
        order, ancillary, _, _ = link.recvmsg(1, socket.CMSG_LEN(8))
        if not order:
            return
        left = judge.Ended(0, 0.0, 0, False, 0)
        if order != judge.FORK:
            before = unused
            status, usage = end_of(child, order == judge.WAIT)
            unused = last_change(to.scratch)
            cpu_s = usage.ru_utime + usage.ru_stime
            left = judge.Ended(status, cpu_s, usage.ru_maxrss * 1024, before != unused, 0)
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[:8])
        if descriptors and not left.worn:
            child = os.fork()
            if child == 0:
                try:
                    solver.become_solver(list(descriptors), inherited)
                    solver.run_solver(module)
                finally:
                    os._exit(0)
            left = left._replace(solver=child)
        for descriptor in descriptors:
            os.close(descriptor)
        link.sendall(judge.ENDED.pack(*left))


def end_of(child: int, may_end: bool) -> tuple[int, resource.struct_rusage]:
    """Kill a solver, after a moment in which it `may_end` by itself; return how it ended and used.

    The status of wait(2) is 0 where it had to be killed.
    """
    ended = may_end and ends_by_itself(child)
    os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return status if ended else 0, usage


def last_change(scratch: str | None) -> int:
    """Return when an entry of the scratch folder was last made or removed, in ns.

    No program can set it back: that system call is refused.
    """
    return os.stat(scratch).st_mtime_ns if scratch else 0


def ends_by_itself(child: int, seconds: float = 1.0) -> bool:
    """Wait for a solver that closed its pipes; tell whether it has ended, or still runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.001)
    return False


def main() -> None:
    """Fork the zygote, confine this process, then judge one job after another."""
    gc.disable()  # what is loaded here stays, and is frozen before the first job
    jobs, results, null = os.dup(0), os.dup(1), os.open("/dev/null", os.O_RDWR)
    start: judge.StartMessage = json.loads(read_frame(jobs) or b"{}")
    if start["core"] is not None:
        os.sched_setaffinity(0, [start["core"]])
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
