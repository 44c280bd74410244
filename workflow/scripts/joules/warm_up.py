"""Proof that each pair of model and runtime works, before hours are spent on measuring it."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from joules import protocol
from joules.campaign import (
    Report,
    check_require,
    end_with_workflow,
    model_facts,
    runtime_of,
    settings_of,
    study_prompts,
)
from joules.errors import UserError
from joules.lock import measuring
from joules.runtimes import Model, Settings

WARM_UP_PROBLEMS = 8


def warm_up(
    model_name: str,
    runtime_name: str,
    config: Mapping[str, Any],
    model: Path,
    rows: Sequence[Mapping[str, Any]],
    provided: Mapping[str, Any],
    log_file: Path,
    report: Report,
) -> dict[str, Any]:
    """Load the model, answer some of the study's prompts and return what was seen.

    Raises UserError on another prompt count, a setting not in force, or a required setting that
    the runtime cannot hold.
    """
    end_with_workflow()
    facts, prompts = model_facts(rows), study_prompts(rows, "task")
    settings = settings_of(config["settings"], "task", facts)
    check_require(runtime_name, config["require"], settings)
    runtime = runtime_of(runtime_name, config["options"], provided, log_file)
    answers: list[dict[str, Any]] = []
    with measuring(report), runtime:
        began = time.monotonic()
        runtime.start(Model(model_name, model, facts["file_sha256"]), settings)
        load_s = time.monotonic() - began
        in_force = runtime.settings_in_force()
        protocol.check_settings(settings, in_force)
        for task_id, _, prompt in prompts.problems[:WARM_UP_PROBLEMS]:
            runtime.complete(prompts.flush, max_tokens=1)
            began = time.monotonic()
            completion = runtime.complete(prompt)
            duration_s = time.monotonic() - began
            protocol.check_count(task_id, prompt, completion)
            answers.append(
                {"task_id": task_id, "duration_s": duration_s, **dataclasses.asdict(completion)}
            )
        runtime_facts = runtime.facts()
    generated = sum(answer["generated_tokens"] for answer in answers)
    speed = generated / sum(answer["duration_s"] for answer in answers)
    report(f"{model_name} on {runtime.LABEL}: loads, answers, {speed:.1f} tokens/s")
    return {
        "model": model_name,
        "runtime": runtime_name,
        "label": runtime.LABEL,
        "protocol": facts["protocol"],
        "never_ends": facts.get("never_ends", False),
        "facts": runtime_facts,
        "settings": dataclasses.asdict(settings),
        "settings_in_force": in_force,
        "cannot_hold": sorted(runtime.CANNOT_HOLD),
        "load_s": load_s,
        "tokens_per_s": speed,
        "answers": answers,
    }


def check_fixed(warm_ups: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> None:
    """Raise UserError where kind `fixed` is asked of a runtime that cannot ignore the end of text.

    A model whose catalogue entry says `never_ends` may be asked all the same. Raises UserError
    too when such a model was seen to end an answer.
    """
    for seen in warm_ups:
        never_ends = seen.get("never_ends", False)
        ended = [each["task_id"] for each in seen["answers"] if each["finish_reason"] == "eos"]
        if never_ends and ended:
            raise UserError(
                f"{seen['model']} says `never_ends` in config/models.yaml, but on "
                f"{seen['runtime']} it ended its answer to {', '.join(ended)}. Expected answers "
                "of `settings.max_tokens` tokens. Take `never_ends` out of its entry."
            )
        settings = Settings(
            **{**seen["settings"], "ignore_eos": "fixed" in kinds and not never_ends}
        )
        check_require(seen["runtime"], [], settings)


def first_difference(a: str, b: str) -> int | None:
    """Return the first character at which two texts differ; None when they are equal."""
    if a == b:
        return None
    return next(
        (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y),
        min(len(a), len(b)),
    )


def agree(warm_ups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare the warm-ups of one model across runtimes.

    Unequal prompt counts, an empty answer and different settings are problems. Different texts
    are written down and never fatal: engines round differently.
    """
    problems = []
    reference = warm_ups[0]
    for seen in warm_ups:
        if seen["settings"] != reference["settings"]:
            problems.append(
                f"{seen['runtime']} ran with other settings than {reference['runtime']}"
            )
        for answer, expected in zip(seen["answers"], reference["answers"], strict=True):
            if answer["prompt_tokens"] != expected["prompt_tokens"]:
                problems.append(
                    f"{answer['task_id']}: {seen['runtime']} read {answer['prompt_tokens']} prompt "
                    f"tokens, {reference['runtime']} {expected['prompt_tokens']}"
                )
            if answer["text"] == "":
                problems.append(f"{answer['task_id']}: {seen['runtime']} answered nothing")
    pairs = []
    for a, b in combinations(warm_ups, 2):
        differences = []
        for x, y in zip(a["answers"], b["answers"], strict=True):
            character = first_difference(x["text"], y["text"])
            if character is not None:
                differences.append({"task_id": x["task_id"], "character": character})
        prompts = len(a["answers"])
        pairs.append(
            {
                "runtime_a": a["runtime"],
                "runtime_b": b["runtime"],
                "prompts": prompts,
                "same_text": prompts - len(differences),
                "same_text_share": (prompts - len(differences)) / prompts,
                "first_difference": differences,
                "same_counts": sum(
                    x["generated_tokens"] == y["generated_tokens"]
                    for x, y in zip(a["answers"], b["answers"], strict=True)
                ),
            }
        )
    return {
        "model": reference["model"],
        "protocol": reference["protocol"],
        "runtimes": [seen["runtime"] for seen in warm_ups],
        "settings": reference["settings"],
        "passed": not problems,
        "problems": problems,
        "pairs": pairs,
    }
