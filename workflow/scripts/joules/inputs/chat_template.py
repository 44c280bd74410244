"""A model's chat template, rendered as the transformers library renders it.

The template is foreign code: it runs in jinja2's sandbox, and whatever it raises is told in words.
What templates may use is what `transformers` gives them (src/transformers/utils/
chat_template_utils.py, version 5.24): `tojson` that escapes no HTML, `break` and `continue`, the
`generation` block, `raise_exception`, `strftime_now`, and `tools` and `documents` that are none.
"""

import datetime
import functools
import json
from typing import TYPE_CHECKING, Any

from joules.core.errors import UserError

if TYPE_CHECKING:
    import jinja2

CODE_BLOCK = "```python\n"  # how an answer is opened
IN_FILE = "the chat template of the model file"
IN_CATALOGUE = "the `chat_template` of the catalogue"
REMEDY = {
    IN_FILE: (
        "Put a working `chat_template` with its `chat_template_source` into the model's entry in "
        "config/models.yaml: it is used in the place of the file's"
    ),
    IN_CATALOGUE: "Correct `chat_template` in the model's entry in config/models.yaml",
}


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@functools.cache
def _compiled(template: str) -> "jinja2.Template":
    """Return a template, compiled; its day is that of the first call, the same for all prompts."""
    import jinja2.ext
    from jinja2 import nodes, parser, runtime
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """The block around what the model is to generate, which trainers look for: its content."""

        tags = {"generation"}

        def parse(self, parser: parser.Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

        def _content(self, caller: runtime.Macro) -> str:
            return caller()

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": refuse,
        "strftime_now": datetime.datetime.now().strftime,
    }
    return environment.from_string(template)


def _rendered(template: str, messages: list[dict[str, str]], **named: object) -> str:
    return _compiled(template).render(messages=messages, tools=None, documents=None, **named)


def render_chat(
    template: str, question: str, bos: str, eos: str, adds_bos: bool, origin: str = IN_FILE
) -> str:
    """Return a chat prompt that asks `question`, with the answer opened at a code block.

    A leading beginning-of-text token is taken off where the tokenizer adds one. `origin` says in
    errors whose template it is. Raises UserError when the template cannot be rendered, or when what
    it makes does not hold the question.
    """
    asked = {"role": "user", "content": question}
    named = {"bos_token": bos, "eos_token": eos}
    try:
        text = _rendered(template, [asked], add_generation_prompt=True, **named)
    except Exception as error:  # foreign code, which may raise anything
        raise UserError(
            f"{origin.capitalize()} cannot be rendered: {_in_words(error)}. Expected one that "
            f"takes a single message of the user, whose content is a text. {REMEDY[origin]}."
        ) from error
    if not holds(text, question):
        raise UserError(
            f"{origin.capitalize()} makes a prompt that does not hold its problem: "
            f"{_shortened(text)!r}. Expected one that takes a message whose content is a text, and "
            f"repeats it unchanged. {REMEDY[origin]}."
        )
    answer = {"role": "assistant", "content": CODE_BLOCK}
    try:
        answered = _rendered(template, [asked, answer], **named)
    except Exception:  # a template need not take an answer
        answered = ""
    text += gap_before_answer(text, answered)
    if adds_bos and bos and text.startswith(bos):
        text = text[len(bos) :]
    return text + CODE_BLOCK


def holds(text: str, question: str) -> bool:
    """Return whether a prompt holds a question: as it is, or as JSON, whatever is around it."""
    plain = question.strip()
    return any(form in text for form in (plain, _tojson(plain)[1:-1], json.dumps(plain)[1:-1]))


def _in_words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it calls itself without end"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _shortened(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def gap_before_answer(asked: str, answered: str) -> str:
    """Return the white space that a template puts between a question and its answer.

    Some formats have a space there that belongs to the turn and not to the answer (Llama 2,
    Mistral). `asked` is rendered without an answer, `answered` with one that begins as CODE_BLOCK.
    """
    start = CODE_BLOCK.strip()
    if not answered.startswith(asked) or start not in answered[len(asked) :]:
        return ""
    gap = answered[len(asked) : answered.index(start, len(asked))]
    return gap if gap.isspace() else ""
