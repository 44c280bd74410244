"""Grading a record: the same verdicts each time, and nothing that does not belong to it."""

import dataclasses

import graded_run
import msgspec
import pytest

from joules.core.errors import UserError
from joules.core.files import to_json
from joules.core.grade_file import Grade, SandboxLimits
from joules.core.prompts_file import PromptsFile
from joules.grade import grading
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import DATASET_SHA256, problems

TASKS = [f"HumanEval/{n}" for n in (0, 53, 55, 75)]
NONCE = sandbox.new_nonce()


@pytest.fixture(scope="module")
def grade() -> Grade:
    completions = {task: problems()[task].canonical_solution for task in TASKS}
    completions["HumanEval/53"] = "    return x - y\n"
    completions["HumanEval/55"] = "    cut = ("
    completions["HumanEval/75"] = "prose"
    return grading.grade_record(
        graded_run.record(completions), graded_run.prompts(), problems(), 2, NONCE
    )


def test_each_task_has_a_verdict_a_reason_and_the_rule_that_extracted_it(grade):
    assert [msgspec.structs.astuple(task) for task in grade.tasks] == [
        ("HumanEval/0", "passed", "", "base", False),
        ("HumanEval/53", "failed", "AssertionError", "base", False),
        ("HumanEval/55", "syntax", "SyntaxError", "base", True),
        ("HumanEval/75", "no_code", "", "empty", False),
    ]
    assert (grade.passed, grade.total, grade.pass_at_1) == (1, 4, 0.25)
    assert (grade.gates.reference_passed, grade.gates.empty_passed) == (4, 0)


def test_a_grade_names_its_run_its_data_set_and_its_sandbox(grade):
    names = ("model", "runtime", "kind", "repetition", "study", "campaign", "schema")
    found = [getattr(grade, name) for name in names]
    assert found == ["small", "ollama", "task", 1, "demo", "test", 1]
    assert grade.dataset_sha256 == DATASET_SHA256
    assert grade.nonce == NONCE and len(set(NONCE)) > 1
    assert set(grade.sandbox.probes.values()) == {"refused"}
    assert grade.sandbox.limits == SandboxLimits(cpu_s=3.0, wall_s=10.0, memory_bytes=1 << 30)


def test_a_run_without_answers_has_no_share_of_passed_answers():
    found = grading.grade_record(graded_run.record({}), graded_run.prompts(), problems(), 1, NONCE)
    assert (found.passed, found.total, found.pass_at_1) == (0, 0, None)


def test_equal_completions_give_the_same_file_but_for_the_sandbox():
    completions = {task: problems()[task].canonical_solution for task in TASKS[:2]}
    completions["HumanEval/55"] = "    raise ValueError(object())\n"
    files = []
    for workers in (1, 2):
        found = grading.grade_record(
            graded_run.record(completions), graded_run.prompts(), problems(), workers, NONCE
        )
        files.append(to_json({**msgspec.to_builtins(found), "sandbox": None}))
    assert files[0] == files[1]


@pytest.mark.parametrize("template", [graded_run.CHATML, graded_run.MISTRAL])
def test_a_chat_answer_is_read_from_the_code_block_that_its_prompt_opened(template):
    answer = "STEP = 0\n\ndef add(x, y):\n    return x + y + STEP\n```\nThis adds them.\n"
    prompts = graded_run.prompts("chat", template=template)
    record = graded_run.record({"HumanEval/53": answer})
    found = grading.grade_record(record, prompts, problems(), 1, NONCE)
    assert (found.tasks[0].verdict, found.tasks[0].rule) == ("passed", "fence")


def without(prompts: PromptsFile) -> PromptsFile:
    rows = [row for row in prompts.prompts if row.task_id != "HumanEval/53"]
    return PromptsFile(prompts.model, rows)


def edited(prompts: PromptsFile) -> PromptsFile:
    rows = [msgspec.structs.replace(row, text="edited") for row in prompts.prompts]
    return PromptsFile(prompts.model, rows)


@pytest.mark.parametrize(
    ("task_id", "change", "message"),
    [
        ("HumanEval/999", lambda prompts: prompts, "which HumanEval does not have"),
        ("HumanEval/53", without, "the file of prompts does not"),
        ("HumanEval/53", edited, "was changed"),
    ],
)
def test_prompts_that_do_not_belong_to_the_record_are_refused(task_id, change, message):
    prompts = change(graded_run.prompts())
    with pytest.raises(UserError, match=message):
        grading.grade_record(
            graded_run.record({task_id: "    pass\n"}), prompts, problems(), 1, NONCE
        )


def test_an_answer_ends_where_its_prompt_says():
    record = graded_run.record({"HumanEval/53": "    z = x + y\n# z is the sum\n    return z\n"})
    for cut, verdict in (("column_0", "failed"), ("stop_strings", "passed"), ("", "failed")):
        found = grading.grade_record(record, graded_run.prompts(cut=cut), problems(), 1, NONCE)
        assert found.tasks[0].verdict == verdict


def test_only_the_prompts_of_problems_are_those_of_the_answers():
    settle = msgspec.structs.replace(graded_run.row("HumanEval/53", "settle"), role="settle")
    known = graded_run.prompts()
    record = graded_run.record({"HumanEval/53": "    return x + y\n"})
    both = PromptsFile(known.model, [*known.prompts, settle])
    assert grading.grade_record(record, both, problems(), 1, NONCE).passed == 1
    with pytest.raises(UserError, match="the file of prompts does not"):
        grading.grade_record(record, PromptsFile(known.model, [settle]), problems(), 1, NONCE)


def test_a_grader_that_fails_its_reference_solutions_counts_nothing():
    wrong = dataclasses.replace(problems()["HumanEval/0"], canonical_solution="    return None\n")
    known = {**problems(), "HumanEval/0": wrong}
    record = graded_run.record({"HumanEval/0": "x"})
    with pytest.raises(UserError, match=r"not sound on this machine: reference HumanEval/0"):
        grading.grade_record(record, graded_run.prompts(), known, 1, NONCE)


def test_a_grader_that_passes_an_empty_answer_counts_nothing(monkeypatch):
    passed = [sandbox.Verdict("any", "passed")]
    monkeypatch.setattr(sandbox, "grade", lambda jobs, workers, nonce: passed * len(jobs))
    record = graded_run.record({"HumanEval/0": "x"})
    with pytest.raises(UserError, match=r"not sound on this machine: empty HumanEval/0"):
        grading.grade_record(record, graded_run.prompts(), problems(), 1, NONCE)
