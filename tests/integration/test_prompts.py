"""Literal prompts: styles, newline rules, templates, the subset, the flush prompt."""

import dataclasses
import datetime

import msgspec
import pytest
from real_runtimes import MODELS

from joules.core import stored
from joules.core.catalogue import Prompting
from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.reading import read_catalogue
from joules.inputs import chat_template, prompts
from joules.inputs.gguf_facts import GgufFacts, gguf_facts

PROBLEM = '\n\ndef f(x):\n    """ Say x. """\n'
BASE = Prompting(
    sha256=None,
    prompt_style="base",
    newline="unchanged",
    chat_template=None,
    never_ends=False,
    cut="column_0",
)
CHAT = msgspec.structs.replace(BASE, prompt_style="chat", cut="closing_fence")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
WITHOUT = GgufFacts(
    architecture="llama",
    name="tiny",
    parameters=1,
    quantization="F32",
    context_length=2048,
    tokenizer="gpt2",
    add_bos=True,
    bos_token="<s>",
    eos_token="</s>",
    chat_template=None,
)
FACTS = dataclasses.replace(WITHOUT, chat_template=TEMPLATE)


def asked_by(template: str) -> Prompting:
    """Return a chat model whose template is in the catalogue."""
    return msgspec.structs.replace(CHAT, chat_template=template)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("unchanged", PROBLEM),
        ("strip", PROBLEM.strip()),
        ("strip_add", PROBLEM.strip() + "\n"),
    ],
)
def test_base_prompts_follow_the_newline_rule(rule, text):
    assert prompts.text_of(msgspec.structs.replace(BASE, newline=rule), WITHOUT, PROBLEM) == text


def test_chat_prompts_are_rendered_with_an_open_code_block_and_one_beginning_of_text():
    text = prompts.text_of(CHAT, FACTS, PROBLEM)
    assert not text.startswith("<s>"), "the tokenizer adds it"
    assert text.endswith("<|assistant|>\n```python\n")
    assert "def f(x)" in text
    without = dataclasses.replace(FACTS, add_bos=False)
    assert prompts.text_of(CHAT, without, PROBLEM).startswith("<s>")


def test_a_space_that_belongs_to_the_turn_stands_before_the_answer():
    llama = read_catalogue().models["codellama-7b-instruct"].chat_template
    assert prompts.text_of(asked_by(llama), WITHOUT, PROBLEM).endswith("[/INST] ```python\n")
    mistral = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}"
        "[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    assert prompts.text_of(asked_by(mistral), WITHOUT, PROBLEM).endswith("[/INST] ```python\n")
    reasoning = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    assert prompts.text_of(asked_by(reasoning), WITHOUT, PROBLEM).endswith("<think>\n```python\n")


def test_the_template_of_the_catalogue_serves_where_the_file_has_none():
    text = prompts.text_of(asked_by("{{ messages[0].content }}>"), WITHOUT, PROBLEM)
    assert text.endswith(">```python\n")


def test_a_model_without_any_template_is_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"chat_template.*config/models\.yaml"):
        prompts.text_of(CHAT, WITHOUT, PROBLEM)


QUESTION = 'QUESTION <"é">\nline'
AS_TRANSFORMERS = {  # templates, and what version 5.24 of transformers makes of them
    "tojson": (
        "{{ messages | tojson }}{{ {'a<b': 'é'} | tojson(indent=1) }}",
        '[{"role": "user", "content": "QUESTION <\\"é\\">\\nline"}]{\n "a<b": "é"\n}',
    ),
    "tojson with options": (
        "{{ messages[0].content }}"
        "{{ {'b': 1, 'a': '<&>'} | tojson(sort_keys=true, separators=(',', ':')) }}",
        QUESTION + '{"a":"<&>","b":1}',
    ),
    "break": (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}{% break %}{% endif %}"
        "after{% endfor %}>",
        QUESTION + ">",
    ),
    "continue": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% continue %}{% endif %}"
        "<u>{{ m.content }}{% endfor %}",
        "<u>" + QUESTION,
    ),
    "generation": (
        "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n"
        "{% endfor %}",
        "user: " + QUESTION,
    ),
    "tools": (
        "{% if tools is not none %}TOOLS{% endif %}{% if documents %}D{% endif %}"
        "{{ messages[0].content }}|",
        QUESTION + "|",
    ),
    "trim": (
        "{{ messages[0]['content'] | trim }}\n   {% if add_generation_prompt %}\n<a>{% endif %}\n",
        QUESTION + "\n<a>",
    ),
}


@pytest.mark.parametrize("name", AS_TRANSFORMERS)
def test_a_template_is_rendered_as_transformers_renders_it(name):
    template, text = AS_TRANSFORMERS[name]
    assert chat_template.render_chat(template, QUESTION, "<s>", "</s>", False) == (
        text + chat_template.CODE_BLOCK
    )


