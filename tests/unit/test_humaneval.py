"""The data set is the published one, and pass@k is the published estimate."""

import gzip
import math

import pytest

from joules import humaneval
from joules.errors import UserError


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


@pytest.mark.parametrize(
    ("samples", "correct", "k"), [(1, 0, 1), (1, 1, 1), (10, 3, 5), (20, 7, 10)]
)
def test_pass_at_k_is_the_published_estimate(samples, correct, k):
    expected = 1 - math.comb(samples - correct, k) / math.comb(samples, k)
    assert humaneval.pass_at_k(samples, correct, k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("samples", "correct", "k"), [(0, 0, 1), (1, 2, 1), (5, -1, 1), (5, 1, 6)])
def test_pass_at_k_refuses_impossible_counts(samples, correct, k):
    with pytest.raises(UserError, match="It needs 0 <= correct"):
        humaneval.pass_at_k(samples, correct, k)
