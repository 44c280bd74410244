"""What is read of Slurm, what is asked of it, and what a job may begin; `squeue` is a recording."""

import math
import os
import sys
from pathlib import Path

import pytest

from joules.commands import slurm as submitting
from joules.commands import slurm_job
from joules.core import paths
from joules.core.conditions import Limits
from joules.core.errors import UserError
from joules.core.known import Unknown
from joules.core.machine_facts import Allocation
from joules.core.plan import plan_of
from joules.core.study import Study
from joules.machine import slurm
from joules.measure import allotted, time_to_end, validity

# What squeue of Slurm 22.05.8 printed in our columns: a job with a node of its own; a shared one;
# an array of which one task has the array's id (4); all CPUs of a node that is shared, no limit.
ALONE = "1|NO|2|29:59|30:00\n"
SHARED = "2|OK|1|29:59|30:00\n"
ARRAY = "4|NO|2|29:57|30:00\n5|NO|2|29:57|30:00\n"
UNLIMITED = "3|OK|2|UNLIMITED|UNLIMITED\n1|NO|2|29:56|30:00\n2|OK|1|29:59|30:00\n"
LIMITS = Limits()
STUDY = Study(
    study="small", models=("m",), runtimes=("a", "b"), kinds=("task", "control", "quality")
)
RUNS = plan_of(STUDY)