def test_a_template_may_ask_for_the_day():
    template = "{{ strftime_now('%Y-%m-%d') }} {{ messages[0].content }}"
    days = {f"{datetime.date.today()}"}
    text = chat_template.render_chat(template, QUESTION, "", "", False)
    assert text.split(" ")[0] in days | {f"{datetime.date.today()}"}  # or midnight went by


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content[0].text }}",
        "{% for m in messages %}{{ m.text }}{% endfor %}<|assistant|>",
        "{% if tools %}{{ messages[0].content }}{% endif %}",
        "{{ messages[0].content | upper }}",
        "{{ messages[0].content[:20] }}",
        "nothing",
    ],
)
def test_a_prompt_that_does_not_hold_its_problem_is_refused(template):
    in_file = dataclasses.replace(WITHOUT, chat_template=template)
    for prompting, remedy in (
        (CHAT, "used in the place of the file's"),
        (asked_by(template), "Correct `chat_template`"),
    ):
        with pytest.raises(UserError, match=f"does not hold its problem.*{remedy}"):
            prompts.text_of(prompting, in_file, PROBLEM)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
        ("{{ 1 + 'a' }}", "TypeError: "),
        ("{{ raise_exception('only with a system') }}", "TemplateError: only with a system"),
        ("{% if %}", "TemplateSyntaxError: "),
        ("{{ range(1000000) | list }}", "OverflowError: "),
        ("{{ missing.attribute }}", "UndefinedError: 'missing' is undefined"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError: "),
    ],
)
def test_a_template_that_raises_is_refused_with_its_error_and_a_remedy(template, words):
    in_file = dataclasses.replace(WITHOUT, chat_template=template)
    with pytest.raises(UserError) as caught:
        prompts.text_of(CHAT, in_file, PROBLEM)
    said = str(caught.value)
    assert said.startswith("The chat template of the model file cannot be rendered: ")
    assert words in said and "into the model's entry in config/models.yaml" in said


def test_the_template_of_the_catalogue_wins_over_one_of_the_file_that_cannot_be_used():
    in_file = dataclasses.replace(WITHOUT, chat_template="{{ 1 / 0 }}")
    text = prompts.text_of(asked_by("{{ messages[0].content }}>"), in_file, PROBLEM)
    assert "def f(x)" in text and text.endswith(">```python\n")


def test_a_template_cannot_reach_out_of_its_sandbox():
    evil = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(UserError, match="cannot be rendered"):
        prompts.text_of(asked_by(evil), WITHOUT, PROBLEM)


PROBLEMS = {f"HumanEval/{i}": "x" * (i + 1) for i in range(164)}


def test_a_subset_is_seeded_and_spread_over_the_lengths():
    chosen = prompts.subset(PROBLEMS, 20, 1)
    assert len(chosen) == 20
    assert chosen == prompts.subset(dict(reversed(PROBLEMS.items())), 20, 1)
    assert chosen != prompts.subset(PROBLEMS, 20, 2)
    lengths = sorted(len(PROBLEMS[task]) for task in chosen)
    assert lengths[0] <= 9
    assert lengths[-1] >= 156
    assert max(b - a for a, b in zip(lengths, lengths[1:], strict=False)) <= 17


def test_all_and_impossible_subsets():
    assert prompts.subset(PROBLEMS, "all", 1) == set(PROBLEMS)
    with pytest.raises(UserError, match="1 to 164"):
        prompts.subset(PROBLEMS, 165, 1)


def test_the_flush_prompt_is_one_token_that_no_prompt_begins_with():
    assert prompts.flush_text({"!": [1], "ab": [2, 3], "#": [4]}, {1}) == "#"
    with pytest.raises(UserError, match="No single-token text"):
        prompts.flush_text({"!": [1]}, {1})


def test_protocol_names_tell_how_prompts_were_made():
    base = msgspec.structs.replace(BASE, newline="strip")
    assert prompts.protocol_name(base, 768) == "base-strip-column_0-768"
    stopped = msgspec.structs.replace(base, cut="stop_strings")
    assert prompts.protocol_name(stopped, 768) == "base-strip-stop_strings-768"
    assert prompts.protocol_name(CHAT, 1024) == "chat-prefill-closing_fence-1024"


MODEL = MODELS / "parrot-1m.gguf"


def made(context_length: int = 512):
    """Return the prompts of a bundled model for two problems, one of them measured."""
    problems = {"HumanEval/0": "def f(x):\n", "HumanEval/1": "def g(x, y):\n    "}
    settle = {"settle/0": "import os\n"}
    return prompts.make_prompts(
        MODEL, BASE, gguf_facts(MODEL), problems, settle, 1, 1, context_length, 64
    )


def test_a_prompts_file_holds_the_model_and_every_prompt_as_it_is_read_again(tmp_path):
    file = made()
    assert file.model.file_sha256 == sha256_of(MODEL)
    assert (file.model.max_tokens, file.model.protocol) == (64, "base-unchanged-column_0-64")
    assert [row.role for row in file.prompts] == ["problem", "problem", "settle", "flush"]
    assert sum(row.in_subset for row in file.prompts) == 1
    flush = file.prompts[-1]
    assert len(flush.token_ids) == 1
    assert flush.token_ids[0] not in {row.token_ids[0] for row in file.prompts[:-1]}
    stored.write_prompts_file(tmp_path / "m.jsonl", file)
    assert stored.read_prompts_file(tmp_path / "m.jsonl") == file


def test_a_prompt_that_does_not_fit_into_the_context_is_refused_with_the_numbers():
    with pytest.raises(UserError, match=r"with 64 tokens of answer.*context of 64"):
        made(context_length=64)
