"""The data set is the published one."""

import gzip

import pytest

from joules.core.errors import UserError
from joules.inputs import humaneval


def test_there_are_164_problems_in_the_files_order():
    assert list(humaneval.problems()) == [f"HumanEval/{n}" for n in range(164)]


def test_prompts_keep_every_byte_also_outside_ascii():
    prompts = {task: problem.prompt for task, problem in humaneval.problems().items()}
    assert all(prompt.endswith("\n") for prompt in prompts.values())
    assert sum(prompt.startswith("\n") for prompt in prompts.values()) == 142
    sources = {t: p.prompt + p.test + p.canonical_solution for t, p in humaneval.problems().items()}
    outside = [int(task.split("/")[1]) for task, text in sources.items() if not text.isascii()]
    assert outside == [72, 74, 84, 92, 125, 126, 132, 134, 137, 147]


def test_the_header_holds_the_helpers_that_tests_call():
    problems = humaneval.problems()
    assert "def poly(" in problems["HumanEval/32"].header
    assert "def encode_shift(" in problems["HumanEval/50"].header
    assert "def find_zero" not in problems["HumanEval/32"].header


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", gzip.compress(b'{"task_id": "HumanEval/0"}\n')],
    ids=["empty", "other", "edited"],
)
def test_another_file_is_refused(monkeypatch, tmp_path, content):
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(content)
    monkeypatch.setattr(humaneval, "archive_path", lambda: path)
    with pytest.raises(UserError, match=r"not the published HumanEval.*Reinstall"):
        humaneval.problems.__wrapped__()


def test_a_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(humaneval, "archive_path", lambda: tmp_path / "gone.gz")
    with pytest.raises(UserError, match=r"gone\.gz cannot be read"):
        humaneval.problems.__wrapped__()
