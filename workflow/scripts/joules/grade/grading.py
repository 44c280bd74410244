"""The grade of one run: a verdict on each of its answers, by HumanEval's tests."""

import hashlib
from collections.abc import Mapping, Sequence

from joules.core.errors import UserError
from joules.core.grade_file import SCHEMA, Gates, Grade, GradedTask
from joules.core.prompts_file import PromptRow, PromptsFile
from joules.core.record import Record
from joules.grade import extraction
from joules.grade.sandbox import sandbox
from joules.inputs import humaneval
from joules.inputs.humaneval import Problem


def grade_record(
    record: Record,
    prompts: PromptsFile,
    problems: Mapping[str, Problem],
    workers: int,
    nonce: str | None,
) -> Grade:
    """Grade every task of one run's record.

    `prompts` are those that the run answered. `nonce` seeds what the tests draw: a new one
    (`sandbox.new_nonce`), or that of the grade to repeat. Equal completions and an equal nonce give
    an equal grade, apart from `sandbox`, which describes the machine that graded.
    With the answers, the reference solution and an empty answer of each task are graded: the first
    must pass and the second must not, or nothing is counted. Raises UserError for that, for a task
    without a prompt or problem, and as `sandbox.grade` does.
    """
    sent = {row.task_id: row for row in prompts.prompts if row.role == "problem"}
    extractions = []
    jobs = []
    for task in record.tasks:
        prompt = _prompt_of(task.task_id, sent, problems)
        problem = problems[task.task_id]
        # A chat prompt ends with an opened code block, which is read as the answer's own start:
        # once, and also where a template puts it behind its last words on one line.
        asked, answer = prompt.text.removesuffix(prompt.prefill), prompt.prefill + task.completion
        found = extraction.program(prompt.style, asked, problem, answer, prompt.cut)
        extractions.append(found)
        jobs.append(sandbox.Job.of(problem, found.program))
    gates = _gates([problems[task.task_id] for task in record.tasks])
    verdicts = sandbox.grade([*gates, *jobs], workers, nonce=nonce)
    passed_gates = _check_gates(gates, verdicts[: len(gates)])
    verdicts = verdicts[len(gates) :]
    tasks = [
        GradedTask(
            task_id=task.task_id,
            verdict=verdict.verdict,
            reason=verdict.reason,
            rule=found.rule,
            truncated=task.finish_reason == "limit",
        )
        for task, found, verdict in zip(record.tasks, extractions, verdicts, strict=True)
    ]
    passed = sum(task.verdict == "passed" for task in tasks)
    return Grade(
        schema=SCHEMA,
        study=record.study,
        campaign=record.campaign,
        model=record.model.name,
        runtime=record.arm_name,
        kind=record.kind,
        repetition=record.repetition,
        sandbox=sandbox.self_test(),
        dataset_sha256=humaneval.DATASET_SHA256,
        nonce=nonce,
        gates=passed_gates,
        tasks=tasks,
        passed=passed,
        total=len(tasks),
        pass_at_1=passed / len(tasks) if tasks else None,
    )


def _gates(chosen: Sequence[Problem]) -> list[sandbox.Job]:
    jobs = []
    for problem in {problem.task_id: problem for problem in chosen}.values():
        for name, answer in (("reference", problem.canonical_solution), ("empty", "")):
            program = problem.prompt + answer
            jobs.append(sandbox.Job.of(problem, program, f"{name} {problem.task_id}"))
    return jobs


def _check_gates(gates: Sequence[sandbox.Job], verdicts: Sequence[sandbox.Verdict]) -> Gates:
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
    return Gates(reference_passed=len(gates) // 2, empty_passed=0)


def _prompt_of(
    task_id: str, sent: Mapping[str, PromptRow], problems: Mapping[str, Problem]
) -> PromptRow:
    if task_id not in problems:
        raise UserError(f"The record holds the task {task_id!r}, which HumanEval does not have.")
    if task_id not in sent:
        raise UserError(
            f"The record holds {task_id}, but the file of prompts does not. It should hold the "
            "prompts of the same run. Take both from the same results folder."
        )
    prompt = sent[task_id]
    found = hashlib.sha256(prompt.text.encode("utf-8", "surrogatepass")).hexdigest()
    if found != prompt.text_sha256:
        raise UserError(
            f"The prompt of {task_id} was changed: its sha256 is {found}, the file of prompts says "
            f"{prompt.text_sha256}. Restore that file, or measure again."
        )
    return prompt
