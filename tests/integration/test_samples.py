"""Grading a file of samples: right verdicts in order, bad input named by line, pass@k."""

import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from joules.commands import grade
from joules.core.errors import UserError
from joules.core.places import SCRIPTS
from joules.grade import samples
from joules.grade.samples import GradedSample
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import problems
from joules.machine import lock


@pytest.fixture
def nothing_runs(monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "grade", lambda *_, **__: pytest.fail("something ran"))


def written(path: Path, given: list[tuple[str, str]]) -> Path:
    rows = [json.dumps({"task_id": task, "completion": text}) + "\n" for task, text in given]
    path.write_text("".join(rows))
    return path


def test_samples_are_graded_verbatim_and_in_order(tmp_path, capsys):
    given = [
        ("HumanEval/53", problems()["HumanEval/53"].canonical_solution),
        ("HumanEval/55", "    return 1\n"),
        ("HumanEval/53", "x\ny"),
    ]
    source, out = written(tmp_path / "samples.jsonl", given), tmp_path / "new" / "out.jsonl"
    assert grade.main([str(source), str(out), "--workers", "2"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [list(row) for row in rows] == [["task_id", "verdict", "reason", "seconds", "nonce"]] * 3
    assert [(row["task_id"], row["verdict"], row["reason"]) for row in rows] == [
        ("HumanEval/53", "passed", "every test passed"),
        ("HumanEval/55", "failed", "a test did not hold (AssertionError)"),
        ("HumanEval/53", "failed", "NameError was raised"),
    ]
    assert all(row["seconds"] >= 0 for row in rows)
    assert capsys.readouterr().out == "pass@1 = 0.2500 of 2 of 164 tasks\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2: expected a JSON object with text under task_id and completion"),
        ('{"task_id": "HumanEval/1"}', "line 2: expected"),
        ('{"task_id": "HumanEval/1", "completion": 5}', "line 2: expected"),
        ('{"task_id": "MBPP/1", "completion": ""}', "line 2: HumanEval has no task 'MBPP/1'"),
        ("[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_bad_line_is_named_before_anything_runs(tmp_path, capsys, nothing_runs, line, message):
    source = written(tmp_path / "samples.jsonl", [("HumanEval/0", "")])
    source.write_text(source.read_text() + line + "\n")
    assert grade.main([str(source), str(tmp_path / "out.jsonl")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ") and message in said
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(("content", "status"), [(None, 2), (b"\xff\xfe", 2), (b"", 1)])
def test_a_missing_binary_or_empty_file_is_refused(tmp_path, capsys, nothing_runs, content, status):
    source = tmp_path / "samples.jsonl"
    if content is not None:
        source.write_bytes(content)
    assert grade.main([str(source), str(tmp_path / "out.jsonl")]) == status
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ") and str(source) in said


@pytest.mark.parametrize("out", ["folder", "file/out.jsonl", "/proc/out.jsonl"])
def test_verdicts_that_cannot_be_written_are_refused_before_the_work(
    tmp_path, capsys, nothing_runs, out
):
    source = written(tmp_path / "samples.jsonl", [("HumanEval/53", "    return 0\n")])
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    target = tmp_path / out
    assert grade.main([str(source), str(target)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {target} ") and "Expected the name of a file" in said


@pytest.mark.parametrize("arguments", [[], ["samples.jsonl"], ["", "out"], ["samples.jsonl", ""]])
def test_a_name_that_is_not_given_is_bad_use(capsys, nothing_runs, arguments):
    assert grade.main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_several_samples_of_a_task_give_the_published_estimate_of_pass_at_k(tmp_path, capsys):
    right, wrong = problems()["HumanEval/53"].canonical_solution, "    return 0\n"
    given = [("HumanEval/53", text) for text in (right, wrong, wrong, right)]
    source = written(tmp_path / "samples.jsonl", given)
    assert grade.main([str(source), str(tmp_path / "out.jsonl")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "pass@1 = 0.5000 of 1 of 164 tasks",
        "pass@4 = 1.0000 of 1 of 164 tasks",
    ]


def graded(counts: list[tuple[int, int]]) -> list[GradedSample]:
    """Samples of one task per pair: so many, of which so many passed."""
    return [
        GradedSample(f"HumanEval/{number}", "passed" if place < passed else "failed", "", 0.0)
        for number, (total, passed) in enumerate(counts)
        for place in range(total)
    ]


@pytest.mark.parametrize(
    ("counts", "ks"),
    [
        ([(1, 1), (1, 0), (1, 0)], [1]),
        ([(2, 1), (1, 0)], [1]),
        ([(10, 3)], [1, 10]),
        ([(20, 7), (12, 0), (15, 15)], [1, 10, 12]),
        ([(200, 11), (100, 1)], [1, 10, 100]),
    ],
)
def test_pass_at_k_is_the_published_estimate_for_every_k_that_all_tasks_allow(counts, ks):
    found = samples.pass_at_k(graded(counts))
    assert list(found) == ks
    for k, score in found.items():
        published = [1 - math.comb(n - c, k) / math.comb(n, k) for n, c in counts]
        assert score == pytest.approx(sum(published) / len(counts), abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "lines"),
    [
        ([(1, 1), (1, 0)], []),
        ([(10, 3), (12, 1)], []),
        (
            [(20, 1), (1, 1), (10, 1)],
            [
                "pass@10 is not given: it needs 10 samples of every task, and 1 task has fewer "
                "(HumanEval/1 has 1)"
            ],
        ),
        (
            [(100, 1), (9, 1), (2, 1)],
            [
                "pass@10 is not given: it needs 10 samples of every task, and 2 tasks have fewer "
                "(HumanEval/1 has 9)",
                "pass@100 is not given: it needs 100 samples of every task, and 2 tasks have fewer "
                "(HumanEval/1 has 9)",
            ],
        ),
    ],
)
def test_a_k_that_some_tasks_do_not_allow_is_named(counts, lines):
    assert samples.not_given(graded(counts)) == lines


def test_all_164_tasks_are_not_called_a_part(tmp_path, capsys, monkeypatch):
    passed = [GradedSample(task, "passed", "", 0.0) for task in problems()]
    monkeypatch.setattr(samples, "grade_samples", lambda *_: passed)
    source = written(tmp_path / "samples.jsonl", [("HumanEval/0", "")])
    assert grade.main([str(source), str(tmp_path / "out.jsonl")]) == 0
    assert capsys.readouterr().out == "pass@1 = 1.0000\n"


def test_a_grading_is_repeated_by_the_nonce_of_its_verdicts(tmp_path):
    source = written(tmp_path / "samples.jsonl", [("HumanEval/53", "    return x + y\n")])
    outs = [tmp_path / name for name in ("first", "second", "again")]
    assert grade.main([str(source), str(outs[0])]) == 0
    assert grade.main([str(source), str(outs[1])]) == 0
    nonces = [json.loads(out.read_text())["nonce"] for out in outs[:2]]
    assert nonces[0] != nonces[1]
    assert grade.main([str(source), str(outs[2]), "--nonce", nonces[0]]) == 0
    assert json.loads(outs[2].read_text())["nonce"] == nonces[0]


def test_samples_with_a_byte_order_mark_windows_line_ends_and_gzip_are_read(tmp_path):
    right = problems()["HumanEval/53"].canonical_solution.replace("\n", "\r\n")
    line = json.dumps({"task_id": "HumanEval/53", "completion": right, "model": "other"})
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n")
    packed.write_bytes(gzip.compress(line.encode()))
    for path in (plain, packed):
        given = samples.read_samples(path, problems())
        assert given == [samples.Sample("HumanEval/53", right)]
        assert [s.verdict for s in samples.grade_samples(given, problems(), 1, "n")] == ["passed"]


def test_a_broken_gzip_file_is_refused(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"task_id": "HumanEval/53"}')[:-9])
    with pytest.raises(UserError, match=r"a\.jsonl\.gz cannot be read"):
        samples.read_samples(path, problems())


def test_a_lone_surrogate_in_a_completion_gets_a_verdict(tmp_path):
    source, out = tmp_path / "s.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"task_id": "HumanEval/53", "completion": "    return \'\\ud800\'\\n"}\n')
    assert grade.main([str(source), str(out)]) == 0
    assert json.loads(out.read_text())["verdict"] in ("failed", "syntax")


def test_grading_by_hand_waits_for_a_measurement(tmp_path):
    source = written(tmp_path / "s.jsonl", [("HumanEval/53", "    return 0")])
    out = tmp_path / "out"
    command = [sys.executable, "-P", "-m", "joules.commands.grade", str(source), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    with lock.measuring(lambda line: None):
        started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert started.stderr is not None and "wait" in started.stderr.readline().lower()
        assert not out.exists()
    # Other tests may measure before it.
    assert started.communicate(timeout=3600) and started.returncode == 0
    assert out.exists()
