"""Run every hostile completion in the sandbox and check the host after each.

A script, so that it can also run as another user: `python hostile_run.py alone|bubblewrap` prints
one JSON object: verdicts, and what went wrong per case (nothing, when all is well).
"""

import contextlib
import ctypes
import dataclasses
import glob
import json
import os
import re
import select
import socket
import sys
import sysconfig
import tempfile
import time
from collections.abc import Set
from pathlib import Path

import msgspec
import psutil

from joules.grade.sandbox import sandbox
from joules.grade.sandbox.pool import Setup, run
from joules.inputs.humaneval import problems
from joules.machine.processes import wait_until

CASES = sorted((Path(__file__).parent / "data").glob("*hostile_completions.jsonl"))
LIMITS = sandbox.Limits(cpu_s=1.0, wall_s=4.0)
SECRET = f"secret-{os.getpid()}"
HEALTHY = sandbox.Job.of(problems()["HumanEval/53"], "def add(x, y):\n    return x + y\n")
BECOME_SUBREAPER = 36
DELAYED_S = 5.5


@dataclasses.dataclass(frozen=True)
class Case:
    """A completion that tries to do harm, the verdicts it may get, and what to look for after."""

    id: str
    task_id: str
    completion: str
    verdict: list[str]
    host: str = ""

    @property
    def harms_later(self) -> bool:
        """Whether it leaves something behind that acts seconds later."""
        return "_was_here" in self.host


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of all cases: verdicts by case, and what went wrong by case."""

    user: int
    bubblewrap: str
    verdicts: dict[str, str]
    problems: dict[str, list[str]]


def cases() -> list[Case]:
    """The cases; those whose harm comes seconds later first, so that one wait serves all."""
    lines = [line for path in CASES for line in path.read_text(encoding="utf-8").splitlines()]
    found = [msgspec.convert(json.loads(line), Case) for line in lines]  # some hold surrogates
    return sorted(found, key=lambda case: not case.harms_later)


def bound_to_one_port() -> tuple[socket.socket, socket.socket]:
    """Return a TCP and a UDP socket of one port: one that is free for the first may be taken."""
    while True:
        tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp.bind(("127.0.0.1", 0))
        try:
            udp.bind(tcp.getsockname())
            return tcp, udp
        except OSError:
            tcp.close()
            udp.close()


class Host:
    """What the completions try to reach on this machine."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        (self.folder / "secret.txt").write_text(SECRET)
        (self.folder / "keep.txt").write_text("keep")
        self.tcp, self.udp = bound_to_one_port()
        self.tcp.listen(8)
        self.port = self.tcp.getsockname()[1]
        self.abstract = f"hostile-{os.getpid()}"
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind("\0" + self.abstract)
        self.unix.listen(8)

    def completion(self, text: str) -> str:
        """Fill in what a completion should aim at."""
        values = {
            "@CANARY@": str(self.folder),
            "@PORT@": str(self.port),
            "@ABSTRACT@": self.abstract,
            "@SECRETVAR@": SECRET,
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return re.sub(r"REPEAT:(.):(\d+)", lambda match: match[1] * int(match[2]), text)

    def harm(self, checks: str) -> list[str]:
        """What a completion did to the files and sockets that it must not reach."""
        found = []
        if select.select([self.tcp, self.udp, self.unix], [], [], 0)[0]:
            found.append("a socket of the host was reached")
        names = sorted(path.name for path in self.folder.iterdir())
        if names != ["keep.txt", "secret.txt"] or (self.folder / "keep.txt").read_text() != "keep":
            found.append(f"the canary folder changed: {names}")
        folders = ["/tmp", "/dev/shm", "/var/tmp", ".", *sysconfig.get_paths().values()]
        for check in checks.split(","):
            if check.startswith("no_file:"):
                files = [f for d in folders for f in glob.glob(f"{d}/{check[8:]}")]
                found += [f"{file} appeared" for file in files]
        return found


def descendants() -> set[int]:
    """The processes below this one that still run."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


def left_after(seconds: float, before: Set[int] = frozenset()) -> Set[int]:
    """Return what runs below this process and did not before, at the end of the time at most."""
    wait_until(lambda: not descendants() - before, seconds)
    return descendants() - before


def problems_of(case: Case, host: Host, setup: Setup) -> tuple[str, list[str]]:
    """Run one case and the healthy job after it on the same worker."""
    problem = problems()[case.task_id]
    program = problem.prompt + host.completion(case.completion)
    run(setup, [HEALTHY], 1, LIMITS)
    before = descendants()
    start = time.monotonic()
    job = sandbox.Job.of(problem, program)
    verdict = run(setup, [job], 1, LIMITS, sandbox.new_nonce())[0]
    found = []
    if verdict.verdict not in case.verdict:
        found.append(f"verdict {verdict.verdict} ({verdict.reason}), allowed {case.verdict}")
    if "LEAK" in case.completion and verdict.reason == "ValueError":
        found.append("the program saw what it must not see")
    if SECRET in repr(verdict) or not repr(verdict).isascii():
        found.append("the verdict holds the program's text")
    if verdict.max_rss_bytes > LIMITS.memory_bytes:
        found.append(f"{verdict.max_rss_bytes} bytes of memory")
    if time.monotonic() - start > LIMITS.wall_s + 10:
        found.append("it took too long")
    survivors = descendants() - before
    if survivors:
        found.append(f"{len(survivors)} processes survived")
    found += host.harm(case.host)
    after = run(setup, [HEALTHY], 1, LIMITS)[0]
    if after.verdict != "passed":
        found.append(f"the next job got {after}")
    return verdict.verdict, found


def main(layers: str) -> Report:
    """Run all cases, with or without bubblewrap as the second layer."""
    ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1, 0, 0, 0)
    os.environ["HOST_API_TOKEN"] = SECRET
    setup, facts = sandbox._prepared(LIMITS, None, 2)
    if layers == "alone":
        setup.close()
        setup.bubblewrap = None
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        canaries = Path(folder, "canaries")
        canaries.mkdir()
        host = Host(str(canaries))
        found: dict[str, list[str]] = {}
        verdicts: dict[str, str] = {}
        delayed = 0.0
        for case in cases():
            verdicts[case.id], found[case.id] = problems_of(case, host, setup)
            if case.harms_later:
                delayed = time.monotonic() + DELAYED_S
        time.sleep(max(0.0, delayed - time.monotonic()))
        found["afterwards"] = host.harm("")
        setup.close()
        if left_after(5.0):
            found["afterwards"].append("processes are left")
    return Report(
        user=os.geteuid(),
        bubblewrap=facts.bubblewrap if layers == "bubblewrap" else "left out",
        verdicts=verdicts,
        problems={name: issues for name, issues in found.items() if issues},
    )


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(main(sys.argv[1]))))
