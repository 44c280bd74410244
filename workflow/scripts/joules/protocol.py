"""One run as a state machine: windows in a fixed order, each with its own energy.

preflight, idle_cold, load, idle_resident, settle, tasks, idle_after, stop, rest. The harness only
waits while the runtime computes; the runtime lives in processes of its own.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from joules import environment
from joules.errors import UserError
from joules.instrument import Energy, Instrument, Window, headline_j
from joules.runtimes import Completion, Model, Prompt, Runtime, Settings

SETTLE_LAST = 4  # prompts whose time per token must agree (after Georges et al., OOPSLA 2007)
REPORT_EVERY_S = 5.0
FLAGS = ("not_settled",)  # stated, but no ground to repeat a run
PREFLIGHT_TEMPERATURE_MARGIN_C = 2.0
REST_CAP_S = 300.0


@dataclasses.dataclass(frozen=True)
class Rules:
    """Lengths of windows in seconds, the settle rule, and the limits of a valid run."""

    preflight_s: float
    idle_s: float
    rest_s: float
    settle_limit: float
    settle_s: float
    settle_cap_s: float
    cpu_busy: float
    foreign_cpu: float
    flag_only: bool


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What a run sends: the measured problems in order, the settle prompts, the flush prompt.

    The flush prompt is one token that no other prompt begins with. Sent before every prompt, it
    empties a prefix cache that cannot be switched off.
    """

    problems: Sequence[tuple[str, str, Prompt]]  # task_id, sha256 of the token ids, prompt
    settle: Sequence[Prompt]
    flush: Prompt


def check_count(what: str, prompt: Prompt, completion: Completion) -> None:
    """Raise UserError when the runtime counted other prompt tokens than the file's tokenizer.

    It saw another prompt then, so nothing after it is comparable.
    """
    if completion.counts_known and completion.prompt_tokens != len(prompt.token_ids):
        raise UserError(
            f"{what}: the runtime counted {completion.prompt_tokens} prompt tokens, the model "
            f"file's tokenizer {len(prompt.token_ids)}. They must be equal: the runtime changed "
            "the prompt (a template, a second beginning-of-text token, a cut). "
            "Look at the runtime's log and at the model's entry in config/models.yaml."
        )


def check_settings(settings: Settings, in_force: Mapping[str, Any]) -> None:
    """Raise UserError when a setting that can be observed differs from the one asked for."""
    asked = dataclasses.asdict(settings)
    different = {name: seen for name, seen in in_force.items() if asked.get(name) != seen}
    if different:
        listed = ", ".join(f"{n}: asked {asked.get(n)}, got {s}" for n, s in different.items())
        raise UserError(
            f"Settings are not in force ({listed}). Every runtime must hold the study's settings. "
            "Correct `settings` in the config or the runtime's module."
        )


def preflight(rules: Rules) -> dict[str, Any]:
    """Watch the machine for the preflight's length; return its busy share and temperature."""
    before = psutil.cpu_times()
    time.sleep(rules.preflight_s)
    after = psutil.cpu_times()
    total = sum(after) - sum(before)
    busy = 1 - (after.idle - before.idle) / total if total > 0 else 0.0
    return {"busy_share": busy, "temperature_c": environment.package_temperature()}


def settle(runtime: Runtime, prompts: Prompts, rules: Rules) -> dict[str, Any]:
    """Answer prompts outside the measured set until decode time per token is steady, or the cap."""
    times: list[float] = []
    start = time.monotonic()
    spread: float | None = None
    while True:
        for prompt in prompts.settle:
            runtime.complete(prompts.flush, max_tokens=1)
            completion = runtime.complete(prompt)
            check_count("settle", prompt, completion)
            now = time.monotonic()
            # Decode time alone: with the prefill in it, prompts of different lengths never agree.
            times.append(completion.decode_s / max(1, completion.generated_tokens))
            if len(times) >= SETTLE_LAST:
                last = times[-SETTLE_LAST:]
                spread = statistics.stdev(last) / statistics.mean(last)
            steady = spread is not None and spread <= rules.settle_limit
            if (steady and now - start >= rules.settle_s) or now - start >= rules.settle_cap_s:
                return {
                    "settled": steady,
                    "prompts": len(times),
                    "cv": spread,
                    "limit": rules.settle_limit,
                }


