"""The literal prompt text per model and problem, made once and sent raw to every runtime.

`joules.core.prompts_file` says how they are stored.
"""

import hashlib
import json
import random
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from joules.core.catalogue import Newline, Prompting
from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Prompt
from joules.core.prompts_file import PromptedModel, PromptRole, PromptRow, PromptsFile
from joules.inputs.chat_template import CODE_BLOCK, IN_CATALOGUE, IN_FILE, render_chat
from joules.inputs.gguf_facts import GgufFacts

INSTRUCTION = (
    "Complete this Python function. Answer with one Python code block that holds the whole "
    "function and the imports it needs.\n\n```python\n{problem}\n```\n"
)
PREFILL = CODE_BLOCK
NEWLINE_RULES: Mapping[Newline, Callable[[str], str]] = {
    "unchanged": lambda text: text,
    "strip": lambda text: text.strip(),
    "strip_add": lambda text: text.strip() + "\n",
}


def protocol_name(prompting: Prompting, max_tokens: int) -> str:
    """Return the name of how a model is asked and its answers are cut: each choice in turn.

    The style, what is done with white space around a problem (chat: that the answer is opened),
    where the answer is cut, and the most tokens that it may have.
    """
    made = prompting.newline if prompting.prompt_style == "base" else "prefill"
    return f"{prompting.prompt_style}-{made}-{prompting.cut}-{max_tokens}"


def text_of(prompting: Prompting, facts: GgufFacts, problem: str) -> str:
    """Return the literal prompt for one problem by the model's style and newline rule.

    A template of the catalogue wins over that of the file. Raises UserError where there is none, or
    none that can be used.
    """
    if prompting.prompt_style == "base":
        return NEWLINE_RULES[prompting.newline](problem)
    own = prompting.chat_template
    template = own or facts.chat_template
    if not template:
        raise UserError(
            "The model is to be asked by chat, but neither its file nor its catalogue entry has "
            "a chat template. Add `chat_template` and `chat_template_source` to its entry in "
            "config/models.yaml, or set `prompt_style: base`."
        )
    return render_chat(
        template,
        INSTRUCTION.format(problem=problem.strip("\n")),
        facts.bos_token or "",
        facts.eos_token or "",
        facts.add_bos,
        IN_CATALOGUE if own else IN_FILE,
    )


def subset(problems: Mapping[str, str], wanted: int | str, seed: int) -> set[str]:
    """Return the ids of the measured problems: all, or a seeded sample spread over the lengths.

    `problems` maps ids to prompt text. They are sorted by length and cut into `wanted` strata;
    one is drawn from each, so that short and long prompts are there in proportion.
    """
    if wanted == "all":
        return set(problems)
    count = int(wanted)
    if not 1 <= count <= len(problems):
        raise UserError(
            f"`problems: {wanted}` was asked for; expected `all` or 1 to {len(problems)}. "
            "Correct it in the config."
        )
    ordered = sorted(problems, key=lambda task_id: (len(problems[task_id]), task_id))
    bounds = [round(index * len(ordered) / count) for index in range(count + 1)]
    generator = random.Random(f"{seed}/problems")
    return {
        generator.choice(ordered[low:high]) for low, high in zip(bounds, bounds[1:], strict=False)
    }


def flush_text(token_ids: Mapping[str, list[int]], first_tokens: set[int]) -> str:
    """Return a one-token text whose token begins none of the prompts.

    `token_ids` maps candidate texts to their ids, without a beginning-of-text token.
    """
    for text, ids in token_ids.items():
        if len(ids) == 1 and ids[0] not in first_tokens:
            return text
    raise UserError(
        "No single-token text was found that begins no prompt, so a prefix cache could not be "
        "emptied. Expected one printable ASCII character that is a token of its own. "
        "Check the model's tokenizer."
    )


FLUSH_CANDIDATES = tuple(string.punctuation + string.digits + string.ascii_uppercase)


def hash_ids(token_ids: Sequence[int]) -> str:
    """Return the sha256 of token ids written as a JSON list."""
    return hashlib.sha256(json.dumps(list(token_ids)).encode()).hexdigest()


def prompt_row(
    task_id: str, role: PromptRole, in_subset: bool, prompting: Prompting, text: str, ids: list[int]
) -> PromptRow:
    """Return one row of the prompts file."""
    return PromptRow(
        task_id=task_id,
        role=role,
        in_subset=in_subset,
        style=prompting.prompt_style,
        cut=prompting.cut,
        prefill=PREFILL if prompting.prompt_style == "chat" else "",
        text=text,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        token_ids=ids,
        token_ids_sha256=hash_ids(ids),
    )


def make_prompts(
    model: Path,
    prompting: Prompting,
    facts: GgufFacts,
    problems: Mapping[str, str],
    settle: Mapping[str, str],
    wanted: int | str,
    seed: int,
    context_length: int,
    max_tokens: int,
) -> PromptsFile:
    """Return what a model's prompts file holds: its identity, problems, settle and flush prompts.

    Raises UserError when a prompt and its longest answer do not fit into the context.
    """
    from joules.inputs.tokenizer import tokenize

    texts = {
        task_id: text_of(prompting, facts, problem)
        for task_id, problem in {**problems, **settle}.items()
    }
    ids = dict(zip(texts, tokenize(model, list(texts.values())), strict=True))
    longest = max(ids, key=lambda task_id: len(ids[task_id]))
    if len(ids[longest]) + max_tokens > context_length:
        raise UserError(
            f"{longest} has {len(ids[longest])} prompt tokens; with {max_tokens} tokens of answer "
            f"it does not fit into the context of {context_length}. Raise "
            "`settings.context_length` or lower `settings.max_tokens` in the config."
        )
    alone = tokenize(model, FLUSH_CANDIDATES, add_bos=False)
    plain = dict(zip(FLUSH_CANDIDATES, alone, strict=True))
    first = {each[1 if facts.add_bos and len(each) > 1 else 0] for each in ids.values()}
    flush = flush_text(plain, first)
    chosen = subset(problems, wanted, seed)
    measured: list[PromptRow] = [
        prompt_row(task_id, "problem", task_id in chosen, prompting, texts[task_id], ids[task_id])
        for task_id in problems
    ]
    others = [
        prompt_row(name, "settle", False, prompting, texts[name], ids[name]) for name in settle
    ]
    others.append(
        prompt_row("flush", "flush", False, prompting, flush, tokenize(model, [flush])[0])
    )
    identity = PromptedModel(
        file_sha256=sha256_of(model),
        parameters=facts.parameters,
        quantization=facts.quantization,
        protocol=protocol_name(prompting, max_tokens),
        max_tokens=max_tokens,
        never_ends=prompting.never_ends,
    )
    return PromptsFile(identity, measured + others)


def prompt_of(row: PromptRow) -> Prompt:
    """Return the prompt that a row describes."""
    return Prompt(row.text, tuple(row.token_ids))


def read_settle(path: str | Path) -> dict[str, str]:
    """Return the settle prompts of `data/warm_up_prompts.jsonl`, by id."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return {row["task_id"]: row["prompt"] for row in rows}
