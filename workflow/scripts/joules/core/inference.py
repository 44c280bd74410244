"""What a runtime is asked and what it answers: settings, model, prompt, completion.

Standard library only: workers of runtimes import this with a Python that has nothing else of ours.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from joules.core.errors import UserError

# Foreign data: what a user gives to one runtime and what a runtime says of itself. Keys differ.
Options = Mapping[str, Any]
Facts = dict[str, Any]

# The settings that a runtime chooses itself where it is measured as installed.
OWN_CHOICE = (
    *("threads", "batch_size", "micro_batch_size", "flash_attention", "gpu_layers"),
    *("prompt_cache", "kv_cache"),
)

Scalar = bool | int | float | str | None
SettingsInForce = dict[str, Scalar | list[int]]  # by the names of `Settings`
FinishReason = Literal["eos", "limit", "aborted_by_runtime"]
KvCacheType = Literal["f16", "q8_0", "q4_0"]
PLAIN_KV_CACHE: KvCacheType = "f16"  # what runtimes keep unless told otherwise, nearly all of them


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a runtime must hold. Each module translates it and drops nothing silently.

    None is the runtime's own choice: its module says nothing of that setting then.

    Attributes:
        context_length: tokens of prompt and answer together.
        threads: worker threads of the runtime, for prefill and decode.
        batch_size: largest number of prompt tokens handed over at once.
        micro_batch_size: largest number of prompt tokens computed at once.
        flash_attention: whether the fused attention kernel is used; it changes rounding.
        gpu_layers: layers computed on the GPU; 0 is the CPU alone.
        seed: of the sampler; without effect at temperature 0, sent all the same.
        temperature: 0, greedy decoding.
        max_tokens: answers end here at the latest.
        ignore_eos: decode exactly `max_tokens` tokens (kind `fixed`).
        prompt_cache: False: no answer may reuse the computed prefix of an earlier prompt.
        kv_cache: the type of the keys and values that are kept, both the same, by llama.cpp's
            names. In records of before it was a setting: None, not stated.

    Raises UserError for another temperature than 0: runtimes sample differently, so nothing but
    greedy decoding can be compared.
    """

    context_length: int
    threads: int | None
    batch_size: int | None
    micro_batch_size: int | None
    flash_attention: bool | None
    gpu_layers: int | None
    seed: int
    max_tokens: int
    temperature: float = 0.0
    ignore_eos: bool = False
    prompt_cache: bool | None = False
    kv_cache: KvCacheType | None = None

    def __post_init__(self) -> None:
        if self.temperature != 0:
            raise UserError(
                f"The temperature is {self.temperature}; expected 0, greedy decoding: runtimes "
                "sample differently. Set `settings.temperature` to 0 or take it out."
            )

    @property
    def as_installed(self) -> bool:
        """Whether the runtime chooses all that it can choose without altering what is asked."""
        return all(getattr(self, name) is None for name in OWN_CHOICE)


@dataclasses.dataclass(frozen=True)
class Model:
    """A model file on disk. `sha256` is that of the file, already checked."""

    name: str
    path: Path
    sha256: str


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A literal prompt, sent raw, and its token ids by the model file's own tokenizer."""

    text: str
    token_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        text: as generated, not cut.
        prompt_tokens: as the runtime counted them, beginning-of-text token included.
        generated_tokens: tokens sampled, end-of-text token included.
        prefill_s: from the start of the prefill to the first token, in seconds; None where not
            known.
        decode_s: from the first token to the last, in seconds; where `overhead_s` is not known, to
            the end of the call.
        finish_reason: why it ended: at the end of text, at the limit, or broken off.
        counts_known: False when the runtime reported no counts; the harness then counts the text.
        overhead_s: the rest of the call, in seconds, nearly all of it before the prefill; None
            where it cannot be told apart. Where known, the three add up to the call.
    """

    text: str
    prompt_tokens: int
    generated_tokens: int
    prefill_s: float | None
    decode_s: float
    finish_reason: FinishReason
    counts_known: bool = True
    overhead_s: float | None = None


def in_whole_characters(completion: Completion) -> Completion:
    """Return an answer whose text any file can hold, and whose end every runtime shows alike.

    Where the limit cuts a character off, some runtimes show what there is of it as one U+FFFD and
    some show nothing: nothing is kept. Half of a surrogate pair, which JSON can carry and UTF-8
    cannot, becomes U+FFFD; both halves become their character.
    """
    text = completion.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if completion.finish_reason == "limit":
        text = text.removesuffix("\ufffd")
    return dataclasses.replace(completion, text=text)


def parts_of_call(
    call_s: float, prefill_s: float | None, decode_s: float | None
) -> tuple[float | None, float, float | None]:
    """Return prefill, decode and overhead of a call as `Completion` has them, in seconds.

    `prefill_s` and `decode_s` are what the runtime says, None where it does not; its clock may run
    past the end of the call by a little, which is taken off the decoding.
    """
    if prefill_s is None:
        return None, call_s, None
    prefill_s = min(prefill_s, call_s)
    rest_s = call_s - prefill_s
    if decode_s is None:
        return prefill_s, rest_s, None
    decode_s = min(decode_s, rest_s)
    return prefill_s, decode_s, rest_s - decode_s
