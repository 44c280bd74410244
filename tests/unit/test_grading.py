"""Grading a record and a file of samples: the same verdicts each time, bad input named by line."""

import dataclasses
import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from joules import grading, humaneval, lock, regrading
from joules.errors import UserError
from joules.files import to_json, write_json
from joules.humaneval import DATASET_SHA256, problems

TASKS = [f"HumanEval/{n}" for n in (0, 53, 55, 75)]


def prompt_rows(style: str = "base") -> dict[str, dict]:
    rows = {}
    for task_id, problem in problems().items():
        text = problem.prompt if style == "base" else f"Complete:\n{problem.prompt}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        rows[task_id] = {
            "task_id": task_id,
            "role": "problem",
            "style": style,
            "prefill": "```python\n" if style == "chat" else "",
            "text": text,
            "sha256": digest,
            "token_ids": [1],
        }
    return rows


def record(completions: dict[str, str]) -> dict:
    return {
        "study": "demo",
        "campaign": "test",
        "model": {"name": "small"},
        "runtime": {"name": "ollama"},
        "kind": "task",
        "repetition": 1,
        "tasks": [
            {
                "task_id": task,
                "completion": text,
                "finish_reason": "limit" if "cut" in text else "eos",
            }
            for task, text in completions.items()
        ],
    }


@pytest.fixture(scope="module")
def grade() -> dict:
    completions = {task: problems()[task].canonical_solution for task in TASKS}
    completions["HumanEval/53"] = "    return x - y\n"
    completions["HumanEval/55"] = "    cut = ("
    completions["HumanEval/75"] = "prose"
    return grading.grade_record(record(completions), prompt_rows(), problems(), 2)


def test_each_task_has_a_verdict_a_reason_and_the_rule_that_extracted_it(grade):
    assert [list(task.values()) for task in grade["tasks"]] == [
        ["HumanEval/0", "passed", "", "base", False],
        ["HumanEval/53", "failed", "AssertionError", "base", False],
        ["HumanEval/55", "syntax", "SyntaxError", "base", True],
        ["HumanEval/75", "no_code", "", "empty", False],
    ]
    assert (grade["passed"], grade["total"], grade["pass_at_1"]) == (1, 4, 0.25)


def test_a_grade_names_its_run_its_data_set_and_its_sandbox(grade):
    names = ("model", "runtime", "kind", "repetition", "study", "campaign", "schema")
    assert [grade[name] for name in names] == ["small", "ollama", "task", 1, "demo", "test", 1]
    assert grade["dataset_sha256"] == DATASET_SHA256
    assert set(grade["sandbox"]["probes"].values()) == {"refused"}


def test_equal_completions_give_the_same_file_but_for_the_sandbox():
    completions = {task: problems()[task].canonical_solution for task in TASKS[:2]}
    completions["HumanEval/55"] = "    raise ValueError(object())\n"
    files = []
    for workers in (1, 2):
        found = grading.grade_record(record(completions), prompt_rows(), problems(), workers)
        files.append(to_json({**found, "sandbox": None}))
    assert files[0] == files[1]


def test_a_chat_answer_is_extracted_before_it_is_graded():
    answer = "def add(x, y):\n    return x + y\n```\nThis adds them.\n"
    found = grading.grade_record(
        record({"HumanEval/53": answer}), prompt_rows("chat"), problems(), 1
    )
    assert (found["tasks"][0]["verdict"], found["tasks"][0]["rule"]) == ("passed", "fence")


@pytest.mark.parametrize(
    ("task_id", "change", "message"),
    [
        ("HumanEval/999", {}, "which HumanEval does not have"),
        ("HumanEval/53", {"drop": True}, "the file of prompts does not"),
        ("HumanEval/53", {"text": "edited"}, "was changed"),
    ],
)
def test_prompts_that_do_not_belong_to_the_record_are_refused(task_id, change, message):
    rows = prompt_rows()
    if change.get("drop"):
        del rows[task_id]
    elif change:
        rows[task_id].update(change)
    with pytest.raises(UserError, match=message):
        grading.grade_record(record({task_id: "    pass\n"}), rows, problems(), 1)


def test_an_answer_ends_where_its_prompt_says():
    answer = "    z = x + y\n# z is the sum\n    return z\n"
    for cut, verdict in (("column_0", "failed"), ("stop_strings", "passed"), (None, "failed")):
        rows = prompt_rows()
        if cut:
            rows["HumanEval/53"]["cut"] = cut
        graded = grading.grade_record(record({"HumanEval/53": answer}), rows, problems(), 1)
        assert graded["tasks"][0]["verdict"] == verdict


