"""What real answers are like: byte-level pieces, Unicode, prose around code, cut at the limit.

A small model recites them, so that what each runtime must say is known byte for byte. The runtimes
are those that the default study compares, and llama.cpp's own server.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import graded_run
import msgspec
import pytest
import reciter
from real_runtimes import SETTINGS, make_runtime, model_of, prompts_of

from joules.core.inference import Completion, Model, Prompt, in_whole_characters
from joules.core.reading import load_study
from joules.grade import grading
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import problems
from joules.inputs.tokenizer import tokenize
from joules.measure import campaign, validity

RUNTIMES = tuple(dict.fromkeys((*load_study().study.runtimes, "llama_server")))
# Of bytes that are no text: these give up the answer, the others mark each with U+FFFD.
BREAK_OFF = {"ollama", "llama_server"}
# Of a token that ends within a character, at the limit: these show nothing of all the token.
HOLD_BACK = {"ollama"}
TASK = "HumanEval/53"
RIGHT = "def add(x, y):\n    return x + y\n"
UNICODE = {
    "split characters": "\U0001f642é你 \U0001f642é 你\n",
    "beyond the basic plane": "s = '\U0001d4b3 \U0001f469\u200d\U0001f467'\n",
    "combining": "cafe\u0301\u20dd\n",
    "line ends of others": "a\u2028b\u2029c\x85d\x0b\x0ce\x1cf\n",
    "control characters": "\x01\x02\x1b[31mred\x1b[0m\x7f\x08",
    "carriage returns": "x = 1\r\n\r\ny = 2\r\rz\n\r",
    "byte order marks": "\ufeffx\ufeff",
    "spaces that do not break": "\u00a0\u202f= 1\u00a0",
    "right to left": "\u05e9\u05dc \u202eabc\u202c\u0645\n",
    "white space around": "\n\n \t x \n \n",
    "signs of markup and JSON": "<b>&amp;\"'\\u0041\\\\n,;\t`",
}
# Bytes that are no UTF-8: one that never is, the start of a character without its rest, and a rest
# without its start.
BROKEN = b"a\xffb\xc3c\x9fd\xe4\xbde"
# In the code block that a chat prompt opened: what was said, the rule that found its program, and
# the verdict.
CODE = {
    "prose behind the block": (
        RIGHT + "```\n\nThis function works by adding `x` and `y`.\n",
        *("fence", "passed"),
    ),
    "prose without an end of the block": (
        RIGHT + "\nThis function adds; it doesn't loop.\n",
        *("fence_truncated", "passed"),
    ),
    "a demonstration": (RIGHT + "\n# So:\nprint(add(2, 3))\n```\n", "fence", "passed"),
    "a main block that asks": (
        RIGHT + '\nif __name__ == "__main__":\n    print(add(int(input()), 1))\n```\nRun it.',
        *("fence", "passed"),
    ),
    "two blocks": (
        RIGHT + "```\n\nFor example:\n\n```python\nprint(add(1, 2))\n```\n",
        *("fence", "passed"),
    ),
    "a block for a shell": (RIGHT + "```\n```bash\npython add.py\n```\n", "fence", "passed"),
    "a constant first": (
        "STEP = 0\n\n\ndef add(x, y):\n    return x + y + STEP\n```\n",
        *("fence", "passed"),
    ),
    "a body alone": ("    return x + y\n```\nIt adds.\n", "fence_body", "passed"),
    "the block opened again": (f"```python\n{RIGHT}```\n", "plain", "passed"),
    "prose before a block": (f"Sure! Here:\n\n```python\n{RIGHT}```\n", "plain", "passed"),
    "nothing but prose": ("I can't do that.\n", "no_code", "no_code"),
    "carriage returns": (
        "def add(x, y):\r\n    return x + y\r\n```\r\nDone.\r\n",
        *("fence", "passed"),
    ),
    "Unicode in a docstring": (
        'def add(x, y):\n    """Ajoute \U0001f642 é 你."""; return x + y\n```\n',
        *("fence", "passed"),
    ),
}
# The same, of which the limit leaves the first part.
CUT = {
    "cut in a test below": (
        *(f"{RIGHT}\ndef test():\n    assert add(1,".encode(), b" 2)"),
        *("fence_truncated", "passed"),
    ),
    "cut in a string": (
        *(b'def add(x, y):\n    """Add."""\n    sign = "pl', b'us"\n'),
        *("fence_truncated", "failed"),
    ),
    "cut in brackets": (
        *(b"def add(x, y):\n    total = sum(", b"[x, y])\n"),
        *("no_code", "no_code"),
    ),
    "cut in the closing fence": (
        *(f"{RIGHT}``".encode(), b"`\n"),
        *("fence_truncated", "passed"),
    ),
    "cut in a character": (
        *(b"def add(x, y):\n    return x + y  # \xf0\x9f\x99", b"\x82 adds\n"),
        *("fence", "passed"),
    ),
}
TEXTS = {
    **UNICODE,
    **{name: text for name, (text, *_) in CODE.items()},
    **{name: (first + rest).decode() for name, (first, rest, *_) in CUT.items()},
}


class Recital(NamedTuple):
    """A model that recites `TEXTS` and `BROKEN`: the tokens of each answer, and its prompt."""

    model: Model
    ids: Mapping[str, list[int]]
    prompts: Mapping[str, Prompt]

    def limits(self) -> list[tuple[str, int]]:
        """Return which answers are cut, and after how many tokens."""
        split = "split characters"
        cuts = [(split, limit) for limit in range(1, len(self.ids[split]) + 1)]
        return cuts + [(name, self.limit_of(name)) for name in CUT]

    def limit_of(self, name: str) -> int:
        """Return how many tokens the first part of an answer has."""
        first, left = 0, len(CUT[name][0])
        while (left := left - len(reciter.PIECES[self.ids[name][first]])) >= 0:
            first += 1
        return first


class Told(NamedTuple):
    """What a runtime answered: in full, and up to each limit."""

    whole: Mapping[str, Completion]
    cut: Mapping[tuple[str, int], Completion]


@pytest.fixture(scope="module")
def recital(tmp_path_factory: pytest.TempPathFactory) -> Recital:
    folder = tmp_path_factory.mktemp("reciter")
    reciter.write_reciter(folder / "vocabulary.gguf", [])
    read = tokenize(folder / "vocabulary.gguf", list(TEXTS.values()), add_bos=False)
    ids = {**dict(zip(TEXTS, read, strict=True)), "broken": list(BROKEN)}
    asked = reciter.write_reciter(folder / "reciter.gguf", list(ids.values()))
    model = model_of(folder / "reciter.gguf")
    return Recital(model, ids, dict(zip(ids, prompts_of(model, *asked), strict=True)))


@pytest.fixture(scope="module")
def told(recital: Recital, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Told]:
    """Return a function that asks a runtime for all answers, once."""
    known: dict[str, Told] = {}

    def ask(name: str) -> Told:
        if name not in known:
            with make_runtime(name, tmp_path_factory.mktemp("answers")) as runtime:
                runtime.start(recital.model, SETTINGS)
                known[name] = Told(
                    {each: runtime.complete(prompt) for each, prompt in recital.prompts.items()},
                    {
                        (each, limit): in_whole_characters(
                            runtime.complete(recital.prompts[each], max_tokens=limit)
                        )
                        for each, limit in recital.limits()
                    },
                )
        return known[name]

    return ask


def test_characters_are_split_over_tokens_as_in_real_vocabularies(recital: Recital) -> None:
    pieces = [reciter.PIECES[token] for token in recital.ids["split characters"]]
    assert pieces[:7] == [
        *(b"\xf0\x9f", b"\x99", b"\x82"),
        *(b"\xc3", b"\xa9"),
        *(b"\xe4\xbd", b"\xa0"),
    ]
    assert b" \xf0\x9f" in pieces


def test_a_text_that_is_read_again_has_the_tokens_that_were_generated(recital: Recital) -> None:
    again = campaign.read_again(recital.model.path, list(TEXTS.values()), print)
    assert again == [recital.ids[name] for name in TEXTS]
    answers = [
        Completion(text, 1, len(recital.ids[n]) + 1, 1, 1, "eos") for n, text in TEXTS.items()
    ]
    assert validity.mismatch(answers, [len(each) for each in again], None) == 0


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_answer_comes_back_byte_for_byte_and_all_its_tokens_are_counted(
    name: str, recital: Recital, told: Callable[[str], Told]
) -> None:
    answers = told(name).whole
    assert {each: answers[each].text for each in TEXTS} == TEXTS
    for each in TEXTS:
        answer = answers[each]
        assert answer.prompt_tokens == len(recital.prompts[each].token_ids)
        assert answer.generated_tokens == len(recital.ids[each]) + 1, "the end of text counts"
        assert (answer.finish_reason, answer.counts_known) == ("eos", True)


@pytest.mark.parametrize("name", RUNTIMES)
def test_bytes_that_are_no_text_are_marked_or_the_answer_is_said_to_be_broken_off(
    name: str, recital: Recital, told: Callable[[str], Told]
) -> None:
    answer, marked = told(name).whole["broken"], "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert reciter.text_of(recital.ids["broken"]) == marked
    if name in BREAK_OFF:
        assert (answer.finish_reason, answer.counts_known) == ("aborted_by_runtime", False)
        assert marked.startswith(answer.text)
    else:
        assert (answer.text, answer.generated_tokens) == (marked, len(BROKEN) + 1)
        assert answer.counts_known


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_answer_at_its_limit_is_whole_characters_and_says_that_it_was_cut(
    name: str, recital: Recital, told: Callable[[str], Told]
) -> None:
    for (each, limit), answer in told(name).cut.items():
        ids = recital.ids[each][:limit]
        shown = reciter.of_whole_tokens if name in HOLD_BACK else reciter.text_of
        assert answer.text == shown(ids), (each, limit)
        assert (answer.generated_tokens, answer.finish_reason) == (limit, "limit")
    again = campaign.read_again(
        recital.model.path, [answer.text for answer in told(name).cut.values()], print
    )
    assert again is not None
    assert validity.mismatch(list(told(name).cut.values()), list(map(len, again)), None) == 0


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_right_program_is_graded_whatever_is_around_it(
    name: str, recital: Recital, told: Callable[[str], Told]
) -> None:
    answered = {each: told(name).whole[each] for each in CODE}
    answered |= {each: told(name).cut[each, recital.limit_of(each)] for each in CUT}
    record = graded_run.record({TASK: ""})
    tasks = [
        msgspec.structs.replace(
            record.tasks[0], completion=answer.text, finish_reason=answer.finish_reason
        )
        for answer in answered.values()
    ]
    record = msgspec.structs.replace(record, tasks=tasks)
    grade = grading.grade_record(
        record, graded_run.prompts("chat"), problems(), 1, sandbox.new_nonce()
    )
    found = {
        each: (task.rule, task.verdict, task.truncated)
        for each, task in zip(answered, grade.tasks, strict=True)
    }
    assert found == {
        **{each: (rule, verdict, False) for each, (_, rule, verdict) in CODE.items()},
        **{each: (rule, verdict, True) for each, (_, _, rule, verdict) in CUT.items()},
    }
