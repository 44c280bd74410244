"""From answers in many shapes to programs: 28 shapes of 164 right answers, and any text at all."""

import ast
import json
import textwrap
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from joules.core.errors import UserError
from joules.grade import extraction
from joules.grade.extraction import (
    CUTS,
    END_TOKENS,
    MAX_CHARACTERS,
    STOP_STRINGS,
    before_stop_string,
    code_blocks,
    first_indented_lines,
    program,
)
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import Problem, problems

ADD = problems()["HumanEval/53"]
PLAIN_PROMPT = "Complete this.\n\n```python\ncode\n```\n"


def whole(problem: Problem) -> str:
    return problem.prompt.strip("\n") + "\n" + problem.canonical_solution.rstrip() + "\n"


def target_only(problem: Problem) -> str:
    """The answer repeats the function but neither imports nor helpers."""
    return problem.prompt[len(problem.header) :] + problem.canonical_solution.rstrip() + "\n"


def fenced(code: str, tag: str = "python", fence: str = "```") -> str:
    return f"{fence}{tag}\n{code}\n{fence}\n"


SHAPES: dict[str, Callable[[Problem], str]] = {
    "python fence": lambda p: fenced(whole(p)),
    "prose around the fence": lambda p: f"Here's how:\n\n{fenced(whole(p))}\nIt's done.\n",
    "no tag": lambda p: fenced(whole(p), ""),
    "py tag": lambda p: fenced(whole(p), "py"),
    "python3 tag": lambda p: fenced(whole(p), "python3"),
    "capital tag": lambda p: fenced(whole(p), "Python"),
    "tilde fence": lambda p: fenced(whole(p), fence="~~~"),
    "four backticks": lambda p: fenced(whole(p), fence="````"),
    "unclosed fence": lambda p: f"```python\n{whole(p)}",
    "CRLF": lambda p: fenced(whole(p)).replace("\n", "\r\n"),
    "indented fence": lambda p: "1. So:\n" + textwrap.indent(fenced(whole(p)), "   "),
    "byte order mark": lambda p: "\ufeff" + fenced(whole(p)),
    "target function only": lambda p: fenced(target_only(p)),
    "body only in a fence": lambda p: fenced(p.canonical_solution),
    "dedented body in a fence": lambda p: fenced(textwrap.dedent(p.canonical_solution)),
    "usage block first": lambda p: fenced("pip install x", "bash") + fenced(whole(p)),
    "example block first": lambda p: fenced("print(1)") + fenced(whole(p)),
    "wrong self-test in the block": lambda p: fenced(whole(p) + "\nassert 1 == 2\n"),
    "demo with input()": lambda p: fenced(whole(p) + "\nprint(input())\n"),
    "main block": lambda p: fenced(whole(p) + '\nif __name__ == "__main__":\n    input()\n'),
    "truncated tail": lambda p: f"```python\n{whole(p)}\n\ndef test():\n    assert x == (1,",
    "truncated docstring": lambda p: f'```python\n{whole(p)}\n\ndef g():\n    """never cl',
    "think": lambda p: f"<think>\n{fenced('def f(: draft')}</think>\n\n{fenced(whole(p))}",
    "leaked end token": lambda p: fenced(whole(p)) + "<|im_end|>\n<|im_start|>user\n",
    "no fence": whole,
    "prose, no fence": lambda p: f"Sure, it's easy.\n\n{whole(p)}\nThis isn't code.\n",
    "raw continuation": lambda p: p.canonical_solution,
    "raw continuation, then prose": lambda p: p.canonical_solution + "\nThat's it (done.\n",
}


def test_there_are_28_shapes():
    assert len(SHAPES) == 28


@pytest.mark.parametrize("shape", SHAPES)
def test_every_right_answer_in_this_shape_gives_a_program(shape):
    for problem in problems().values():
        found = program("chat", PLAIN_PROMPT, problem, SHAPES[shape](problem))
        assert found.program is not None, (problem.task_id, found.rule)
        names = [n.name for n in ast.parse(found.program).body if isinstance(n, ast.FunctionDef)]
        assert problem.entry_point in names