@dataclasses.dataclass(frozen=True)
class Answer:
    """One measured task before it becomes an entry of the record."""

    task_id: str
    prompt_sha256: str
    prompt: Prompt
    completion: Completion
    duration_s: float
    energy_j: Energy


def measure_tasks(
    runtime: Runtime, prompts: Prompts, instrument: Instrument, report: Callable[[str], None]
) -> tuple[Window, list[Answer]]:
    """Answer every problem inside one window; return the window and the answers."""
    answers: list[Answer] = []
    last_report = time.monotonic()
    with instrument.tasks() as measure_task, instrument.window("tasks") as window:
        for task_id, sha256, prompt in prompts.problems:
            runtime.complete(prompts.flush, max_tokens=1)
            completion, duration_s, energy_j = measure_task(
                task_id, functools.partial(runtime.complete, prompt)
            )
            check_count(task_id, prompt, completion)
            answers.append(Answer(task_id, sha256, prompt, completion, duration_s, energy_j))
            if time.monotonic() - last_report >= REPORT_EVERY_S:
                last_report = time.monotonic()
                report(f"{len(answers)} of {len(prompts.problems)} tasks")
    return window, answers


def task_entries(answers: Sequence[Answer], counted: list[int] | None) -> list[dict[str, Any]]:
    """Return the record's `tasks`. `counted` are the tokens of each text when read again.

    Raises UserError when an answer without counts from its runtime could not be counted again.
    """
    entries = []
    for index, answer in enumerate(answers):
        completion, again = answer.completion, None if counted is None else counted[index]
        generated = completion.generated_tokens if completion.counts_known else again
        if generated is None:
            raise UserError(
                f"{answer.task_id}: the runtime gave no token counts and the text could not be "
                "counted again. Install llama-cpp-python beside the runtime; it counts."
            )
        entries.append(
            {
                "task_id": answer.task_id,
                "prompt_sha256": answer.prompt_sha256,
                "prompt_tokens": len(answer.prompt.token_ids),
                "generated_tokens": generated,
                "retokenised_tokens": again,
                "prefill_s": completion.prefill_s,
                "decode_s": completion.decode_s,
                "duration_s": answer.duration_s,
                "energy_j": answer.energy_j,
                "finish_reason": completion.finish_reason,
                "completion": completion.text,
            }
        )
    return entries


def rest(rules: Rules, cold_temperature_c: float | None) -> None:
    """Wait the configured seconds, and until the processor has cooled to where it started."""
    start = time.monotonic()
    while True:
        waited, now = time.monotonic() - start, environment.package_temperature()
        cool = (
            cold_temperature_c is None
            or now is None
            or now <= cold_temperature_c + PREFLIGHT_TEMPERATURE_MARGIN_C
        )
        if waited >= rules.rest_s and (cool or waited >= REST_CAP_S):
            return
        time.sleep(min(1.0, max(0.01, rules.rest_s - waited)))


