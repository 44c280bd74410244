"""The runtimes under comparison: one module each, found by name, never listed anywhere.

A module in this folder exports one class `Runtime` of the shape of the protocol below. Adding
a runtime means adding its module and its environment files; no rule, schema, figure or test
names a runtime.
"""

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from joules.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every runtime must hold equal. Each module translates it and drops nothing silently.

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

    Raises UserError for another temperature than 0: runtimes sample differently, so nothing but
    greedy decoding can be compared.
    """

    context_length: int
    threads: int
    batch_size: int
    micro_batch_size: int
    flash_attention: bool
    gpu_layers: int
    seed: int
    max_tokens: int
    temperature: float = 0.0
    ignore_eos: bool = False
    prompt_cache: bool = False

    def __post_init__(self) -> None:
        if self.temperature != 0:
            raise UserError(
                f"The temperature is {self.temperature}; expected 0, greedy decoding: runtimes "
                "sample differently. Set `settings.temperature` to 0 or take it out."
            )


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
        prefill_s: from sending the prompt to the first token, in seconds; None where not known.
        decode_s: from the first token to the last, in seconds.
        finish_reason: `eos`, `limit` or `aborted_by_runtime`.
        load_s: spent on loading weights while answering, in seconds; None where not reported.
        counts_known: False when the runtime reported no counts; the harness then counts the text.
    """

    text: str
    prompt_tokens: int
    generated_tokens: int
    prefill_s: float | None
    decode_s: float
    finish_reason: str
    counts_known: bool = True
    load_s: float | None = None


class Runtime(Protocol):
    """An LLM inference runtime in processes of its own, for the length of one run.

    Used as a context manager; leaving it calls `stop`.
    """

    LABEL: str
    CANNOT_HOLD: frozenset[str]

    @classmethod
    def provide(cls, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Install, build or check what the runtime needs below `folder`; return its facts."""

    def __init__(self, options: Mapping[str, Any], work_folder: Path) -> None:
        """Take the options of the config and, under `provided`, the facts of `provide`.

        Writes only below `work_folder`. Raises UserError for an unknown option.
        """

    def facts(self) -> dict[str, Any]:
        """Return versions, llama.cpp commit, build flags, sha256, SIMD line; outside windows."""

    def start(self, model: Model, settings: Settings) -> None:
        """Start the processes and load the weights; they are loaded when it returns."""

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt greedily, with at most `max_tokens` tokens, else `Settings.max_tokens`.

        Raises UserError when the prompt does not fit, or the runtime dies.
        """

    def settings_in_force(self) -> dict[str, Any]:
        """Return the settings that can be observed, under the names of `Settings`."""

    def stop(self) -> None:
        """End every process; nothing is left outside the work folder."""

    def __enter__(self) -> "Runtime": ...

    def __exit__(self, *exception: object) -> None: ...


def check_options(name: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise UserError for options of the runtime `name` that are not known."""
    unknown = sorted(set(options) - {*known, "provided"})
    if unknown:
        raise UserError(
            f"runtime_options.{name} has {', '.join(unknown)}; expected only {', '.join(known)}. "
            "Correct the spelling, or take it out."
        )


def check_fits(prompt_tokens: int, max_tokens: int, settings: Settings) -> None:
    """Raise UserError when a prompt and its longest answer do not fit into the context."""
    if prompt_tokens + max_tokens > settings.context_length:
        raise UserError(
            f"The prompt has {prompt_tokens} tokens; with {max_tokens} tokens of answer that is "
            f"more than the context of {settings.context_length}. Raise `settings.context_length` "
            "or lower `settings.max_tokens` in the config."
        )


def check_held(runtime: Runtime, settings: Settings) -> None:
    """Raise UserError for answers of fixed length from a runtime that stops at the end of text."""
    if settings.ignore_eos and "ignore_eos" in runtime.CANNOT_HOLD:
        raise UserError(
            f"The setting `ignore_eos` is on, but {runtime.LABEL} always stops at the end of text. "
            f"Expected it off. Take `fixed` off `kinds`, or {runtime.LABEL} off `runtimes`."
        )


def names() -> list[str]:
    """Return the names of the runtimes that have a module here."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Runtime]:
    """Return the class of the runtime `name`. Raises UserError for an unknown name."""
    if name not in names():
        raise UserError(
            f"Unknown runtime {name!r}. Known runtimes: {', '.join(names())}. "
            "Correct `runtimes` in the config, or add a module of that name to "
            "workflow/scripts/joules/runtimes/."
        )
    return importlib.import_module(f"{__name__}.{name}").Runtime


def python_of(name: str) -> str:
    """Return the Python interpreter that has the packages of the runtime `name`.

    That is `.venvs/<name>` below the working directory where it exists, else this interpreter.
    """
    own = Path(".venvs") / name / "bin" / "python"
    return str(own.absolute()) if own.exists() else sys.executable
