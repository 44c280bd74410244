"""Grading a record and a file of samples: the same verdicts each time, bad input named by line."""

import hashlib
import json

import pytest

from joules import grading
from joules.errors import UserError
from joules.files import to_json
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
        ("HumanEval/53", "passed", ""),
        ("HumanEval/55", "failed", "AssertionError"),
        ("HumanEval/53", "failed", "NameError"),
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
