"""The inside of the sandbox: a judge that holds the tests, a zygote and one solver per program.

The judge forks the zygote before it reads any job, so neither the zygote nor the solvers forked
from it ever hold the text of a test. A solver confines itself, says so, and only then receives its
program, through a pipe of its own. It answers the judge's calls with plain data and is killed.
Started by `joules.sandbox` as a script; speaks length-prefixed JSON on its standard streams.
Standard library only.
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
from typing import Any

# The folder of this file becomes the package joules, so that its modules are found by that name
# and its module statistics does not hide the standard library's.
sys.modules["joules"] = types.ModuleType("joules")
sys.modules["joules"].__path__ = [os.path.dirname(os.path.abspath(__file__))]
from joules import confinement, plain_data, sandbox_judge, seccomp  # noqa: E402

REQUESTS, ANSWERS = 3, 4
JUDGE_MEMORY_BYTES = 4 << 30
# What solutions often use is imported once, before the forks; the rest when a solution asks for it.
USUAL_MODULES = "bisect collections copy functools heapq itertools math operator re string typing"


def read_frame(descriptor: int) -> bytes | None:
    """Read one length-prefixed message, or None at the end of the stream.

    One message is sent at a time, so what comes with its head is its body.
    """
    data = b""
    size = 4
    while len(data) < size:
        chunk = os.read(descriptor, 65536)
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


def confine(config: dict[str, Any]) -> None:
    """Confine this process for good; its children inherit it. Raises CannotConfine or OSError."""
    abi, (readable, listable) = config["landlock_abi"], config["paths"]
    confinement.drop_capabilities()
    confinement.restrict_files(readable, listable, ["/dev/null"], abi)
    seccomp.install(seccomp.starter_filter(os.uname().machine, abi))


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


def become_solver(
    config: dict[str, Any], descriptors: list[int], inherited: dict[str, Any]
) -> None:
    """Confine this fresh child and tell the judge. Leaves only the two pipe ends open."""
    os.setsid()
    confinement.die_with_parent(inherited["zygote"])
    high = [os.dup2(descriptor, 100 + i) for i, descriptor in enumerate(descriptors)]
    null = os.open("/dev/null", os.O_RDWR)
    scope = None if inherited["scope"] is None else os.dup2(inherited["scope"], 102)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(high[0], REQUESTS)
    os.dup2(high[1], ANSWERS)
    os.closerange(5, 102)
    os.closerange(103, 256)
    if scope is not None:
        confinement.enter_ruleset(scope)
    os.closerange(5, 256)
    cpu_s = int(-(-config["cpu_s"] // 1))
    confinement.set_limits(inherited["limits"] | {resource.RLIMIT_CPU: (cpu_s, cpu_s + 1)})
    inherited["filter"].install()
    random.seed(0)
    write_frame(ANSWERS, sandbox_judge.READY)


def run_solver() -> None:
    """Define the program, then answer one call after another until the pipe closes.

    Answers: S (does not compile), M (out of memory), E + class name (raised), R (ready),
    V + plain data (value).
    """
    request = read_frame(REQUESTS)
    if request is None:
        return
    job = json.loads(request)
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
    sys.modules["program"] = types.ModuleType("program")
    sys.modules["__main__"] = types.ModuleType("__main__")


def run_zygote(config: dict[str, Any], link: socket.socket) -> None:
    """Fork a solver for each request and end it when told. Sees neither programs nor tests."""
    try:
        inherited = {
            "zygote": os.getpid(),
            "scope": confinement.scope_ruleset(config["landlock_abi"]),
            "limits": confinement.solver_limits(config["memory_bytes"]),
            "filter": seccomp.SolverFilter(os.uname().machine),
        }
        confine(config)
    except (confinement.CannotConfine, OSError) as problem:
        link.sendall(str(problem).encode())
        return
    prepare_for_solvers()
    gc.freeze()
    gc.enable()
    link.sendall(sandbox_judge.READY)
    while True:
        message, ancillary, _, _ = link.recvmsg(1, socket.CMSG_LEN(8))
        if not message:
            return
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[:8])
        solver = os.fork()
        if solver == 0:
            try:
                become_solver(config, list(descriptors), inherited)
                run_solver()
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        link.sendall(struct.pack("=i", solver))
        order = link.recv(1)
        if not order:
            return
        ended = order == sandbox_judge.WAIT and ends_by_itself(solver)
        os.kill(solver, signal.SIGKILL)
        _, status, usage = os.wait4(solver, 0)
        status = status if ended else 0
        cpu_s = usage.ru_utime + usage.ru_stime
        link.sendall(sandbox_judge.ENDED.pack(status, cpu_s, usage.ru_maxrss * 1024))


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
    config = json.loads(read_frame(jobs) or b"{}")
    readable, listable = confinement.readable_paths()
    if config["numpy"]:
        readable += [config["numpy"], config["numpy"] + ".libs"]
        sys.meta_path.append(NumpyFinder(config["numpy"]))
    config["paths"] = readable, listable
    warnings.simplefilter("ignore")
    for name in USUAL_MODULES.split():
        importlib.import_module(name)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    be_first_when_memory_runs_out()
    link, zygote_end = socket.socketpair()
    judge_pid = os.getpid()
    confinement.die_with_parent(config["parent"] or os.getppid())
    if os.fork() == 0:
        try:
            confinement.die_with_parent(judge_pid)
            os.close(jobs)
            os.close(results)
            link.close()
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            run_zygote(config, zygote_end)
        finally:
            os._exit(0)
    zygote_end.close()
    link.settimeout(30)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (JUDGE_MEMORY_BYTES, JUDGE_MEMORY_BYTES))
        confine(config)
        seccomp.SolverFilter(os.uname().machine).install()
        told = link.recv(1000)
        error = "" if told == sandbox_judge.READY else told.decode() or "the zygote is gone"
    except (confinement.CannotConfine, OSError) as problem:
        error = str(problem)
    write_frame(results, json.dumps({"error": error}).encode("ascii"))
    if error:
        return
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    signal.signal(signal.SIGALRM, sandbox_judge.out_of_time)
    gc.freeze()
    gc.enable()
    session = None
    while (message := read_frame(jobs)) is not None:
        job = json.loads(message)
        try:
            result = sandbox_judge.judge(session or sandbox_judge.Session(link), job)
        except (sandbox_judge.HarnessError, OSError) as problem:
            result = {"id": job["id"], "verdict": "harness_error", "reason": ascii(str(problem))}
        write_frame(results, json.dumps(result).encode("ascii"))
        if result["verdict"] == "harness_error":
            return
        # A solver confines itself while the next job is on its way, and none waits for nothing.
        session = sandbox_judge.Session(link) if job["more"] else None


def be_first_when_memory_runs_out() -> None:
    """Ask the kernel to end this process tree before any other when the machine has no memory."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        return


if __name__ == "__main__":
    main()
