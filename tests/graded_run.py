"""A record of HumanEval answers and the prompts they answer, for tests that grade."""

import hashlib
from collections.abc import Mapping

import msgspec
from demonstration_campaigns import COMMITTED

from joules.core.prompts_file import PromptedModel, PromptRow, PromptsFile
from joules.core.record import Record
from joules.core.stored import read_record
from joules.inputs.chat_template import render_chat
from joules.inputs.humaneval import Problem, problems
from joules.inputs.prompts import INSTRUCTION

MEASURED = read_record(COMMITTED / "records/parrot-1m/ollama/task/1.json")
# As model files have it: the answer begins on a line of its own, or (Mistral) behind a bracket.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
MODEL = PromptedModel(
    file_sha256="0" * 64, parameters=1, quantization="Q8_0", protocol="base-unchanged-column_0-256"
)


def row(task_id: str, text: str, style: str = "base", cut: str = "") -> PromptRow:
    """One problem's prompt."""
    return PromptRow(
        task_id=task_id,
        role="problem",
        in_subset=True,
        style=style,
        cut=cut,
        prefill="```python\n" if style == "chat" else "",
        text=text,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        token_ids=[1],
        token_ids_sha256="1" * 64,
    )


def prompts(style: str = "base", cut: str = "", template: str = CHATML) -> PromptsFile:
    """A prompt for every problem; one of a chat is made of a template."""

    def text(problem: Problem) -> str:
        if style == "base":
            return problem.prompt
        question = INSTRUCTION.format(problem=problem.prompt.strip("\n"))
        return render_chat(template, question, "<s>", "</s>", False)

    rows = [row(name, text(problem), style, cut) for name, problem in problems().items()]
    return PromptsFile(MODEL, rows)


def record(completions: Mapping[str, str]) -> Record:
    """A measured record with these completions; one with `cut` in it ended at its limit."""
    tasks = [
        msgspec.structs.replace(
            MEASURED.tasks[0],
            task_id=task_id,
            completion=text,
            finish_reason="limit" if "cut" in text else "eos",
        )
        for task_id, text in completions.items()
    ]
    model = msgspec.structs.replace(MEASURED.model, name="small")
    return msgspec.structs.replace(
        MEASURED, study="demo", campaign="test", model=model, tasks=tasks
    )
