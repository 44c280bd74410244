"""Which workflow a run belongs to, what the sitting is called, and how a run ends with it."""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from joules.core.places import SCRIPTS
from joules.machine import identity, machine_state
from joules.machine.processes import wait_until
from joules.measure import sitting

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in sitting.JOB_VARIABLES
} | {"PYTHONPATH": str(SCRIPTS)}
MEASURING = textwrap.dedent(
    """
    import sys, tempfile, time
    from joules.measure import sitting

    sitting.end_with_workflow()
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        print(sitting.session_id(), sitting.workflow_process().pid, flush=True)
        time.sleep(600)
    """
)


def as_from_a_terminal() -> None:
    """Let a terminal's signals act, also where the tests were started to ignore them."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Chain:
    """Processes, each the child of the one before; the last one measures.

    `lines` are what stands before the program on each command line, from the outermost on.
    """

    def __init__(self, folder: Path, *lines: list[str], **variables: str) -> None:
        self.scratch = folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        last = [sys.executable, "-c", MEASURING, str(self.scratch)]
        for line in reversed(lines):
            source = (
                f"import os, subprocess\nprint(os.getpid(), flush=True)\nsubprocess.run({last!r})\n"
            )
            last = [word if word != "CODE" else source for word in line]
        self.process = subprocess.Popen(
            last,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | variables,
            start_new_session=True,
            preexec_fn=as_from_a_terminal,
        )
        assert self.process.stdout is not None
        self.pids = [int(self.process.stdout.readline()) for _ in lines]
        self.session, workflow = self.process.stdout.readline().split()
        self.workflow = int(workflow)
        self.measuring = psutil.Process(self.pids[-1]).children()[0]

    def end(self) -> None:
        for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            process.kill()
        self.process.wait()


def script(folder: Path, name: str = "snakemake") -> list[str]:
    """Return a line on which Python runs a script of that name."""
    path = folder / name
    path.write_text("import sys; exec(sys.argv[1])")
    return [sys.executable, str(path), "CODE"]


def below(folder: Path, program: str) -> list[str]:
    """Return a line below a process that is called `program` and works on a folder `snakemake`.

    That process is flock(1) in truth, which stays and takes the name of a folder first.
    """
    place = Path(tempfile.mkdtemp(dir=folder)) / "snakemake"
    place.mkdir()
    stay = f'exec -a {program} flock "{place}" "$@"'
    return ["bash", "-c", stay, "bash", sys.executable, "-c", "CODE"]


@pytest.fixture
def chain(tmp_path):
    """Make a chain of processes, and end it afterwards."""
    made = []

    def make(*lines, **variables):
        made.append(Chain(tmp_path, *lines, **variables))
        return made[-1]

    yield make
    for each in made:
        if each.process.poll() is None:
            each.end()


def ended(process: psutil.Process) -> bool:
    """Wait until a process has ended; one whose parent is gone may never be reaped."""
    return wait_until(lambda: identity.start_ticks(process.pid) is None, 30.0)


def test_a_run_belongs_to_the_snakemake_above_it_and_not_to_the_terminal_around_that(
    chain, tmp_path
):
    found = chain(below(tmp_path, "screen"), script(tmp_path))
    assert found.workflow == found.pids[1]


def test_an_editor_on_a_folder_of_that_name_is_no_workflow(chain, tmp_path):
    found = chain(below(tmp_path, "vim"))
    line = psutil.Process(found.process.pid).cmdline()
    assert line[0] == "vim" and line[1].endswith("/snakemake")
    assert found.workflow == found.measuring.pid


def test_two_workflows_below_one_terminal_are_two_sittings(chain, tmp_path):
    names = {chain(below(tmp_path, "screen"), script(tmp_path)).session for _ in range(2)}
    assert len(names) == 2


def test_a_workflow_that_is_a_step_of_another_one_is_a_sitting_of_its_own(chain, tmp_path):
    found = chain(script(tmp_path), script(tmp_path))
    assert found.workflow == found.pids[1]


def test_a_snakemake_that_was_started_for_one_job_belongs_to_the_one_that_started_it(
    chain, tmp_path
):
    job = [*script(tmp_path), "--mode", "subprocess"]
    assert (found := chain(script(tmp_path), job)).workflow == found.pids[0]
    alone = chain([*script(tmp_path), "--mode", "remote"])
    assert alone.workflow == alone.pids[0]


def test_a_job_of_a_batch_system_adds_its_id(chain, tmp_path):
    found = chain(script(tmp_path), SLURM_JOB_ID="4711")
    ticks = identity.start_ticks(found.pids[0])
    assert found.session == f"{identity.boot_id()}/{ticks}/4711"


def test_a_killed_workflow_ends_the_measurement_below_a_terminal_of_that_name(chain, tmp_path):
    found = chain(below(tmp_path, "screen"), script(tmp_path))
    os.kill(found.pids[1], signal.SIGKILL)
    assert ended(found.measuring)
    assert found.process.poll() is None or found.process.wait() == 0
    assert list(found.scratch.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_lost_terminal_ends_the_measurement_as_ctrl_c_does_and_leaves_no_folder(
    chain, tmp_path, number
):
    found = chain(script(tmp_path))
    assert len(list(found.scratch.iterdir())) == 1
    found.measuring.send_signal(number)
    assert ended(found.measuring)
    assert list(found.scratch.iterdir()) == []


SLOW_TO_END = textwrap.dedent(
    """
    import contextlib
    from joules.measure import sitting

    sitting.end_with_workflow()
    with contextlib.ExitStack() as begun:
        begun.callback(lambda: print("put away", flush=True))
        begun.callback(input)
        begun.callback(lambda: print("putting away", flush=True))
        print("begun", flush=True)
        while True:
            pass
    """
)


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_further_signal_breaks_into_no_end_that_has_begun(first):
    """That of the workflow, which a lost terminal ends at the same time; of an impatient user."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_END],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=as_from_a_terminal,
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(first)
    assert process.stdout.readline() == "putting away\n"
    for further in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        process.send_signal(further)
    assert process.communicate("\n")[0] == "put away\n"
    assert process.returncode != 0


