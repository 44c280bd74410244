"""The runtimes under comparison: one module each, found by name, never listed anywhere.

A module in this folder exports one class `Runtime` of the shape of the protocol below. A runtime is
one module plus its requirement and environment files and its key in the config; no rule, schema,
figure, article or test names a runtime.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from joules.core.errors import UserError
from joules.core.inference import (
    PLAIN_KV_CACHE,
    Completion,
    Facts,
    KvCacheType,
    Model,
    Options,
    Prompt,
    Settings,
    SettingsInForce,
)

Request = dict[str, Any]  # to a foreign server or library; each has keys of its own


@dataclasses.dataclass(frozen=True)
class Preview:
    """What making a runtime would take on this machine, or whether what was made can be used.

    Attributes:
        text: in words, as the end of a sentence about the runtime.
        possible: False: it cannot be made here, or what was made cannot be used.
        fetch_bytes: of the archive that is still to be downloaded; 0 where there is none, or where
            its size is not known.
    """

    text: str
    possible: bool = True
    fetch_bytes: int = 0


class Runtime(Protocol):
    """An LLM inference runtime in processes of its own, for the length of one run.

    Used as a context manager; leaving it calls `stop`. `runtimes.shared.basis` has what most
    modules need alike.

    Attributes:
        LABEL: its name as the article prints it.
        DESCRIPTION: the article's sentences about it, with their citations.
        LIMITATIONS: sentences of the article on limits that this runtime alone has.
        TRIALS: sentences of the article on trial runs of our own with it, by what they are about:
            `threads`, or `ways of use` that are not measured.
        CANNOT_HOLD: the settings that it cannot honour, by the names of `Settings`.
        PACKAGES: the distributions in the harness's own environment that it works through; their
            versions are recorded.
        IMPORTS: whether it has a model imported once before it can be loaded. What does not import
            has no window `import`.
    """

    LABEL: str
    DESCRIPTION: str
    LIMITATIONS: tuple[str, ...]
    TRIALS: Mapping[str, str]
    CANNOT_HOLD: frozenset[str]
    PACKAGES: tuple[str, ...]
    IMPORTS: bool

    @classmethod
    def preview(cls, options: Options, provided: Facts | None = None) -> Preview:
        """Return what `provide` would take here; with its facts, whether they can be used here.

        Makes and fetches nothing.
        """

    @classmethod
    def provide(cls, options: Options, folder: Path) -> Facts:
        """Install, build or check what the runtime needs below `folder`; return its facts."""

    def __init__(self, options: Options, work_folder: Path) -> None:
        """Take the options of the config and, under `provided`, the facts of `provide`.

        Writes only below `work_folder`. Raises UserError for an unknown option.
        """

    def facts(self) -> Facts:
        """Return versions, llama.cpp commit, build flags, sha256, SIMD line; outside windows."""

    def import_model(self, model: Model) -> None:
        """Do what a user pays once per model, as a copy into a store; nothing runs afterwards."""

    def start(self, model: Model, settings: Settings) -> None:
        """Start the processes and load the weights; they are loaded when it returns.

        Imports the model first where that was not done.
        """

    def holder(self) -> int | None:
        """Return the process that holds the weights, outside windows; None where not known.

        Another one than before means that they were loaded again.
        """

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt greedily, with at most `max_tokens` tokens, else `Settings.max_tokens`.

        Raises UserError when the prompt does not fit, or the runtime dies.
        """

    def settings_in_force(self) -> SettingsInForce:
        """Return the settings that can be observed, under the names of `Settings`."""

    def stop(self) -> None:
        """End every process; nothing is left outside the work folder."""

    def __enter__(self) -> "Runtime": ...

    def __exit__(self, *exception: object) -> None: ...


def check_options(name: str, options: Options, known: Sequence[str]) -> None:
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


def check_kv_cache(name: str, kv_cache: KvCacheType | None) -> None:
    """Raise UserError where the runtime `name` is to keep keys and values as it cannot be told to.

    Its module is read only where something is asked for that not every runtime does.
    """
    if kv_cache in (None, PLAIN_KV_CACHE) or "kv_cache" not in load(name).CANNOT_HOLD:
        return
    raise UserError(
        f"`kv_cache` is {kv_cache}, and the runtime {name} cannot be told so. Expected "
        f"{PLAIN_KV_CACHE}. Set it to that, or give {kv_cache} to the arms that can hold it "
        "(`arms.<name>.settings`)."
    )


def names() -> list[str]:
    """Return the names of the runtimes that have a module here."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def load(name: str) -> type[Runtime]:
    """Return the class of the runtime `name`. Raises UserError for an unknown name."""
    if name not in names():
        raise UserError(
            f"Unknown runtime {name!r}. Known runtimes: {', '.join(names())}. "
            "Correct `runtimes` in the config, or add a module of that name to "
            "workflow/scripts/joules/runtimes/."
        )
    return importlib.import_module(f"{__name__}.{name}").Runtime


def description_of(name: str) -> str:
    """Return the article's sentences about a runtime; "" where it has no module any more."""
    return load(name).DESCRIPTION if name in names() else ""


def limitations_of(name: str) -> tuple[str, ...]:
    """Return the sentences on limits of a runtime alone; none where it has no module any more."""
    return load(name).LIMITATIONS if name in names() else ()


def trials_of(name: str) -> Mapping[str, str]:
    """Return the sentences on trial runs with a runtime; none where it has no module any more."""
    return load(name).TRIALS if name in names() else {}
