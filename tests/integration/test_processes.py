import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from joules.core.errors import UserError
from joules.core.places import SCRIPTS
from joules.machine import processes

PATIENCE_S = 30.0
SLEEPER = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
# A child with a child of its own; both stay when only the first is asked to end.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("here", flush=True)
time.sleep(600)
"""
PARENT = """
import sys, time
from pathlib import Path
from joules.machine import processes
command = [sys.executable, "-c", "import time; time.sleep(600)"]
child = processes.start(command, Path(sys.argv[1]), {})
print(child.pid, flush=True)
time.sleep(600)
"""
STUBBORN_PARENT = """
import sys, time
from pathlib import Path
from joules.machine import processes
command = [sys.executable, "-c", sys.argv[2]]
print(processes.start(command, Path(sys.argv[1]), {}, supervised=True).pid, flush=True)
time.sleep(600)
"""


def start(tmp_path: Path, *command: str, **pipes: int) -> subprocess.Popen[str]:
    return processes.start(command, tmp_path / "child.log", {"MARK": "1"}, **pipes)


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_sees_the_given_environment_alone(tmp_path: Path) -> None:
    child = start(tmp_path, sys.executable, "-c", "import os; print(sorted(os.environ))")
    assert child.wait() == 0
    assert "'MARK'" in (tmp_path / "child.log").read_text()
    assert "'PATH'" not in (tmp_path / "child.log").read_text()


def test_a_runtime_may_see_where_programs_libraries_and_devices_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("OLLAMA_HOST", "elsewhere")
    seen = processes.minimal_environment()
    assert seen["CUDA_VISIBLE_DEVICES"] == "1" and seen["PATH"] == os.environ["PATH"]
    assert "OLLAMA_HOST" not in seen and "HOME" not in seen


def test_errors_go_to_the_log_and_output_to_the_pipe(tmp_path: Path) -> None:
    text = "import sys; print('answer'); print('trouble', file=sys.stderr)"
    child = start(tmp_path, sys.executable, "-c", text, stdout=subprocess.PIPE)
    assert child.communicate()[0] == "answer\n"
    assert (tmp_path / "child.log").read_text() == "trouble\n"


def test_a_child_and_its_children_are_ended(tmp_path: Path) -> None:
    child = start(tmp_path, sys.executable, "-c", FAMILY, stdout=subprocess.PIPE)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    assert sorted(processes.living(child.pid)) == sorted([child.pid, grandchild])
    processes.end(child)
    assert child.returncode == -signal.SIGTERM
    assert has_ended(grandchild) and processes.living(child.pid) == []


def test_children_of_a_child_that_was_killed_are_ended(tmp_path: Path) -> None:
    child = start(tmp_path, sys.executable, "-c", FAMILY, stdout=subprocess.PIPE)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    child.kill()
    child.wait()
    assert not has_ended(grandchild)
    processes.end(child)
    assert has_ended(grandchild)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = start(tmp_path, sys.executable, "-c", STUBBORN, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == "here\n"
    processes.end(child, patience_s=0.2)
    assert child.returncode == -signal.SIGKILL


def test_ending_a_child_twice_does_no_harm(tmp_path: Path) -> None:
    child = start(tmp_path, *SLEEPER)
    processes.end(child)
    processes.end(child)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_child_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    scripts = SCRIPTS
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "child.log")],
        env=os.environ | {"PYTHONPATH": str(scripts)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert processes.wait_until(lambda: has_ended(pid), PATIENCE_S)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_supervised_child_that_ignores_sigterm_ends_with_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    parent = subprocess.Popen(
        [sys.executable, "-c", STUBBORN_PARENT, str(log), STUBBORN],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    group = int(parent.stdout.readline())
    assert processes.wait_until(lambda: "here" in log.read_text(), PATIENCE_S)
    assert len(processes.living(group)) == 2
    parent.kill()
    parent.wait()
    assert processes.wait_until(lambda: processes.living(group) == [], PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_supervised_child_s_end_is_seen_as_its_own(
    tmp_path: Path, number: signal.Signals
) -> None:
    code = f"import os; os.kill(os.getpid(), {int(number)})"
    command = [sys.executable, "-c", code]
    assert processes.start(command, tmp_path / "log", {}, supervised=True).wait() == -number
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    assert processes.start(command, tmp_path / "log", {}, supervised=True).wait() == 3


def test_a_program_that_is_not_there_ends_with_a_status(tmp_path: Path) -> None:
    child = start(tmp_path, str(tmp_path / "nothing"))
    assert child.wait() == 1
    assert "No such file" in processes.tail(tmp_path / "child.log")


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-11, "was ended by SIGSEGV"),
        (-250, "was ended by signal 250"),
    ],
)
def test_an_ending_is_told_in_words(returncode: int, words: str) -> None:
    assert processes.ending(returncode) == words


def test_a_real_crash_is_named_with_its_remedy(tmp_path: Path) -> None:
    child = start(tmp_path, *SLEEPER)
    child.send_signal(signal.SIGILL)
    error = processes.died("Engine", "tiny", processes.ending(child.wait()), tmp_path / "child.log")
    for part in ("Engine was ended by SIGILL", "tiny", "another CPU", "AMX", "child.log"):
        assert part in str(error)


def test_an_end_without_a_known_cause_is_told_with_the_last_words(tmp_path: Path) -> None:
    child = start(tmp_path, sys.executable, "-c", "print('one'); raise SystemExit('out of luck')")
    error = processes.died("Engine", "tiny", processes.ending(child.wait()), tmp_path / "child.log")
    assert "ended with status 1" in str(error) and "out of luck" in str(error)


def test_a_free_port_can_be_had_and_a_taken_one_is_refused() -> None:
    port = processes.free_port()
    processes.check_port(port, "Engine")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(UserError, match=f"Port {port}, configured for Engine"):
            processes.check_port(port, "Engine")


def test_the_last_lines_of_a_log_are_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.tail(log) == "nothing"
    log.write_text("")
    assert processes.tail(log) == "nothing"
    log.write_text("a\nb\nc\nd\n")
    assert processes.tail(log, lines=2) == "c | d"


def test_waiting_ends_when_it_is_so_or_the_time_is_over() -> None:
    event = threading.Timer(0.05, lambda: None)
    event.start()
    assert processes.wait_until(lambda: not event.is_alive(), PATIENCE_S)
    before = time.monotonic()
    assert not processes.wait_until(lambda: False, 0.1)
    assert time.monotonic() - before >= 0.1