def test_right_answers_still_pass_after_extraction():
    chosen = [
        (shape, problem)
        for number, shape in enumerate(SHAPES)
        for problem in list(problems().values())[number % 14 :: 14]
    ]
    jobs = [
        sandbox.Job.of(
            problem, program("chat", PLAIN_PROMPT, problem, SHAPES[shape](problem)).program
        )
        for shape, problem in chosen
    ]
    verdicts = sandbox.grade(jobs, 2)
    wrong = [
        (shape, problem.task_id, verdict.verdict, verdict.reason)
        for (shape, problem), verdict in zip(chosen, verdicts, strict=True)
        if verdict.verdict != "passed"
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ("python fence", "fence"),
        ("truncated tail", "fence_truncated"),
        ("body only in a fence", "fence_body"),
        ("think", "think+fence"),
        ("leaked end token", "end_token+fence"),
        ("prose, no fence", "plain"),
        ("raw continuation", "body"),
        ("raw continuation, then prose", "body_cut"),
    ],
)
def test_the_rule_that_fired_is_named(shape, rule):
    assert program("chat", PLAIN_PROMPT, ADD, SHAPES[shape](ADD)).rule == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no_code"),
        ("I cannot help with that.", "no_code"),
        ("<think>\ndef add(x, y):\n    return x + y\n", "unclosed_think"),
        ("from here on it's hard\n", "no_code"),
    ],
)
def test_an_answer_without_code_gives_none(text, rule):
    found = program("chat", PLAIN_PROMPT, ADD, text)
    assert (found.program, found.rule) == (None, rule)


def test_an_answer_starts_inside_the_block_that_the_prompt_opened():
    prompt = PLAIN_PROMPT + "Answer:\n```python\n"
    answer = whole(ADD) + "```\nThis adds.\n"
    assert program("chat", prompt, ADD, answer).rule == "fence"
    continued = program("chat", prompt + ADD.prompt, ADD, "    return x + y\n```\n")
    assert continued.rule == "fence" and "return x + y" in (continued.program or "")


RIGHT = "def add(x, y):\n    return x + y\n"
TABLE = "def add(x, y):\n    return TABLE[x] + y\n"


@pytest.mark.parametrize(
    ("kept", "dropped"),
    [
        (
            "import math\nLIMIT = 3\n@staticmethod\ndef add(x, y):\n    return math.ceil(LIMIT)",
            "",
        ),
        (RIGHT, "print(add(1, 2))"),
        (RIGHT, "result = add(int(input()), 2)"),
        (RIGHT, "x, y = map(int, input().split())\nprint(add(x, y))"),
        (RIGHT, "print(unknown)\nwrong = unknown + 1"),
        (RIGHT, "import absent\nfrom absent import thing"),
        (RIGHT, "class TestAdd(unittest.TestCase):\n    pass\nunittest.main()"),
        (RIGHT, "@pytest.mark.parametrize('x', [1])\ndef test_add(x):\n    assert add(x, 0) == x"),
        (RIGHT, "if __name__ == '__main__':\n    add = None"),
        (RIGHT, "while True:\n    print(add(int(input()), 1))"),
        (RIGHT, "for x, y in [(1, 2)]:\n    print(add(x, y), unknown)"),
        (RIGHT, "assert add(1, 2) == 4"),
        (RIGHT, "def main():\n    print(add(1, 2))\nmain()"),
        ("def add(x, y):\n    return sum([x, y])\n", "sum = add(1, 2)\nlist = [sum]"),
        ("TABLE = {}\nfor n in range(9):\n    TABLE[n] = n\n" + TABLE, "print(TABLE)"),
        (
            "TABLE = []\nwhile len(TABLE) < 9:\n    TABLE.append(0)\n" + TABLE,
            "print(add(TABLE, 1))",
        ),
        (
            TABLE + "TABLE = {}\ndef fill():\n    for n in range(9):\n        TABLE[n] = n\nfill()",
            "main()",
        ),
        (TABLE + "def fill():\n    global TABLE\n    TABLE = {}\nfill()", ""),
        (TABLE + "TABLE = []\ndef fill(table):\n    table.append(1)\nfill(TABLE)", "fill([])"),
        (TABLE + "TABLE = [2, 1]\nimport random\nrandom.shuffle(TABLE)", ""),
        (
            "try:\n    from math import nope as f\nexcept ImportError:\n    f = int\n"
            "def add(x, y):\n    return f(x)",
            "try:\n    add(f)\nexcept ValueError:\n    pass",
        ),
        ("import sys\nsys.setrecursionlimit(9999)\n" + RIGHT, "sys.exit(0)"),
        (
            "class Node:\n    pass\nNode.weight = 1\ndef add(x, y):\n    return Node.weight",
            "Other = 1",
        ),
        (RIGHT + "add.cache = {}", ""),
        (
            "seen = set()\nseen.add(1)\ndef add(x, y):\n    return seen",
            "other = set()\nother.add(1)",
        ),
        ("from functools import *\n" + RIGHT, ""),
        (RIGHT + "def memo(f):\n    return f\nadd = memo(add)", "plus = add"),
        (
            "def helper(x):\n    return other(x)\nother = lambda x: x\n"
            "def add(x, y):\n    return [helper(v) for v in (x, y)]",
            "x = helper(y)",
        ),
        ("import sys\nTABLE = [sys]\n" + TABLE, "sys.stdout.write('done')"),
    ],
)
def test_what_the_function_needs_of_an_answer_is_kept_and_nothing_else(kept, dropped):
    found = program("chat", PLAIN_PROMPT, ADD, fenced(f"{kept.rstrip()}\n{dropped}"))
    assert found.program == f"{ADD.prompt}\n{kept.rstrip()}\n"


