"""From the text that a model returned to a program: one pure rule set for every runtime.

Two styles. `base`: the model continued the prompt. `chat`: the model answered in words and code.
No rule looks at the runtime, and nothing here runs the program. Time grows linearly with the text.
"""

import ast
import re
import textwrap
from dataclasses import dataclass

from joules.core.errors import UserError
from joules.grade.needed import byte_lines, needed, text_of
from joules.inputs.humaneval import Problem

# Where an answer ends, by prompt style; the first is the default. `column_0`: before the first
# line that starts there. `closing_fence`: with the code block; see `_from_answer`.
CUTS = {"base": ("column_0", "stop_strings"), "chat": ("closing_fence",)}
MAX_CHARACTERS = 65536
MAX_BLOCKS = 64
MAX_STARTS = 32
MAX_DROPPED_LINES = 20
MAX_PARSED_CHARACTERS = 8 * MAX_CHARACTERS
END_TOKENS = (
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|EOT|>",
    "</s>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<eos>",
    "<file_sep>",
    "<|file_sep|>",
    "<|fim_pad|>",
    "<|end\u2581of\u2581sentence|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
OTHER_LANGUAGES = frozenset(
    ("bash", "sh", "shell", "console", "text", "txt", "json", "plaintext", "output")
)
# Where EvalPlus 0.3.1 ends a base model's answer (evalplus/gen/util, evalplus/provider/utility.py).
STOP_STRINGS = (
    "\nif __name__",
    "\ndef main(",
    "\nprint(",
    "\ndef ",
    "\nclass ",
    "\nimport ",
    "\nfrom ",
    "\nassert ",
)
_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^\s`~]*)")
_CODE_LINE = re.compile(r"(?:from|import|def|class|async def)\s+\w|@\w")
_JOINED = re.compile(r"(?:else|elif|except|finally)\b")
_KEPT = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
)


@dataclass(frozen=True)
class Extraction:
    """The program to grade, or None when the text holds none, and the rule that decided.

    `rule` joins what was done with "+", such as "end_token+fence".
    """

    program: str | None
    rule: str

    def after(self, rules: list[str]) -> "Extraction":
        """Return the same program with the rules that came before put first."""
        return Extraction(self.program, "+".join([*rules, self.rule]))


class _Parser:
    """Parses until a budget of characters is spent; so the work stays linear in the text."""

    def __init__(self) -> None:
        self.left = MAX_PARSED_CHARACTERS

    def __call__(self, source: str) -> ast.Module | None:
        """Return the syntax tree, or None for invalid source and when the budget is spent."""
        self.left -= len(source)
        return _parse(source) if self.left >= 0 else None


def _parse(source: str) -> ast.Module | None:
    try:
        tree = ast.parse(source)
        compile(tree, "answer", "exec", dont_inherit=True)  # finds a `return` outside a function
        return tree
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return None


def program(style: str, prompt_text: str, problem: Problem, text: str, cut: str = "") -> Extraction:
    """Return the program in `text`, which a model returned for `prompt_text`.

    `style` is "base" (`text` continues `prompt_text`) or "chat" (`text` is an answer; where
    `prompt_text` opened a code block, the answer starts inside it). `cut` says where the answer
    ends, by default the style's first choice in `CUTS`. Never raises for any text; raises
    UserError for another style or cut.
    """
    if style not in CUTS:
        raise UserError(f'The prompt style is {style!r}. It should be "base" or "chat".')
    if cut and cut not in CUTS[style]:
        raise UserError(
            f"The cut of prompt style {style} is {cut!r}. Expected: {' or '.join(CUTS[style])}. "
            "Correct `prompt_styles` in config/models.yaml."
        )
    rules = []
    if len(text) > MAX_CHARACTERS:
        text = text[:MAX_CHARACTERS]
        rules.append("too_long")
    if style == "chat":
        return _from_answer(_opened_block(prompt_text) + text, problem, rules)
    text = _cut_end_token(text, rules)
    if cut == "stop_strings":
        kept = before_stop_string(text)
    else:
        kept = first_indented_lines(text, prompt_text.endswith("\n"))
    if not kept.strip():
        return Extraction(None, "empty").after(rules)
    return Extraction(prompt_text + kept, "base" if kept == text else "base_cut").after(rules)


def first_indented_lines(text: str, at_line_start: bool = True) -> str:
    """Return `text` up to its first non-blank line that starts in column 0.

    Without `at_line_start` the first line continues the prompt's last one and is always kept.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        continues = number == 0 and not at_line_start
        if line.strip() and not line[0].isspace() and not continues:
            return "".join(kept + "\n" for kept in lines[:number])
    return text


def before_stop_string(text: str) -> str:
    """Return `text` up to the first of `STOP_STRINGS`."""
    return text[: min((p for stop in STOP_STRINGS if (p := text.find(stop)) >= 0), default=None)]


def _cut_end_token(text: str, rules: list[str]) -> str:
    places = [place for token in END_TOKENS if (place := text.find(token)) >= 0]
    if not places:
        return text
    rules.append("end_token")
    return text[: min(places)]


def _opened_block(prompt_text: str) -> str:
    """Return the code block that the prompt's end opened and did not close, or ""."""
    lines = prompt_text.split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE.match(line)]
    return "\n".join(lines[fences[-1] :]) if len(fences) % 2 else ""


def _from_answer(text: str, problem: Problem, rules: list[str]) -> Extraction:
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    if "</think>" in text:
        text = text.rsplit("</think>", 1)[1]
        rules.append("think")
    elif "<think>" in text:
        return Extraction(None, "unclosed_think").after(rules)
    text = _cut_end_token(text, rules)
    parse = _Parser()
    found = _fenced(text, problem, parse) or _unfenced(text, problem, parse)
    return found.after(rules) if found else Extraction(None, "no_code").after(rules)


def _fenced(text: str, problem: Problem, parse: _Parser) -> Extraction | None:
    """Return the best program in code blocks."""
    name = problem.entry_point
    blocks = code_blocks(text)
    for block in blocks:
        if _defines(parse(block), name):
            return Extraction(_program(problem, block), "fence")
    for block in blocks:
        if prefix := _valid_prefix(block, name, parse):
            return Extraction(_program(problem, prefix), "fence_truncated")
    for block in blocks:
        for body in (block, textwrap.indent(block, "    ")):
            if body.lstrip("\n")[:1] in (" ", "\t") and parse(problem.prompt + body):
                return Extraction(problem.prompt + body, "fence_body")
    return None


def _unfenced(text: str, problem: Problem, parse: _Parser) -> Extraction | None:
    """Return the program that starts at a line of code, or that continues the prompt."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE.match(line)]
    starts = [number for number, line in enumerate(lines) if _CODE_LINE.match(line)]
    for start in starts[:MAX_STARTS]:
        stop = next((fence for fence in fences if fence > start), len(lines))
        if prefix := _valid_prefix("\n".join(lines[start:stop]), problem.entry_point, parse):
            return Extraction(_program(problem, prefix), "plain")
    body = "\n".join(lines[: fences[0]] if fences else lines)
    for rule, kept in (("body", body), ("body_cut", first_indented_lines(body))):
        if kept.strip() and parse(problem.prompt + kept):
            return Extraction(problem.prompt + kept, rule)
    return None


def code_blocks(text: str) -> list[str]:
    """Return the contents of the first 64 fenced blocks of Python or of no named language.

    Fences are ``` or ~~~, may be indented (the block is then dedented) and may stay open.
    """
    blocks: list[str] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []

    def close(opening: re.Match[str]) -> None:
        block = "\n".join(lines)
        if block.strip() and opening[3].lower() not in OTHER_LANGUAGES:
            blocks.append(block)

    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if opened is None:
            opened, lines = fence, []
        elif fence and fence[2].startswith(opened[2]) and not line[fence.end(2) :].strip():
            close(opened)
            opened = None
        else:
            lines.append(line.removeprefix(opened[1]))
        if len(blocks) == MAX_BLOCKS:
            return blocks
    if opened is not None:
        close(opened)
    return blocks


def _defines(tree: ast.Module | None, name: str) -> bool:
    for node in tree.body if tree else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name == name:
                return True
        elif isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            return True
    return False


def _statements(source: str) -> list[str]:
    """Split source into top-level statements by lines, without needing all of it to parse.

    A statement starts at a line in column 0 outside brackets and strings; `else` and the like
    belong to the one before, a decorator to the one after.
    """
    statements: list[list[str]] = []
    scanner = _Scanner()
    decorated = False
    for line in source.split("\n"):
        starts = (
            not scanner.inside
            and line.strip()
            and not line[0].isspace()
            and line[0] not in "#)]}"
            and not _JOINED.match(line)
        )
        if (starts and not decorated) or not statements:
            statements.append([])
        if starts:
            decorated = line.startswith("@")
        statements[-1].append(line)
        scanner.feed(line)
    return ["\n".join(lines) for lines in statements]


class _Scanner:
    """Follows brackets and strings line by line; `inside` tells whether the next line continues."""

    _TOKEN = re.compile(r"\\.|\"\"\"|'''|[\"'#()\[\]{}]|\\$", re.S)

    def __init__(self) -> None:
        self.depth = 0
        self.quote = ""
        self.inside = False

    def feed(self, line: str) -> None:
        """Read one line without its line end."""
        joined = False
        for token in self._TOKEN.findall(line):
            if token.startswith("\\"):
                joined = token == "\\"
            elif self.quote:
                if token == self.quote or len(self.quote) == 1 and token == self.quote * 3:
                    self.quote = ""
            elif token == "#":
                break
            elif token[0] in "\"'":
                self.quote = token
            else:
                self.depth = max(0, self.depth + (1 if token in "([{" else -1))
        if len(self.quote) == 1 and not joined:
            self.quote = ""
        self.inside = bool(self.depth or self.quote or joined)


def _valid_prefix(source: str, name: str, parse: _Parser) -> str | None:
    """Return the statements before the first invalid one, if they define `name`.

    Where the invalid statement is what defines `name`, up to 20 lines are dropped from its end.
    """
    good: list[str] = []
    defined = False
    for statement in _statements(source):
        tree = parse(statement)
        if tree is None:
            if not defined:
                lines = statement.split("\n")
                for count in range(len(lines) - 1, max(0, len(lines) - 1 - MAX_DROPPED_LINES), -1):
                    shorter = "\n".join(lines[:count])
                    if _defines(parse(shorter), name):
                        return "\n".join([*good, shorter])
            break
        good.append(statement)
        defined = defined or _defines(tree, name)
    return "\n".join(good) if defined else None


def _program(problem: Problem, source: str) -> str:
    """Return the prompt with what its function needs of `source`: no demonstrations, no tests."""
    tree = _parse(source)
    body = tree.body if tree else []
    future = [node for node in body if isinstance(node, ast.ImportFrom) and _is_future(node)]
    chosen = needed(tree, source, problem.entry_point) if tree else []
    if chosen is None:
        chosen = [node for node in body if _is_definition(node)]
    lines = byte_lines(source)
    kept = [text_of(node, lines) for node in chosen if node not in future]
    first = "".join(text_of(node, lines) + "\n" for node in future)  # nothing may come before
    return f"{first}{problem.prompt}\n" + "\n".join(kept) + "\n"


def _is_future(node: ast.ImportFrom) -> bool:
    return node.module == "__future__" and not node.level


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Try):
        return all(_is_definition(inner) for inner in node.body)
    return isinstance(node, _KEPT)
