"""Grading an archived campaign anew: each verdict that differs is named, nothing is changed."""

from pathlib import Path

import graded_run
import msgspec
import pytest
from demonstration_campaigns import COMMITTED

from joules.commands import regrade
from joules.core import stored
from joules.core.grade_file import Grade, GradedTask, VerdictName

RECORD = graded_run.record({"HumanEval/53": "    return 0"})
ARCHIVED = stored.read_grade(COMMITTED / "grades/parrot-1m/ollama/task/1.json")
NAME = "small/ollama/task/1.json"


def graded(verdicts: dict[str, VerdictName]) -> Grade:
    tasks = [GradedTask(task_id, name, "", "base", False) for task_id, name in verdicts.items()]
    return msgspec.structs.replace(ARCHIVED, tasks=tasks, total=len(tasks))


def small_campaign(folder: Path, verdict: VerdictName) -> Path:
    """A campaign of one record of one task, and its archived grade."""
    stored.write_record(folder / "records" / NAME, RECORD)
    stored.write_grade(folder / "grades" / NAME, graded({"HumanEval/53": verdict}))
    stored.write_prompts_file(folder / "prompts/small.jsonl", graded_run.prompts())
    return folder


def test_a_campaign_is_graded_anew_and_every_other_verdict_is_named(tmp_path, capsys):
    same = small_campaign(tmp_path / "same", "failed")
    assert regrade.main([str(same), str(tmp_path / "new")]) == 0
    assert "0 of 1 verdicts differ" in capsys.readouterr().out
    other = small_campaign(tmp_path / "other", "passed")
    before = {path: path.read_bytes() for path in other.rglob("*.json*")}
    assert regrade.main([str(other), str(tmp_path / "newer")]) == 1
    said = capsys.readouterr()
    assert f"{NAME}: HumanEval/53: passed () is now failed (AssertionError)" in said.err
    assert "1 of 1 verdicts differ" in said.out
    assert {path: path.read_bytes() for path in other.rglob("*.json*")} == before
    assert stored.read_grade(tmp_path / "newer/grades" / NAME).passed == 0


def test_a_record_without_an_archived_grade_is_named_and_not_compared(tmp_path, capsys):
    campaign = small_campaign(tmp_path / "campaign", "failed")
    (campaign / "grades" / NAME).unlink()
    assert regrade.main([str(campaign), str(tmp_path / "new")]) == 1
    said = capsys.readouterr()
    assert f"{NAME}: no archived grade to compare with" in said.err
    assert "0 of 0 verdicts differ" in said.out


def test_a_grade_is_repeated_with_what_its_tests_drew(tmp_path):
    campaign = small_campaign(tmp_path / "campaign", "failed")
    assert regrade.main([str(campaign), str(tmp_path / "new")]) == 0
    assert (
        ARCHIVED.nonce and stored.read_grade(tmp_path / "new/grades" / NAME).nonce == ARCHIVED.nonce
    )


def test_an_older_grade_whose_tests_drew_without_a_nonce_is_repeated_without_one(tmp_path, older):
    campaign = small_campaign(tmp_path / "campaign", "failed")
    assert stored.read_grade(older / "grades/parrot-1m/ollama/task/1.json").nonce is None
    known = stored.read_grade(campaign / "grades" / NAME)
    stored.write_grade(campaign / "grades" / NAME, msgspec.structs.replace(known, nonce=None))
    assert regrade.main([str(campaign), str(tmp_path / "old")]) == 0
    assert stored.read_grade(tmp_path / "old/grades" / NAME).nonce is None


def test_tasks_that_only_one_of_two_grades_has_are_differences():
    old = graded({"HumanEval/0": "passed", "HumanEval/1": "failed"})
    new = graded({"HumanEval/0": "passed", "HumanEval/2": "timeout"})
    assert regrade.differences(old, new) == [
        "HumanEval/2: not graded before, is now timeout ()",
        "HumanEval/1: is no longer in the record",
    ]
    assert regrade.differences(old, old) == []


@pytest.mark.parametrize(
    ("campaign", "target", "message"),
    [
        ("campaign", "campaign/inside", "which is kept as it is"),
        ("campaign", "campaign", "which is kept as it is"),
        ("absent", "new", "holds no records"),
        ("", "new", "it is empty"),
    ],
)
def test_folders_that_cannot_be_meant_are_bad_use(
    tmp_path, monkeypatch, capsys, campaign, target, message
):
    small_campaign(tmp_path / "campaign", "failed")
    monkeypatch.chdir(tmp_path)
    assert regrade.main([campaign, target]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and message in said
