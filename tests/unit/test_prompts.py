"""Literal prompts: styles, newline rules, templates, the subset, the flush prompt."""

import pytest
import yaml

from joules import models, prompts
from joules.errors import UserError

PROBLEM = '\n\ndef f(x):\n    """ Say x. """\n'
CHAT = {"prompt_style": "chat"}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FACTS = {"chat_template": TEMPLATE, "bos_token": "<s>", "eos_token": "</s>", "add_bos": True}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("unchanged", PROBLEM),
        ("strip", PROBLEM.strip()),
        ("strip_add", PROBLEM.strip() + "\n"),
    ],
)
def test_base_prompts_follow_the_newline_rule(rule, text):
    assert prompts.text_of({"prompt_style": "base", "newline": rule}, {}, PROBLEM) == text


def test_chat_prompts_are_rendered_with_an_open_code_block_and_one_beginning_of_text():
    text = prompts.text_of(CHAT, FACTS, PROBLEM)
    assert not text.startswith("<s>"), "the tokenizer adds it"
    assert text.endswith("<|assistant|>\n```python\n")
    assert "def f(x)" in text
    assert prompts.text_of(CHAT, FACTS | {"add_bos": False}, PROBLEM).startswith("<s>")


def test_a_space_that_belongs_to_the_turn_stands_before_the_answer():
    catalogue = yaml.safe_load((models.REPOSITORY / "config/models.yaml").read_text())
    llama = catalogue["models"]["codellama-7b-instruct"]["chat_template"]
    facts = {"bos_token": "<s>", "eos_token": "</s>", "add_bos": True}
    assert prompts.text_of({**CHAT, "chat_template": llama}, facts, PROBLEM).endswith(
        "[/INST] ```python\n"
    )
    mistral = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}"
        "[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    assert prompts.text_of({**CHAT, "chat_template": mistral}, facts, PROBLEM).endswith(
        "[/INST] ```python\n"
    )
    reasoning = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    assert prompts.text_of({**CHAT, "chat_template": reasoning}, facts, PROBLEM).endswith(
        "<think>\n```python\n"
    )


def test_the_template_of_the_catalogue_serves_where_the_file_has_none():
    text = prompts.text_of({**CHAT, "chat_template": "{{ messages[0].content }}>"}, {}, PROBLEM)
    assert text.endswith(">```python\n")


def test_a_model_without_any_template_is_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"chat_template.*config/models\.yaml"):
        prompts.text_of(CHAT, {}, PROBLEM)


def test_a_template_cannot_reach_out_of_its_sandbox():
    evil = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(UserError, match="cannot be rendered"):
        prompts.text_of({**CHAT, "chat_template": evil}, {}, PROBLEM)


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
    base = {"prompt_style": "base", "newline": "strip", "cut": "column_0"}
    assert prompts.protocol_name(base, 768) == "base-strip-column_0-768"
    assert prompts.protocol_name({**base, "cut": "stop_strings"}, 768) == (
        "base-strip-stop_strings-768"
    )
    assert prompts.protocol_name({**CHAT, "cut": "closing_fence"}, 1024) == (
        "chat-prefill-closing_fence-1024"
    )