def test_prompts_are_read_without_the_rows_of_the_warm_up(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"role": "model"}, *prompt_rows().values(), {"role": "settle", "task_id": "settle/1"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert grading.read_prompts(path) == prompt_rows()


def test_samples_are_graded_verbatim_and_in_order(tmp_path, capsys):
    right = problems()["HumanEval/53"].canonical_solution
    samples = [
        ("HumanEval/53", right),
        ("HumanEval/55", "    return 1\n"),
        ("HumanEval/53", "x\ny"),
    ]
    source, out = tmp_path / "samples.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps({"task_id": task, "completion": text}) for task, text in samples]
    source.write_text("\n".join(lines) + "\n")
    assert grading.main([str(source), str(out), "--workers", "2"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["task_id"], row["verdict"], row["reason"]) for row in rows] == [
        ("HumanEval/53", "passed", "every test passed"),
        ("HumanEval/55", "failed", "a test did not hold (AssertionError)"),
        ("HumanEval/53", "failed", "NameError was raised"),
    ]
    assert all(row["seconds"] >= 0 for row in rows)
    assert capsys.readouterr().out == "pass@1 = 0.2500\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2: expected a JSON object with text under task_id and completion"),
        ('{"task_id": "HumanEval/1"}', "line 2: expected"),
        ('{"task_id": "HumanEval/1", "completion": 5}', "line 2: expected"),
        ('{"task_id": "MBPP/1", "completion": ""}', "line 2: HumanEval has no task 'MBPP/1'"),
    ],
)
def test_a_bad_line_is_named_before_anything_runs(tmp_path, capsys, monkeypatch, line, message):
    monkeypatch.setattr(grading.sandbox, "grade", lambda *_: pytest.fail("something ran"))
    source, out = tmp_path / "samples.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"task_id": "HumanEval/0", "completion": ""}\n' + line + "\n")
    assert grading.main([str(source), str(out)]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_missing_empty_or_binary_file_is_refused(tmp_path, content):
    source = tmp_path / "samples.jsonl"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(UserError, match=r"samples\.jsonl"):
        grading.grade_samples(source, tmp_path / "out.jsonl", 1)


def test_several_samples_of_a_task_give_the_published_estimate_of_pass_at_k(tmp_path, capsys):
    right, wrong = problems()["HumanEval/53"].canonical_solution, "    return 0\n"
    source, out = tmp_path / "samples.jsonl", tmp_path / "out.jsonl"
    rows = [{"task_id": "HumanEval/53", "completion": c} for c in (right, wrong, wrong, right)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert grading.main([str(source), str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["pass@1 = 0.5000", "pass@4 = 1.0000"]
    assert humaneval.pass_at_k(4, 2, 1) == pytest.approx(0.5)


def test_samples_with_a_byte_order_mark_windows_line_ends_and_gzip_are_read(tmp_path):
    right = problems()["HumanEval/53"].canonical_solution.replace("\n", "\r\n")
    line = json.dumps({"task_id": "HumanEval/53", "completion": right})
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n")
    packed.write_bytes(gzip.compress(line.encode()))
    for path in (plain, packed):
        assert grading.grade_samples(path, tmp_path / "out.jsonl", 1) == {1: 1.0}


def test_a_lone_surrogate_in_a_completion_gets_a_verdict(tmp_path):
    source, out = tmp_path / "s.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"task_id": "HumanEval/53", "completion": "    return \'\\ud800\'\\n"}\n')
    grading.grade_samples(source, out, 1)
    assert json.loads(out.read_text())["verdict"] in ("failed", "syntax")


def test_a_grader_that_fails_its_reference_solutions_counts_nothing():
    wrong = dataclasses.replace(problems()["HumanEval/0"], canonical_solution="    return None\n")
    known = {**problems(), "HumanEval/0": wrong}
    with pytest.raises(UserError, match=r"not sound on this machine: reference HumanEval/0"):
        grading.grade_record(record({"HumanEval/0": "x"}), prompt_rows(), known, 1)


def small_campaign(folder: Path, verdict: str) -> Path:
    """A campaign of one record of one task, and its archived grade."""
    write_json(
        folder / "records/small/ollama/task/1.json", record({"HumanEval/53": "    return 0"})
    )
    grade = {"total": 1, "tasks": [{"task_id": "HumanEval/53", "verdict": verdict, "reason": ""}]}
    write_json(folder / "grades/small/ollama/task/1.json", grade)
    (folder / "prompts").mkdir()
    rows = [json.dumps(row) for row in prompt_rows().values()]
    (folder / "prompts/small.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_a_campaign_is_graded_anew_and_every_other_verdict_is_named(tmp_path, capsys):
    same = small_campaign(tmp_path / "same", "failed")
    assert regrading.main([str(same), str(tmp_path / "new")]) == 0
    assert "0 of 1 verdicts differ" in capsys.readouterr().out
    other = small_campaign(tmp_path / "other", "passed")
    before = {path: path.read_bytes() for path in other.rglob("*.json*")}
    assert regrading.main([str(other), str(tmp_path / "newer")]) == 1
    said = capsys.readouterr()
    assert "HumanEval/53: passed () is now failed" in said.err
    assert "1 of 1 verdicts differ" in said.out
    assert {path: path.read_bytes() for path in other.rglob("*.json*")} == before
    assert (tmp_path / "newer/grades/small/ollama/task/1.json").exists()
    assert regrading.main([str(other), str(other / "inside")]) == 1
    assert regrading.main([str(tmp_path / "absent"), str(tmp_path / "x")]) == 1


def test_grading_by_hand_waits_for_a_measurement(tmp_path):
    source = tmp_path / "s.jsonl"
    source.write_text('{"task_id": "HumanEval/53", "completion": "    return 0"}\n')
    command = [sys.executable, "-P", "-m", "joules.grading", str(source), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(grading.__file__).parents[1])}
    with lock.measuring(lambda line: None, lock.LOCK_FILE):
        started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert started.stderr is not None and "wait" in started.stderr.readline().lower()
        assert not (tmp_path / "out").exists()
    assert started.wait(60) == 0
    started.stderr.close()