def test_nohup_stays_in_force(chain, tmp_path):
    found = chain(["nohup", *script(tmp_path)])
    found.measuring.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert found.measuring.is_running() and found.measuring.status() != psutil.STATUS_ZOMBIE


def test_the_name_of_a_sitting_asks_no_clock_that_can_be_set(monkeypatch):
    def moved(*_):
        raise AssertionError("the wall clock was asked")

    before = sitting.session_id()
    for owner, name in ((time, "time"), (time, "time_ns"), (psutil, "boot_time")):
        monkeypatch.setattr(owner, name, moved)
    monkeypatch.setattr(psutil.Process, "create_time", moved)
    assert sitting.session_id() == before


def test_a_process_that_was_not_reaped_has_ended():
    child = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert identity.start_ticks(child.pid) is None
    child.wait()
    assert identity.start_ticks(child.pid) is None


def test_a_process_whose_name_holds_brackets_has_its_start(tmp_path):
    name = tmp_path / "a) R 1 (b"
    name.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(name), "600"])
    try:
        after = identity.start_ticks(child.pid)
        own = identity.start_ticks(os.getpid())
        assert after is not None and own is not None and after >= own
    finally:
        child.kill()
        child.wait()


def test_the_first_temperature_of_a_sitting_is_read_once_and_kept(tmp_path, monkeypatch):
    read = iter([40.04, None, 55.0])
    monkeypatch.setattr(machine_state, "package_temperature", lambda: next(read))
    for _ in range(2):
        assert sitting.first_temperature_c(tmp_path, "boot/1") == 40.0
        assert sitting.first_temperature_c(tmp_path, "boot/2") is None
    assert sitting.first_temperature_c(tmp_path, "boot/3/job 7") == 55.0
    assert sitting.first_temperature_c(tmp_path, "boot/1") == 40.0


def test_a_step_of_the_wall_clock_makes_no_foreigner_of_our_own_processes(monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        own = machine_state.own_processes()
        before = machine_state.cpu_use()
        boot_time = psutil.boot_time()
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_time + 1)
        assert psutil.Process(child.pid).create_time() > 0
        assert machine_state.own_processes() == own
        after = machine_state.cpu_use()
        assert psutil.Process(child.pid) in own
        assert {process for process in own if process in after.processes} == own
        assert set(before.processes) & own == own
    finally:
        child.kill()
        child.wait()


def test_others_that_take_every_core_use_all_of_the_time_between_the_readings(monkeypatch):
    """Not of the tasks, which begin and end within: a list of processes takes its time to read."""
    listed = psutil.process_iter
    monkeypatch.setattr(
        psutil, "process_iter", lambda *given: time.sleep(0.5) or iter(list(listed(*given))[:1])
    )
    before = machine_state.cpu_use()
    after = machine_state.cpu_use()
    assert after.at_s - before.at_s >= 0.5
    cores = 4
    full = dataclasses.replace(after, busy_s=before.busy_s + (after.at_s - before.at_s) * cores)
    assert machine_state.foreign_use(before, full, set(), cores).share == pytest.approx(1.0)