def validity(seen: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """Return whether the run is valid, with every rule that was broken. Blind to energy.

    `seen` holds: busy_share, foreign_share, steal_share, swapped_bytes, throttled, settled,
    settle_cv, clock_jump_s, changed (names of machine settings that changed), unreadable.
    """
    checks: list[tuple[str, Any, Any, bool]] = [
        ("machine_busy_before", seen["busy_share"], rules.cpu_busy, False),
        ("foreign_cpu", seen["foreign_share"], rules.foreign_cpu, False),
        ("steal", seen["steal_share"], 0.01, False),
        ("swap", seen["swapped_bytes"], 0, False),
        ("throttled", seen["throttled"], 0, False),
        ("not_settled", seen["settle_cv"], rules.settle_limit, seen["settled"]),
        ("clock_jump_s", seen["clock_jump_s"], 1.0, False),
        ("counter_unreadable", seen["unreadable"], 0, False),
        ("machine_settings_changed", seen["changed"], [], not seen["changed"]),
    ]
    codes = []
    for code, value, limit, passed in checks:
        if passed or (isinstance(value, (int, float)) and value <= limit):
            continue
        codes.append(
            {
                "code": code,
                "seen": value,
                "limit": limit,
                "invalidates": code not in FLAGS and not rules.flag_only,
            }
        )
    return {"valid": not any(code["invalidates"] for code in codes), "codes": codes}


def run_once(
    runtime: Runtime,
    model: Model,
    settings: Settings,
    prompts: Prompts,
    rules: Rules,
    instrument: Instrument,
    unreadable: Callable[[], int],
    report: Callable[[str], None],
    count_tokens: Callable[[list[str]], list[int] | None],
) -> dict[str, Any]:
    """Measure one run; return those parts of its record that the run itself decides.

    `unreadable()` is how often an own counter could not be read so far. `count_tokens` counts
    texts with the model file's tokenizer, or returns None where it is not at hand.
    """
    before = environment.state()
    quiet = preflight(rules)
    windows: list[Window] = []
    wall, monotonic = time.time(), time.monotonic()
    with instrument.window("idle_cold") as window:
        time.sleep(rules.idle_s)
    windows.append(window)
    with runtime:
        with instrument.window("load") as window:
            runtime.start(model, settings)
        windows.append(window)
        in_force = runtime.settings_in_force()
        check_settings(settings, in_force)
        facts = runtime.facts()
        with instrument.window("idle_resident") as window:
            time.sleep(rules.idle_s)
        windows.append(window)
        with instrument.window("settle") as window:
            settled = settle(runtime, prompts, rules)
        windows.append(window)
        use_before, own = environment.cpu_use(), environment.own_processes()
        window, answers = measure_tasks(runtime, prompts, instrument, report)
        use_after = environment.cpu_use()
        windows.append(window)
        own |= environment.own_processes()
        with instrument.window("idle_after") as after_window:
            time.sleep(rules.idle_s)
        windows.append(after_window)
    tasks = task_entries(answers, count_tokens([each.completion.text for each in answers]))
    clock_jump_s = abs((time.time() - wall) - (time.monotonic() - monotonic))
    rest(rules, quiet["temperature_c"])
    after = environment.state()
    foreign = environment.foreign_use(
        use_before, use_after, own, window.duration_s, psutil.cpu_count() or 1
    )
    watched = ("governors", "energy_preferences", "turbo_off", "boost", "smt", "power_plugged")
    seen = {
        "busy_share": quiet["busy_share"],
        "foreign_share": foreign["share"],
        "steal_share": foreign["steal_share"],
        "swapped_bytes": sum(after[k] - before[k] for k in ("swap_in_bytes", "swap_out_bytes")),
        "throttled": after["throttle_count"] - before["throttle_count"],
        "settled": settled["settled"],
        "settle_cv": settled["cv"],
        "clock_jump_s": clock_jump_s,
        "changed": [name for name in watched if before[name] != after[name]],
        "unreadable": unreadable(),
    }
    energy_j = headline_j(window.energy_j)
    inside_j = sum(headline_j(task["energy_j"]) for task in tasks)
    inside_s = sum(task["duration_s"] for task in tasks)
    return {
        "runtime_facts": facts,
        "settings_in_force": in_force,
        "environment": {
            "before": before | quiet,
            "after": after | {"foreign_cpu": foreign, "clock_jump_s": clock_jump_s},
        },
        "windows": [dataclasses.asdict(each) for each in windows],
        "tasks": tasks,
        "gaps": {
            "duration_s": window.duration_s - inside_s,
            "energy_j": energy_j - inside_j,
            "share": (energy_j - inside_j) / energy_j if energy_j else 0.0,
        },
        "settle": settled,
        "energy_j": energy_j,
        "generated_tokens": sum(task["generated_tokens"] for task in tasks),
        "prompt_tokens": sum(task["prompt_tokens"] for task in tasks),
        "validity": validity(seen, rules),
    }
