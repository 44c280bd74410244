"""The literal prompts of one model, as they are stored: JSON lines, the model's identity first.

Files of schema 1 hold the identity as a row of the role `model`, and each prompt's text hash under
the bare name `sha256`.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from joules.core.values import Sha256, Stored

SCHEMA: Final = 2

PromptRole = Literal["problem", "settle", "flush"]


class PromptedModel(Stored, frozen=True, kw_only=True):
    """What is known of the model file, and how it is asked."""

    file_sha256: Annotated[Sha256, Meta(description="Of the model file.")]
    parameters: Annotated[int, Meta(description="Number of weights.")]
    quantization: Annotated[str, Meta(description="File type as the GGUF states it.")]
    protocol: Annotated[
        str,
        Meta(
            description="How prompts were made and cut; records of different protocols are never "
            "compared."
        ),
    ]
    max_tokens: Annotated[
        int | None,
        Meta(description="Most tokens of an answer; null in older files: the study's setting."),
    ] = None
    never_ends: Annotated[
        bool, Meta(description="Whether the model never ends an answer by itself.")
    ] = False


class PromptRow(Stored, frozen=True, kw_only=True):
    """One prompt, as it is sent raw to every runtime."""

    task_id: Annotated[str, Meta(description="For example HumanEval/0.")]
    role: Annotated[
        PromptRole,
        Meta(
            description="A problem is measured; settle prompts come before; the flush prompt "
            "empties a prefix cache."
        ),
    ]
    in_subset: Annotated[bool, Meta(description="Whether the study's subset holds the problem.")]
    style: Annotated[str, Meta(description="`base` or `chat`.")]
    cut: Annotated[
        str, Meta(description="Where the answer is cut; empty in files from before the choice.")
    ] = ""
    prefill: Annotated[str, Meta(description="Start of the answer that the prompt holds.")]
    text: Annotated[str, Meta(description="The literal prompt.")]
    text_sha256: Annotated[Sha256, Meta(description="Of the text in UTF-8.")]
    token_ids: Annotated[
        list[int], Meta(description="By the model file's own tokenizer, special tokens parsed.")
    ]
    token_ids_sha256: Annotated[Sha256, Meta(description="Of the ids as a JSON list.")]


class PromptsFile(Stored, frozen=True):
    """Everything that a prompts file holds."""

    model: PromptedModel
    prompts: list[PromptRow]


class PromptsHeader(Stored, frozen=True):
    """The first line of a prompts file."""

    schema: Annotated[Literal[2], Meta(description="Version of this contract.")]
    model: Annotated[PromptedModel, Meta(description="The model that these prompts are for.")]


class ModelRowOfSchema1(PromptedModel, frozen=True, kw_only=True):
    """The first row of a prompts file of schema 1."""

    task_id: str
    role: Literal["model"]

    def as_now(self) -> PromptedModel:
        """Return the same in today's form."""
        return PromptedModel(
            **{name: getattr(self, name) for name in PromptedModel.__struct_fields__}
        )


class PromptRowOfSchema1(PromptRow, frozen=True, kw_only=True):
    """Any other row of a prompts file of schema 1; its protocol is that of the first row."""

    text_sha256: Sha256 = field(name="sha256")
    protocol: str

    def as_now(self) -> PromptRow:
        """Return the same in today's form."""
        return PromptRow(**{name: getattr(self, name) for name in PromptRow.__struct_fields__})
