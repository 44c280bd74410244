"""What a run is made of before it starts: its settings, its prompts, its runtime."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from joules.core.conditions import AskedSettings
from joules.core.errors import UserError
from joules.core.inference import OWN_CHOICE, Facts, Options, Settings
from joules.core.prompts_file import PromptedModel, PromptsFile
from joules.inputs.prompts import prompt_of
from joules.machine import machine_state
from joules.measure.protocol import Prompts
from joules.runtimes import Runtime, check_kv_cache, load


def settings_of(
    asked: AskedSettings,
    kind: str,
    max_tokens: int | None = None,
    never_ends: bool = False,
    as_installed: bool = False,
) -> Settings:
    """Return the settings that are asked for runs of one kind; `auto` threads become a number.

    `max_tokens` are the most tokens of the model's answers; left out, all that the context has. A
    model that `never_ends` has no end of text to ignore, so that no runtime is told to.
    `as_installed`: what decides prompts and answers, and nothing else.
    """
    settings = Settings(
        context_length=asked.context_length,
        threads=machine_state.threads_of(asked.threads),
        batch_size=asked.batch_size,
        micro_batch_size=asked.micro_batch_size,
        flash_attention=asked.flash_attention,
        gpu_layers=asked.gpu_layers,
        seed=asked.seed,
        max_tokens=asked.context_length if max_tokens is None else max_tokens,
        ignore_eos=kind == "fixed" and not never_ends,
        kv_cache=asked.kv_cache,
    )
    own: dict[str, Any] = dict.fromkeys(OWN_CHOICE) if as_installed else {}
    return dataclasses.replace(settings, **own)


def settings_for(
    asked: AskedSettings, kind: str, model: PromptedModel, as_installed: bool = False
) -> Settings:
    """Return the settings for runs of one kind on a model, which its prompts file describes.

    `as_installed`: the runtime chooses all but what decides prompts and answers. Raises UserError
    where neither the file nor the study says how long an answer may be.
    """
    most = asked.max_tokens if model.max_tokens is None else model.max_tokens
    if isinstance(most, str):
        raise UserError(
            f"The prompts file does not say how long an answer may be, nor does the study "
            f"(`settings.max_tokens` is {most!r}). Expected a number in the file, which is an old "
            "one. Delete it and run again: rule `write_prompts` makes it anew."
        )
    return settings_of(asked, kind, most, model.never_ends, as_installed)


def check_require(name: str, required: Collection[str], settings: Settings) -> None:
    """Raise UserError when the study requires a setting that the runtime `name` cannot hold.

    A runtime as installed chooses its settings itself, so that nothing is required of them.
    """
    check_kv_cache(name, settings.kv_cache)
    cannot = load(name).CANNOT_HOLD
    wanted = set(required) - (set(OWN_CHOICE) if settings.as_installed else set())
    wanted |= {"ignore_eos"} if settings.ignore_eos else set()
    if wanted & cannot:
        raise UserError(
            f"The runtime {name} cannot hold {', '.join(sorted(wanted & cannot))}, which this "
            "study requires. Take the runtime off `runtimes`, or the setting off `require` "
            "(for kind `fixed`: off `kinds`; or take models that never end an answer and say so by "
            "`never_ends` in config/models.yaml)."
        )


def study_prompts(prompts: PromptsFile, kind: str) -> Prompts:
    """Return what runs of one kind send: `quality` all problems, every other kind the subset."""
    rows = prompts.prompts
    return Prompts(
        problems=[
            (row.task_id, row.token_ids_sha256, prompt_of(row))
            for row in rows
            if row.role == "problem" and (row.in_subset or kind == "quality")
        ],
        settle=[prompt_of(row) for row in rows if row.role == "settle"],
        flush=next(prompt_of(row) for row in rows if row.role == "flush"),
    )


def runtime_of(name: str, options: Options, provided: Facts, log_file: Path) -> Runtime:
    """Return the runtime `name`, not started; it works in a folder beside its rule's log file."""
    work_folder = log_file.with_suffix("")
    work_folder.mkdir(parents=True, exist_ok=True)
    return load(name)({**options, "provided": dict(provided)}, work_folder)