def test_every_definition_is_kept_where_a_name_may_be_used_unseen():
    code = "def helper(x):\n    return x\ndef add(x, y):\n    return eval('helper(x)') + y\n"
    found = program("chat", PLAIN_PROMPT, ADD, fenced(code + "print(add(1, 2))\n"))
    assert found.program == f"{ADD.prompt}\n{code}"


def test_statements_that_share_a_line_are_told_apart():
    code = "TABLE = ['ü']; print(input()); TABLE.append(\n1); x = unknown\n" + TABLE
    found = program("chat", PLAIN_PROMPT, ADD, fenced(code))
    assert found.program == f"{ADD.prompt}\nTABLE = ['ü']\nTABLE.append(\n1)\n{TABLE}"


def test_an_import_from_the_future_comes_before_the_prompt():
    code = "from __future__ import annotations\n" + RIGHT
    found = program("chat", PLAIN_PROMPT, ADD, fenced(code)).program or ""
    assert found == f"from __future__ import annotations\n{ADD.prompt}\n{RIGHT}"
    compile(found, "program", "exec")


def test_base_keeps_the_text_that_was_sent_and_cuts_at_column_0():
    sent = ADD.prompt.strip()
    text = "\n    return x + y\n\n\ndef next():\n    pass\n"
    found = program("base", sent, ADD, text)
    assert found.program == sent + "\n    return x + y\n\n\n"
    assert found.rule == "base_cut"


@pytest.mark.parametrize(
    ("sent", "text", "kept", "rule"),
    [
        ("p\n", "    return 1\n", "    return 1\n", "base"),
        ("p\n", "    return 1", "    return 1", "base"),
        ("p\n", "    return 1<|endoftext|>    x", "    return 1", "end_token+base"),
        ("p\n", "    return 1\n# next", "    return 1\n", "base_cut"),
        ("p", " # end\n    return 1\nx", " # end\n    return 1\n", "base_cut"),
        ("p", "x\n    return 1\nx", "x\n    return 1\n", "base_cut"),
        ("p\n", "return 1\n", None, "empty"),
        ("p\n", "", None, "empty"),
        ("p\n", "\n  \n", None, "empty"),
    ],
)
def test_base_rules(sent, text, kept, rule):
    found = program("base", sent, ADD, text)
    assert (found.program, found.rule) == (None if kept is None else sent + kept, rule)


def test_another_style_is_refused():
    with pytest.raises(UserError, match='"base" or "chat"'):
        program("fim", "", ADD, "")


