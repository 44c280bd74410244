"""Proof that each pair of model and arm works, before hours are spent on measuring it."""

import dataclasses
import time
from pathlib import Path

from joules.core.arms import facts_of
from joules.core.inference import Facts, Model, in_whole_characters
from joules.core.prompts_file import PromptsFile
from joules.core.run_parameters import WarmUpParameters
from joules.core.warm_up_files import WarmUp, WarmUpAnswer
from joules.machine.lock import measuring
from joules.measure import protocol, tiers
from joules.measure.preparation import check_require, runtime_of, settings_for, study_prompts
from joules.measure.protocol import Report
from joules.measure.sitting import end_with_workflow, first_temperature_c, session_id

WARM_UP_PROBLEMS = 8


def warm_up(
    model_name: str,
    arm_name: str,
    parameters: WarmUpParameters,
    model: Path,
    prompts: PromptsFile,
    provided: Facts,
    log_file: Path,
    journal: Path,
    report: Report,
) -> WarmUp:
    """Load the model, answer some of the study's prompts and return what was seen.

    The temperature before the sitting's first warm-up is kept in the `journal`: runs rest to it.
    Raises UserError on another prompt count, a setting not in force, or a required setting that
    the runtime cannot hold.
    """
    end_with_workflow()
    arm, runtime_name = parameters.arm, parameters.arm.runtime
    asked, identity = study_prompts(prompts, "task"), prompts.model
    settings = settings_for(parameters.settings, "task", identity, arm.as_installed)
    asked = asked.under(settings)
    check_require(runtime_name, parameters.require, settings)
    tiers.require_gpu_meter(settings.gpu_layers)
    runtime = runtime_of(runtime_name, parameters.options, provided, log_file)
    answers: list[WarmUpAnswer] = []
    with measuring(report), runtime:
        first_temperature_c(journal, session_id())
        loaded = Model(model_name, model, identity.file_sha256)
        protocol.warm_page_cache(model)
        runtime.import_model(loaded)
        began = time.monotonic()
        runtime.start(loaded, settings)
        load_s = time.monotonic() - began
        in_force = runtime.settings_in_force()
        protocol.check_settings(settings, in_force)
        for task_id, _, prompt in asked.problems[:WARM_UP_PROBLEMS]:
            asked.empty_cache(runtime)
            began = time.monotonic()
            completion = runtime.complete(prompt)
            duration_s = time.monotonic() - began
            protocol.check_count(task_id, prompt, completion)
            told = dataclasses.asdict(in_whole_characters(completion))
            answers.append(WarmUpAnswer(task_id=task_id, duration_s=duration_s, **told))
        runtime_facts = runtime.facts()
    facts = facts_of(arm_name, arm, runtime.LABEL)
    generated = sum(answer.generated_tokens for answer in answers)
    speed = generated / sum(answer.duration_s for answer in answers)
    report(f"{model_name} on {facts.label}: loads, answers, {speed:.1f} tokens/s")
    return WarmUp(
        model=model_name,
        arm=facts,
        runtime=runtime_name,
        protocol=identity.protocol,
        never_ends=identity.never_ends,
        facts=runtime_facts,
        settings=settings,
        settings_in_force=in_force,
        cannot_hold=sorted(runtime.CANNOT_HOLD),
        load_s=load_s,
        tokens_per_s=speed,
        answers=answers,
    )
