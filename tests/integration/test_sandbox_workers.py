"""Workers of the sandbox: the code that they get, and programs defined while their tests run."""

import itertools
import os
import random
import shutil
import sys
from importlib.metadata import version

import pytest

from joules.core.places import REPOSITORY
from joules.grade.sandbox import confinement, launch, pool, sandbox
from joules.grade.sandbox.pool import Job, Limits, Setup, Verdict, run

# On a busy machine half a second of CPU time takes many; who waits for the wall clock is HASTY.
SHORT = Limits(cpu_s=0.5, wall_s=60.0)
HASTY = Limits(cpu_s=0.5, wall_s=4.0)
LAYERS = ["bubblewrap", "alone"]


def graded(jobs: list[Job], layers: str = "alone", limits: Limits = SHORT) -> list[Verdict]:
    """Grade jobs one after the other on one worker."""
    bubblewrap = shutil.which("bwrap") if layers == "bubblewrap" else None
    setup = Setup(confinement.landlock_abi(), bubblewrap, limits)
    try:
        return run(setup, jobs, 1, limits)
    finally:
        setup.close()


def outcomes(program: str, test: str, times: int = 1) -> set[tuple[str, str]]:
    jobs = [Job(str(number), "f", "", test, program) for number in range(times)]
    return {(verdict.verdict, verdict.reason) for verdict in graded(jobs)}


SEES_ITS_HARNESS = f"""
import sys
def f():
    frame, seen = sys._getframe(), [str(sys.orig_argv), str(sys.path)]
    while frame:
        seen.append(frame.f_code.co_filename)
        seen.append(str(frame.f_globals.get("__file__")))
        frame = frame.f_back
    return [text for text in seen if {str(REPOSITORY)!r} in text], len(seen)
"""


@pytest.mark.parametrize("layers", LAYERS)
def test_a_program_learns_nothing_of_where_the_harness_lies(layers):
    test = "def check(f):\n    found, seen = f()\n    assert found == [] and seen > 6\n"
    (verdict,) = graded([Job("0", "f", "", test, SEES_ITS_HARNESS)], layers)
    assert (verdict.verdict, verdict.reason) == ("passed", "")


FINDS_OPEN_FILES = """
import os
def f():
    found = []
    for number in range(256):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    return found
"""


@pytest.mark.parametrize("layers", LAYERS)
def test_a_program_has_its_streams_and_its_two_pipes_alone(layers):
    test = "def check(f):\n    assert f() == [0, 1, 2, 3, 4]\n"
    jobs = [Job(str(number), "f", "", test, FINDS_OPEN_FILES) for number in range(3)]
    assert [verdict.verdict for verdict in graded(jobs, layers)] == ["passed"] * 3


def test_the_code_of_workers_cannot_be_changed_once_it_is_made():
    held = launch.code_of(launch._HERE)
    with pytest.raises(PermissionError):
        os.pwrite(held, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(held, 0)


def test_workers_run_the_code_that_lies_in_the_folder_now(tmp_path):
    for name in launch._WORKER_FILES:
        shutil.copy2(launch._HERE / name, tmp_path)
    first = os.pread(launch.code_of(tmp_path), 1 << 20, 0)
    launch.code_of.cache_clear()
    changed = tmp_path / "semaphores.py"
    changed.write_text(changed.read_text() + "CHANGED = 'since then'\n")
    assert b"since then" not in first
    assert b"since then" in os.pread(launch.code_of(tmp_path), 1 << 20, 0)


def test_the_version_of_numpy_is_that_of_its_package(monkeypatch, tmp_path):
    assert launch.numpy_version() == version("numpy")
    monkeypatch.setattr(launch, "numpy_folder", lambda: str(tmp_path / "numpy"))
    assert launch.numpy_version() == version("numpy")  # of a folder that says nothing of it
    monkeypatch.setattr(launch, "numpy_folder", lambda: None)
    assert launch.numpy_version() is None


LARGE_FIRST_CALL = "def check(f):\n    f([0] * 20000)\n    f(1)\n"
ONE_CALL = "def check(f):\n    assert f(1) == 1\n"
NO_CALL = "def check(f):\n    pass\n"
FAILS_FIRST = "def check(f):\n    raise ValueError\n"
SWALLOWS = "def check(f):\n    try:\n        f(1)\n    except BaseException:\n        pass\n"
TOO_LARGE = "def check(f):\n    f('x' * 70000)\n"


@pytest.mark.parametrize("test", [LARGE_FIRST_CALL, NO_CALL, FAILS_FIRST, SWALLOWS, TOO_LARGE])
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("def f(x): return (", ("syntax", "SyntaxError")),
        ("raise KeyError", ("failed", "KeyError")),
        ("def g(x): return x", ("failed", "KeyError")),
        ("import pandas", ("failed", "ModuleNotFoundError pandas")),
        ("block = bytearray(2 << 30)", ("memory", "")),
        ("while True: pass", ("timeout", "cpu")),
        ("import os\nos._exit(0)", ("failed", "ended without an answer")),
        ("import os\nos.abort()", ("crashed", "SIGABRT")),
    ],
)
def test_a_program_that_cannot_be_defined_is_judged_so_whatever_its_test_does_first(
    test, program, expected
):
    assert outcomes(program, test, times=4 if expected[0] != "timeout" else 1) == {expected}


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (LARGE_FIRST_CALL, ("passed", "")),
        (NO_CALL, ("passed", "")),
        (FAILS_FIRST, ("failed", "ValueError")),
        (TOO_LARGE, ("failed", "NotPlain")),
    ],
)
def test_a_program_that_can_be_defined_is_judged_by_its_test(test, expected):
    assert outcomes("import time\ntime.sleep(0.05)\ndef f(x): return x\n", test, 2) == {expected}