def given(exclusive: bool | None = True) -> Allocation:
    return Allocation(
        system="slurm", job="17", node="n1", partition="all", exclusive=exclusive, basis="so it is"
    )


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **said: str) -> None:
    """Let commands of these names print recorded words, and fail where they begin with `!`."""
    for name, text in said.items():
        words = folder / f"{name}.txt"
        words.write_text(text.lstrip("!"))
        end = f"cat {words} >&2; exit 1" if text.startswith("!") else f"cat {words}"
        (folder / name).write_text(f"#!/bin/sh\n{end}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:42", 42),
        ("28:35", 1715),
        ("4:00:05", 14405),
        ("2-01:02:03", 176523),
        ("-1:30", -90),
        ("UNLIMITED", math.inf),
        ("NOT_SET", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_times_of_slurm_become_seconds_and_words_are_no_time(text, seconds):
    assert slurm.seconds_of(text) == seconds


def test_a_job_is_read_from_its_own_line_alone():
    assert slurm.queued_of(ALONE, "1") == slurm.Queued("NO", 2, 1799, 1800)
    assert slurm.queued_of(ARRAY, "4") == slurm.Queued("NO", 2, 1797, 1800)
    assert slurm.queued_of(UNLIMITED, "2") == slurm.Queued("OK", 1, 1799, 1800)
    assert slurm.queued_of(ARRAY, "7") is None
    assert slurm.queued_of("", "2") is None


def test_a_step_is_called_as_sstat_calls_it():
    assert slurm.step({}) is None and slurm.count({}) is None
    assert slurm.step({"SLURM_JOB_ID": "7"}) == "7.batch"
    assert slurm.step({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "4294967291"}) == "7.batch"
    assert slurm.step({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "4294967290"}) == "7.interactive"
    assert slurm.step({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}) == "7.0"


# What sstat of Slurm 22.05.8 printed of a batch step, where the plug-in pm_counters counts (twice);
# without a plug-in; of a step that had ended.
COUNTED = ("5\n", "112\n")
NOT_COUNTED = ("0\n", "0\n")
GONE = ("5\n", "!sstat: error: StepId=1.7 not found running.\n")


@pytest.mark.parametrize(
    ("said", "joules", "basis"),
    [
        (COUNTED, 107.0, "ConsumedEnergyRaw of sstat: 5, then 112"),
        (NOT_COUNTED, None, "ConsumedEnergyRaw of sstat: 0, then 0: none was counted"),
        (COUNTED[::-1], None, "ConsumedEnergyRaw of sstat: 112, then 5: none was counted"),
        (GONE, None, "sstat failed: sstat: error: StepId=1.7 not found running."),
        (("\n", "112\n"), None, "sstat tells no energy of step 1.batch"),
    ],
)
def test_the_energy_that_slurm_counted_is_a_difference_or_unknown_with_a_reason(
    said, joules, basis, tmp_path, monkeypatch
):
    counts = []
    for words in said:
        programs(tmp_path, monkeypatch, sstat=words)
        counts.append(slurm.count({"SLURM_JOB_ID": "1"}))
    found = slurm.step_energy(*counts)
    assert (found.joules, found.basis) == (joules, basis) and found.duration_s > 0
    assert slurm.step_energy(None, None) is None


def test_a_node_is_exclusive_only_where_slurm_says_so_and_unknown_has_a_reason():
    seen = slurm.queued_of(ALONE, "1")
    assert slurm.alone(seen, 2) == (True, "OverSubscribe=NO, 2 of 2 CPUs")
    assert slurm.alone(slurm.queued_of(UNLIMITED, "3"), 2)[0] is False, "all CPUs are not enough"
    assert slurm.alone(slurm.queued_of(SHARED, "2"), None) == (False, "OverSubscribe=OK, 1 CPUs")
    assert slurm.alone(Unknown("squeue failed: no"), 2) == (None, "squeue failed: no")


def test_outside_a_job_there_is_no_allocation_and_no_end(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert slurm.allocation({}) is None and slurm.usable_s({}) is None
    assert slurm.allocation({"SLURM_JOB_ID": ""}) is None


def test_the_allocation_is_what_slurm_says_of_job_node_and_sharing(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue=ARRAY, sinfo="2\n")
    environment = {"SLURM_JOB_ID": "5", "SLURMD_NODENAME": "n2", "SLURM_JOB_PARTITION": "all"}
    task = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "1"}
    found = slurm.allocation(environment | task)
    assert (found.job, found.node, found.partition) == ("5_1", "n2", "all")
    assert (found.exclusive, found.basis) == (True, "OverSubscribe=NO, 2 of 2 CPUs")
    assert slurm.allocation(environment).job == "5"


def test_where_slurm_does_not_answer_it_is_unknown_by_its_own_words(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue="!slurm_load_jobs error: Unable to contact controller\n")
    environment = {"SLURM_JOB_ID": "5", "SLURMD_NODENAME": "n1"}
    found = slurm.allocation(environment)
    reason = "squeue failed: slurm_load_jobs error: Unable to contact controller"
    assert (found.exclusive, found.basis, found.node) == (None, reason, "n1")
    assert slurm.usable_s(environment) == Unknown(reason)
    assert slurm.usable_s(environment | {"SLURM_JOB_END_TIME": "0"}) < 0
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert "cannot be run" in slurm.allocation(environment).basis


def test_a_shell_of_salloc_on_the_login_node_is_not_taken_for_a_node_of_its_own(
    tmp_path, monkeypatch
):
    programs(tmp_path, monkeypatch, squeue=ALONE, sinfo="2\n")
    found = slurm.allocation({"SLURM_JOB_ID": "1"})
    assert (found.node, found.exclusive) == (None, None)
    assert found.basis == "Slurm did not start this process on a node: no SLURMD_NODENAME"


def test_the_end_is_that_of_squeue_less_the_notice(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue=ALONE)
    told = {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "0"}
    assert slurm.usable_s(told) == 1799 - 180 - 60
    programs(tmp_path, monkeypatch, squeue=UNLIMITED)
    assert slurm.usable_s({"SLURM_JOB_ID": "3"}) == math.inf
    assert (slurm.notice_s(600), slurm.notice_s(3600), slurm.notice_s(86400)) == (60, 300, 300)


def test_variables_of_the_user_change_neither_what_is_printed_nor_what_is_asked_for(
    tmp_path, monkeypatch
):
    programs(tmp_path, monkeypatch)
    (tmp_path / "env_of").symlink_to("/usr/bin/env")
    for name in ("SQUEUE_FORMAT", "SBATCH_TIMELIMIT", "SBATCH_ACCOUNT", "SLURM_CONF"):
        monkeypatch.setenv(name, "mine")
    seen = slurm.asked("env_of")
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert {"SBATCH_ACCOUNT", "SLURM_CONF"} <= names
    assert not {"SQUEUE_FORMAT", "SBATCH_TIMELIMIT"} & names


def test_a_shared_node_is_refused_by_name_unless_such_runs_are_kept():
    allotted.refuse_shared(None, LIMITS)
    allotted.refuse_shared(given(True), LIMITS)
    allotted.refuse_shared(given(None), LIMITS)
    with pytest.raises(UserError, match=r"job 17 does not have the node n1 for itself.*flag_only"):
        allotted.refuse_shared(given(False), LIMITS)
    allotted.refuse_shared(given(False), Limits(flag_only=True))


def test_the_rule_is_broken_kept_or_not_checked_with_the_reason():
    broken, kept = (validity.allocation_check(given(each)) for each in (False, True))
    assert (broken.code, broken.broken, kept.broken) == ("not_exclusive", True, False)
    assert not validity.judged([broken], flag_only=False).valid
    assert validity.judged([broken], flag_only=True).codes[0].invalidates is False
    assert validity.allocation_check(given(None)).not_checked == "so it is"
    assert validity.allocation_check(None).not_checked == "no job of a batch system measures"


def test_a_block_is_one_piece_and_each_quality_run_another():
    first = allotted.together(RUNS[0], RUNS)
    assert len(first) == 3 and {run.repetition for run in first} == {1}
    assert "quality" not in {run.kind for run in first}
    assert allotted.together(RUNS[-1], RUNS) == [RUNS[-1]]


@pytest.mark.parametrize(
    ("usable_s", "needed_s", "refused"),
    [(100.0, 90.0, False), (100.0, 92.0, True), (-5.0, 1.0, True), (math.inf, 1e9, False)],
)
def test_no_block_is_begun_that_would_not_end_in_time(
    tmp_path, monkeypatch, usable_s, needed_s, refused
):
    monkeypatch.setattr(slurm, "usable_s", lambda: usable_s)
    monkeypatch.setattr(time_to_end, "expected_s", lambda *_: needed_s)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    stopped = paths.stopped_file(tmp_path)
    if not refused:
        allotted.require_time(tmp_path, STUDY, RUNS[0], RUNS, "sitting", print)
        assert not stopped.exists()
        return
    with pytest.raises(allotted.TooLittleTimeError, match="Block 1 would take about"):
        allotted.require_time(tmp_path, STUDY, RUNS[0], RUNS, "sitting", print)
    assert "Slurm's job 17 can be used" in stopped.read_text()
    monkeypatch.setattr(allotted, "begun", lambda *_: True)
    allotted.require_time(tmp_path, STUDY, RUNS[1], RUNS, "sitting", print)


def test_a_time_that_is_not_known_is_said_and_costs_no_run(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(slurm, "usable_s", lambda: Unknown("squeue failed: no"))
    allotted.require_time(tmp_path, STUDY, RUNS[0], RUNS, "sitting", said.append)
    monkeypatch.setattr(slurm, "usable_s", lambda: 1.0)  # no warm-up is there to tell a speed
    allotted.require_time(tmp_path, STUDY, RUNS[0], RUNS, "sitting", said.append)
    assert len(said) == 2 and said[0].endswith("not known: squeue failed: no")
    assert said[1].startswith("it is not known whether this block ends")


@pytest.mark.parametrize("hours", ["", "0", "-1", "soon", "1e3", "nan", "1:30", "9000"])
def test_hours_that_are_no_time_limit_are_refused(hours):
    with pytest.raises(UserError, match="HOURS is"):
        submitting.asked_for("small.yaml", "", hours, "")


@pytest.mark.parametrize("nodes", ["0", "-1", "two", "1.5", "1001"])
def test_nodes_that_are_no_number_are_refused(nodes):
    with pytest.raises(UserError, match="NODES is"):
        submitting.asked_for("small.yaml", "", "1", nodes)


def test_a_script_asks_for_a_node_of_its_own_and_for_a_notice():
    asked = submitting.asked_for("my study.yaml", "big", "12", "2")
    assert asked.command == "make slurm CONFIG='my study.yaml' PARTITION=big HOURS=12 NODES=2"
    lines = submitting.sbatch_options(asked, "a/b", "out.log", {"array": "0-1"}).splitlines()
    wanted = ["--nodes=1", "--exclusive", "--mem=0", "--signal=B:TERM@300", "--open-mode=append"]
    wanted += ["--time=720", "--partition=big", "--array=0-1", "--job-name=a-b"]
    assert {f"#SBATCH {each}" for each in wanted} <= set(lines)
    short = submitting.asked_for("s.yaml", "", "0.01", "")
    assert short.minutes == 1 and "PARTITION" not in short.command
    assert "#SBATCH --signal=B:TERM@6" in submitting.sbatch_options(short, "s", "o", {})


def test_campaigns_that_were_begun_are_found_by_the_node_they_name(tmp_path):
    assert submitting.begun_on(tmp_path) is None and submitting.begun_below(tmp_path) == []
    for node in ("n2", "n1"):
        slurm_job.bind(tmp_path / node, node)
    assert submitting.begun_below(tmp_path) == ["n1", "n2"]
    slurm_job.bind(tmp_path / "n1", "n1")
    with pytest.raises(UserError, match="begun on the node n1, and the job runs on n9"):
        slurm_job.bind(tmp_path / "n1", "n9")


def test_a_lock_is_taken_away_where_its_job_has_ended_and_only_there(tmp_path, monkeypatch):
    unlock = [sys.executable, "-c", f"open({str(tmp_path / 'unlocked')!r}, 'w')"]
    (tmp_path / "slurm").mkdir()
    running = slurm_job.take_over(tmp_path, "17", unlock, tmp_path)
    assert running.read_text() == "17\n" and not (tmp_path / "unlocked").exists()
    monkeypatch.setattr(slurm, "runs", lambda job: True)
    with pytest.raises(UserError, match="Job 17 runs this campaign.*scancel 17"):
        slurm_job.take_over(tmp_path, "18", unlock, tmp_path)
    monkeypatch.setattr(slurm, "runs", lambda job: Unknown("squeue failed: no"))
    with pytest.raises(UserError, match="not known: squeue failed: no"):
        slurm_job.take_over(tmp_path, "18", unlock, tmp_path)
    assert not (tmp_path / "unlocked").exists()
    monkeypatch.setattr(slurm, "runs", lambda job: False)
    slurm_job.take_over(tmp_path, "18", unlock, tmp_path)
    assert (tmp_path / "unlocked").exists() and running.read_text() == "18\n"


def test_a_node_of_another_processor_than_the_runtimes_were_built_for_is_refused(tmp_path):
    with pytest.raises(UserError, match="compiled for no node yet; the node n2"):
        slurm_job.check_processor(tmp_path, "n2")
    file = slurm_job.processor_file(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(slurm_job.this_processor())
    slurm_job.check_processor(tmp_path, "n2")
    file.write_text("Another CPU\nfpu\n")
    with pytest.raises(UserError, match="compiled for Another CPU; the node n2"):
        slurm_job.check_processor(tmp_path, "n2")