def test_the_catalogue_says_where_an_answer_of_a_base_model_ends():
    text = "    return 1\n# a comment\n\n    # lost\nprint(add(1, 2))\n"
    kept = {cut: program("base", "p\n", ADD, text, cut).program for cut in CUTS["base"]}
    assert kept == {
        "column_0": "p\n    return 1\n",
        "stop_strings": "p\n    return 1\n# a comment\n\n    # lost",
    }
    assert program("base", "p\n", ADD, text) == program("base", "p\n", ADD, text, "column_0")
    for style, cut in (("base", "closing_fence"), ("chat", "column_0")):
        with pytest.raises(UserError, match=rf"{cut}.*Expected: {CUTS[style][0]}.*models\.yaml"):
            program(style, "p\n", ADD, text, cut)


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from([*STOP_STRINGS, "x", "\n", " "]), max_size=9).map("".join))
def test_nothing_is_kept_from_the_first_stop_string_on(text):
    kept = before_stop_string(text)
    assert text.startswith(kept) and not any(stop in kept for stop in STOP_STRINGS)
    assert kept == text or text[len(kept) :].startswith(STOP_STRINGS)


@pytest.mark.parametrize("token", END_TOKENS)
def test_every_end_token_is_cut_in_both_styles(token):
    assert token not in (program("base", "p\n", ADD, f"    return 1{token}x").program or token)
    found = program("chat", PLAIN_PROMPT, ADD, fenced(whole(ADD)) + token)
    assert found.rule == "end_token+fence"


def test_a_text_beyond_the_limit_is_cut_and_flagged():
    found = program("base", "p\n", ADD, "    x = 1\n" * 10000)
    assert found.rule == "too_long+base"
    assert found.program is not None and len(found.program) == MAX_CHARACTERS + 2


PIECES = st.sampled_from(
    [
        "```",
        "```python\n",
        "~~~\n",
        "\n",
        "    ",
        "def add(x, y):\n",
        "    return x + y\n",
        '"""',
        "'",
    ]
    + [
        "(",
        ")",
        "\\\n",
        "#",
        "@x\n",
        "else:\n",
        "<think>",
        "</think>",
        "\ud800",
        "\0",
        "\r\n",
        "</s>",
    ]
    + [
        "from x import y\n",
        "class A:\n",
        "text it's ",
        "\u00a0",
        "\ufeff",
        "`" * 9,
        "if x:\n",
        "\t",
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=60).map("".join), st.text(max_size=300))


@settings(max_examples=400, deadline=None)
@example(text="if x:\n    return x + y\n", style="chat")
@given(text=TEXTS, style=st.sampled_from(["base", "chat"]))
def test_any_text_gives_a_program_or_none_and_always_the_same(text, style):
    prompt = ADD.prompt if style == "base" else PLAIN_PROMPT
    found = program(style, prompt, ADD, text)
    assert found == program(style, prompt, ADD, text)
    assert found.rule and found.rule.isascii()
    json.dumps(found.program)
    if style == "base" and found.program is not None:
        assert found.program.startswith(prompt) and found.program[len(prompt) :] in text
    if style == "chat" and found.program is not None:
        assert found.program.startswith(ADD.prompt)
        compile(found.program, "p", "exec")


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_the_cut_is_a_prefix_whose_lines_are_indented_or_blank(text):
    kept = first_indented_lines(text)
    assert text.startswith(kept)
    assert all(not line.strip() or line[0].isspace() for line in kept.split("\n"))


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_code_blocks_are_lines_of_the_text(text):
    for block in code_blocks(text):
        assert {line.strip() for line in block.split("\n")} <= {x.strip() for x in text.split("\n")}


@pytest.mark.parametrize(
    "unit",
    [
        "x = (\n",
        "def add(\n",
        "```\n",
        "```python\nx\n```\n",
        "a.b",
        "f(",
        "-",
        "'''\n",
        "@x\n",
        "\\\n",
    ]
    + [
        "def add(x, y):\n",
        "if x:\n",
        "`",
        "~",
        " ",
        "\t\n",
        "<think>",
        "import x\n",
        "else:\n",
        "+1",
    ],
)
def test_the_work_grows_linearly_with_the_text(unit, monkeypatch):
    """Count the characters given to the parser: no text is parsed again and again."""
    parsed = []
    real = extraction._parse

    def counting(source: str) -> ast.Module | None:
        parsed.append(len(source))
        return real(source)

    monkeypatch.setattr(extraction, "_parse", counting)
    text = (unit * MAX_CHARACTERS)[: MAX_CHARACTERS + 10]
    program("chat", PLAIN_PROMPT, ADD, text)
    assert sum(parsed) < 10 * MAX_CHARACTERS