def test_a_program_that_closes_a_pipe_before_its_first_call_has_ended():
    for descriptor, test in itertools.product((3, 4), (ONE_CALL, LARGE_FIRST_CALL)):
        program = f"import os\nos.close({descriptor})\ndef f(x): return x\n"
        assert outcomes(program, test, times=5) == {("failed", "ended without an answer")}


def test_a_test_is_run_anew_for_each_program():
    test = "STATE = []\ndef check(f):\n    STATE.append(f(1))\n    assert STATE == [1]\n"
    assert outcomes("def f(x): return x\n", test, times=5) == {("passed", "")}


def test_a_program_that_takes_the_first_call_from_the_pipe_itself_gains_nothing():
    thief = "import os\nos.read(3, 1 << 20)\ndef f(x): return x\n"
    (verdict,) = graded([Job("0", "f", "", LARGE_FIRST_CALL, thief)], limits=HASTY)
    assert (verdict.verdict, verdict.reason) == ("timeout", "wall")


def test_workers_start_where_nothing_can_be_cached(monkeypatch, tmp_path):
    for name in launch._WORKER_FILES:
        shutil.copy2(launch._HERE / name, tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(launch, "_HERE", tmp_path)
    assert outcomes("def f(x): return x\n", ONE_CALL) == {("passed", "")}
    assert not (tmp_path / "__pycache__").exists()


DRAWS = "import random\ndef f():\n    return random.random()\n"


def test_every_program_draws_the_same_random_numbers():
    test = f"def check(f):\n    assert f() == {random.Random(0).random()!r}\n"
    assert outcomes(DRAWS, test, times=3) == {("passed", "")}


CORES = "import os\ndef f():\n    return sorted(os.sched_getaffinity(0))\n"
ALL_CORES = sorted(os.sched_getaffinity(0))


def cores_that_programs_had(setup: Setup, workers: int, times: int) -> set[tuple[int, ...]]:
    """Grade programs that fail unless they may run on one core, or on all, and return which."""
    found = set()
    for cores in [ALL_CORES, *([core] for core in ALL_CORES)]:
        test = f"def check(f):\n    assert f() == {cores}\n"
        jobs = [Job(str(number), "f", "", test, CORES) for number in range(times)]
        if any(verdict.verdict == "passed" for verdict in run(setup, jobs, workers, SHORT)):
            found.add(tuple(cores))
    return found


@pytest.mark.skipif(len(ALL_CORES) < 2, reason="needs two cores")
def test_workers_stay_each_on_a_core_where_there_is_one_for_each():
    setup = Setup(confinement.landlock_abi(), None, SHORT, cores=tuple(ALL_CORES[:2]))
    try:
        had = cores_that_programs_had(setup, 2, 12)
        assert had == {(ALL_CORES[0],), (ALL_CORES[1],)}
        assert sorted(worker.core for worker in setup.idle) == ALL_CORES[:2]
    finally:
        setup.close()
    assert set(setup.on_core.values()) == {0}


@pytest.mark.skipif(len(ALL_CORES) < 2, reason="needs two cores")
def test_fewer_workers_than_cores_go_where_the_kernel_puts_them():
    assert sandbox._cores_for(len(ALL_CORES) - 1) == ()
    assert sandbox._cores_for(len(ALL_CORES)) == tuple(ALL_CORES)
    setup = Setup(confinement.landlock_abi(), None, SHORT)
    try:
        assert cores_that_programs_had(setup, 1, 1) == {tuple(ALL_CORES)}
    finally:
        setup.close()


@pytest.mark.skipif(len(ALL_CORES) < 2, reason="needs two cores")
def test_the_successor_of_a_worker_takes_its_core(monkeypatch):
    monkeypatch.setattr(pool, "JOBS_PER_WORKER", 6)
    monkeypatch.setattr(pool, "JOBS_TO_START", 2)
    setup = Setup(confinement.landlock_abi(), None, SHORT, cores=tuple(ALL_CORES[:2]))
    jobs = [Job(str(n), "f", "", ONE_CALL, "def f(x): return x\n") for n in range(30)]
    try:
        assert {verdict.verdict for verdict in run(setup, jobs, 2, SHORT)} == {"passed"}
        living = {core: number for core, number in setup.on_core.items() if number}
        assert set(living) == set(ALL_CORES[:2])
        assert max(living.values()) - min(living.values()) <= 1
    finally:
        setup.close()
