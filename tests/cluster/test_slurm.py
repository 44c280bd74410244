"""Studies as jobs of a real Slurm: finished, cut off, cancelled, on two nodes, flagged."""

import re

import pytest
from real_slurm import until

RUNS = 4  # one arm and its control, in two blocks or of two models


def blocks_of(records):
    """Return the sittings of each block that has both of its runs."""
    sittings = {}
    for record in records:
        sittings.setdefault(record["repetition"], []).append(record["session"])
    return {block: set(found) for block, found in sittings.items() if len(found) == 2}


def test_a_study_as_a_job_is_finished_and_its_records_know_job_and_node(study):
    (job,) = study.submitted(0.5)
    ended = study.cluster.ended(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), study.said()
    assert (ended["OverSubscribe"], ended["NumNodes"], ended["NumCPUs"]) == ("NO", "1", "2")
    records = study.records()
    assert len(records) == RUNS and (study.results / "archive/small.zip").exists()
    for record in records:
        given = record["environment"]["allocation"]
        assert (given["system"], given["job"], given["partition"]) == ("slurm", job, "all")
        assert (given["node"], given["exclusive"]) == (ended["NodeList"], True)
        assert given["basis"] == "OverSubscribe=NO, 2 of 2 CPUs"
        assert record["session"].endswith(f"/{job}")
        checks = {each["code"]: each for each in record["validity"]["checks"]}
        assert (checks["not_exclusive"]["seen"], checks["not_exclusive"]["not_checked"]) == (
            True,
            None,
        )
        assert record["environment"]["lock"]
        counted = record["environment"]["step_energy"]
        assert counted["joules"] is None and "none was counted" in counted["basis"]
    before = study.files()
    (again,) = study.submitted(0.5)
    ended = study.cluster.ended(again)
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), study.said()
    assert study.files() == before


def test_no_block_is_begun_that_would_not_end_in_time_and_the_same_command_goes_on(study):
    study.configure(blocks=6, windows={"idle_s": 5})
    four_minutes, plenty = 0.06, 0.5
    (job,) = study.submitted(four_minutes)
    ended = study.cluster.ended(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), study.said()
    said = study.said()
    assert re.search(r"stopped between blocks, as it should be: Block \d would take about", said)
    assert "make slurm CONFIG=small.yaml HOURS=0.06" in said
    before = study.files()
    assert before and len(before) == 2 * len(blocks_of(study.records()))
    study.submitted(plenty)
    study.has(len(before) + 2)
    after = study.files()
    assert {name: after[name] for name in before} == before
    assert all(len(sittings) == 1 for sittings in blocks_of(study.records()).values())


@pytest.mark.parametrize("how", ["time limit", "scancel"])
def test_a_job_that_is_ended_in_a_block_loses_nothing_and_the_same_command_goes_on(study, how):
    # One block, of which most is left for longer than Slurm takes to look at time limits (30 s).
    study.configure(models=["parrot-1m", "parrot-3m"], blocks=1, windows={"idle_s": 8})
    (job,) = study.submitted(0.5)
    until(lambda: study.files() and "run 2 of" in study.said(), "the second run")
    if how == "scancel":
        study.cluster.call("scancel", job)
        assert study.cluster.ended(job)["JobState"] == "CANCELLED"
    else:
        study.cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        assert study.cluster.ended(job)["JobState"] in ("TIMEOUT", "FAILED")
    said = until(lambda: "Slurm ended this job" in study.said() and study.said(), "its last words")
    assert "make slurm CONFIG=small.yaml HOURS=0.5" in said
    before = study.files()
    assert 0 < len(before) < RUNS
    (job,) = study.submitted(0.5)
    study.has(RUNS)
    node = study.cluster.job(job)["ReqNodeList"]
    assert {record["environment"]["allocation"]["node"] for record in study.records()} == {node}
    after = study.files()
    assert len(after) == RUNS and {name: after[name] for name in before} == before
    assert len({record["session"] for record in study.records()}) == 2


def test_an_array_measures_a_campaign_on_each_of_two_nodes_and_goes_on_on_them(study):
    prepared, array = study.submitted(0.5, "NODES=2", "PARTITION=all")
    study.has(RUNS + 1)  # of 2 * RUNS: at least one of the campaigns is cut off
    jobs = {job["JobId"]: job for job in study.cluster.jobs()}
    assert jobs[prepared]["JobState"] == "COMPLETED", study.said("slurm/prepare.log")
    tasks = [job for job in jobs.values() if job.get("ArrayJobId") == array]
    assert {task["NodeList"] for task in tasks} == {"n1", "n2"}
    before = study.files()
    assert 0 < len(before) < 2 * RUNS
    for record in study.records():
        given = record["environment"]["allocation"]
        assert given["job"] in (f"{array}_0", f"{array}_1") and given["exclusive"]
    again = study.submitted(0.5, "NODES=2", "PARTITION=all")
    asked = {study.cluster.job(job)["ReqNodeList"] for job in again[1:]}
    assert len(again) == 3 and asked == {"n1", "n2"}
    study.has(2 * RUNS)
    after = study.files()
    # Each was cut off as soon as it had a record, which the workflow may not have noted by then.
    assert len(after) == 2 * RUNS and len(set(before.items()) - set(after.items())) <= 2
    journal = {kept.read_bytes() for kept in study.results.rglob("journal/*.json")}
    assert set(before.values()) | set(after.values()) <= journal
    for record in study.records():
        node = record["environment"]["allocation"]["node"]
        assert record["study"] == f"small/{node}" and record["campaign"] == f"small-{node}"


def test_a_shared_node_is_flagged_where_the_study_says_so(study):
    study.configure(blocks=1, limits={"flag_only": True})
    study.submitted_shared()
    study.has(2)
    for record in study.records():
        given = record["environment"]["allocation"]
        assert (given["exclusive"], given["basis"]) == (False, "OverSubscribe=OK, 1 of 2 CPUs")
        assert "not_exclusive" in [rule["code"] for rule in record["validity"]["codes"]]
        assert record["validity"]["valid"]


def test_what_slurm_does_not_take_is_told_in_its_own_words_and_nothing_is_submitted(study):
    done = study.make(0.5, "PARTITION=nowhere")
    assert done.returncode == 2
    assert "invalid partition specified: nowhere" in done.stderr
    study.configure(windows={"idle_s": 600})
    done = study.make(0.5)
    assert done.returncode == 2 and "one block of `small` is forecast to take" in done.stderr
    assert not study.cluster.call("squeue", "--noheader", "--name=small")


def test_the_same_command_while_a_job_runs_waits_for_it(study):
    first, second = study.submitted(0.5)[0], study.submitted(0.5)[0]
    until(lambda: study.cluster.job(first)["JobState"] == "RUNNING", "the first job")
    assert study.cluster.job(second)["JobState"] == "PENDING"
    assert study.cluster.job(second)["Dependency"].startswith("singleton")
    study.cluster.call("scancel", first, second)
    study.cluster.ended(first)
