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

from joules import counters, environment, power_trace, validity
from joules.errors import UserError
from joules.instrument import SAMPLING_INTERVAL_S, Energy, Instrument, Window, headline_j
from joules.runtimes import Completion, Model, Prompt, Runtime, Settings

SETTLE_LAST = 4  # prompts whose time per token must agree (after Georges et al., OOPSLA 2007)
REPORT_EVERY_S = 5.0
WINDOW_FIELDS = (  # of a window that its entry in the record holds
    *("name", "start_monotonic_s", "start_wall", "duration_s"),
    *("energy_j", "energy_own_j"),
)


@dataclasses.dataclass(frozen=True)
class Rules:
    """Lengths of windows in seconds, the settle rule, and the limits of a valid run."""

    preflight_s: float
    idle_s: float
    rest_s: float
    rest_margin_c: float
    rest_cap_s: float
    settle_limit: float
    settle_s: float
    settle_cap_s: float
    limits: validity.Limits


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


def preflight(rules: Rules, report: Callable[[str], None]) -> dict[str, Any]:
    """Watch the machine before a run; return its busy share and temperature.

    A machine that is busy is watched again until it is quiet, at most `limits.wait_s`. What it is
    then decides: the run is judged by it.
    """
    began = time.monotonic()
    while True:
        before = psutil.cpu_times()
        time.sleep(rules.preflight_s)
        after = psutil.cpu_times()
        total = sum(after) - sum(before)
        busy = 1 - (after.idle - before.idle) / total if total > 0 else 0.0
        waited_s = time.monotonic() - began
        if busy <= rules.limits.cpu_busy or waited_s >= rules.limits.wait_s:
            return {
                "busy_share": busy,
                "waited_s": waited_s,
                "temperature_c": environment.package_temperature(),
            }
        report(f"the machine is busy ({busy:.0%} of it); waiting until it is quiet")


def settle(runtime: Runtime, prompts: Prompts, rules: Rules) -> dict[str, Any]:
    """Answer prompts outside the measured set until decode time per token is steady, or the cap."""
    times: list[float] = []
    answers: list[Completion] = []
    start = time.monotonic()
    spread: float | None = None
    while True:
        for prompt in prompts.settle:
            runtime.complete(prompts.flush, max_tokens=1)
            completion = runtime.complete(prompt)
            check_count("settle", prompt, completion)
            answers.append(completion)
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
                    "prefill_tokens_per_s": validity.prefill_tokens_per_s(answers),
                }


@dataclasses.dataclass(frozen=True)
class Answer:
    """One measured task before it becomes an entry of the record.

    `gap_energy_j` and `gap_duration_s` are of the gap before it: flush prompt and bookkeeping.
    """

    task_id: str
    prompt_sha256: str
    prompt: Prompt
    completion: Completion
    start_monotonic_s: float
    duration_s: float
    energy_j: Energy
    gap_duration_s: float
    gap_energy_j: Energy


def measure_tasks(
    runtime: Runtime, prompts: Prompts, instrument: Instrument, report: Callable[[str], None]
) -> tuple[Window, list[Answer]]:
    """Answer every problem inside one window; return the window and the answers."""
    answers: list[Answer] = []
    last_report = time.monotonic()

    def between_tasks() -> None:
        nonlocal last_report
        if answers and time.monotonic() - last_report >= REPORT_EVERY_S:
            last_report = time.monotonic()
            report(f"{len(answers)} of {len(prompts.problems)} tasks")
        runtime.complete(prompts.flush, max_tokens=1)

    with instrument.tasks() as measure_task, instrument.window("tasks") as window:
        for task_id, sha256, prompt in prompts.problems:
            # The gap is measured by itself, so that tasks and gaps can be held against the window.
            _, gap_s, gap_j = measure_task(f"before {task_id}", between_tasks)
            start = time.monotonic()
            completion, duration_s, energy_j = measure_task(
                task_id, functools.partial(runtime.complete, prompt)
            )
            check_count(task_id, prompt, completion)
            answers.append(
                Answer(
                    task_id, sha256, prompt, completion, start, duration_s, energy_j, gap_s, gap_j
                )
            )
    return window, answers


def task_entries(
    answers: Sequence[Answer],
    counted: Sequence[Sequence[int]] | None,
    window: Window,
    instrument: Instrument,
    keep_ids: bool,
) -> list[dict[str, Any]]:
    """Return the record's `tasks`. `counted` are the token ids of each text when read again.

    Raises UserError when an answer without counts from its runtime could not be counted again.
    """
    entries = []
    for index, answer in enumerate(answers):
        completion, ids = answer.completion, None if counted is None else counted[index]
        again = None if ids is None else len(ids)
        generated = completion.generated_tokens if completion.counts_known else again
        if generated is None:
            raise UserError(
                f"{answer.task_id}: the runtime gave no token counts and the text could not be "
                "counted again. Install llama-cpp-python beside the runtime; it counts."
            )
        start_s, prefill_s = answer.start_monotonic_s, completion.prefill_s
        entries.append(
            {
                "task_id": answer.task_id,
                "prompt_sha256": answer.prompt_sha256,
                "prompt_tokens": len(answer.prompt.token_ids),
                "generated_tokens": generated,
                "retokenised_tokens": again,
                "retokenised_ids": list(ids) if ids is not None and keep_ids else None,
                "start_s": start_s - window.start_monotonic_s,
                "prefill_s": prefill_s,
                "decode_s": completion.decode_s,
                "duration_s": answer.duration_s,
                "energy_j": answer.energy_j,
                "prefill_energy_j": None
                if prefill_s is None
                else instrument.meter.between_j(start_s, start_s + prefill_s),
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
            or now <= cold_temperature_c + rules.rest_margin_c
        )
        if waited >= rules.rest_s and (cool or waited >= rules.rest_cap_s):
            return
        time.sleep(min(1.0, max(0.01, rules.rest_s - waited)))


def net_of(window: Window, idle: Window) -> Energy:
    """Return a window's energy less that of the idle machine in the same time, per component."""
    share = window.duration_s / idle.duration_s if idle.duration_s else 0.0
    net: Energy = {}
    for part, gross in window.energy_j.items():
        calm = idle.energy_j.get(part)
        net[part] = None if gross is None or calm is None else gross - calm * share
    return net


def window_entry(window: Window, idle: Window) -> dict[str, Any]:
    """Return the record's entry of one window."""
    entry = {field: getattr(window, field) for field in WINDOW_FIELDS}
    return entry | {"net_energy_j": net_of(window, idle)}


def differences(window: Window) -> dict[str, float]:
    """Return CodeCarbon's energy over that of the own counters, less 1, per shared component."""
    found = {}
    for part in ("cpu", "gpu"):
        theirs, ours = window.energy_j[part], window.energy_own_j[part]
        if theirs is not None and ours:
            found[part] = theirs / ours - 1
    return found


def meter_facts(
    windows: Sequence[Window], tasks: Window, answers: Sequence[Answer], instrument: Instrument
) -> dict[str, Any]:
    """Return what `validity.counter_checks` looks at, but for conservation."""
    meter = instrument.meter
    own = tasks.energy_own_j
    silence_s = tasks.longest_silence_s()
    unread_s = meter.largest_gap_s(tasks.start_monotonic_s, tasks.end_s)
    longest_s = max([silence_s, *(answer.duration_s for answer in answers)])
    shares = []
    for part in ("cpu", "gpu", "dram"):
        range_j, used_j = meter.smallest_range_j(part), own.get(part)
        if range_j and used_j is not None and tasks.duration_s:
            shares.append(used_j / tasks.duration_s * longest_s / range_j)
    return {
        "unreadable": meter.unreadable if meter.counters else None,
        "resets": meter.resets if meter.counters else None,
        "stuck": [part for part, used_j in own.items() if used_j == 0],
        "sampling_gap_s": max(silence_s, unread_s or 0.0),
        "late_s": max(instrument.tasks_late_s, *(window.late_s for window in windows)),
        "wrap_share": max(shares, default=None),
        "cross_check": differences(tasks),
    }


def run_once(
    runtime: Runtime,
    model: Model,
    settings: Settings,
    prompts: Prompts,
    rules: Rules,
    instrument: Instrument,
    report: Callable[[str], None],
    read_again: Callable[[list[str]], list[list[int]] | None],
    exactly: int | None = None,
    keep_ids: bool = True,
) -> dict[str, Any]:
    """Measure one run; return those parts of its record that the run itself decides.

    `read_again` gives the token ids of texts by the model file's tokenizer, or None where it is not
    at hand. `exactly`: every answer must have so many tokens (kind `fixed`). `keep_ids`: the record
    keeps those ids.
    """
    before = environment.state()
    quiet = preflight(rules, report)
    windows: list[Window] = []
    wall, monotonic = time.time(), time.monotonic()
    with instrument.window("idle_cold") as idle:
        time.sleep(rules.idle_s)
    windows.append(idle)
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
        # The GPUs now: they are cool again after the rest.
        use_after, gpus = environment.cpu_use(), counters.gpu_state()
        windows.append(window)
        own |= environment.own_processes()
        with instrument.window("idle_after") as after_window:
            time.sleep(rules.idle_s)
        windows.append(after_window)
    completions = [each.completion for each in answers]
    ids = read_again([each.text for each in completions])
    tasks = task_entries(answers, ids, window, instrument, keep_ids)
    clock_jump_s = abs((time.time() - wall) - (time.monotonic() - monotonic))
    rest(rules, quiet["temperature_c"])
    after = environment.state() | {"gpus": gpus}
    foreign = environment.foreign_use(
        use_before, use_after, own, window.duration_s, psutil.cpu_count() or 1
    )
    energy_j = headline_j(window.energy_j)
    gaps_j = sum(headline_j(each.gap_energy_j) for each in answers)
    tasks_j = sum(headline_j(task["energy_j"]) for task in tasks)
    conservation = (tasks_j + gaps_j) / energy_j - 1 if energy_j else 0.0
    seen = {
        "busy_share": quiet["busy_share"],
        "foreign_share": foreign["share"],
        "steal_share": foreign["steal_share"],
        "clock_jump_s": clock_jump_s,
        "conservation": conservation,
        **meter_facts(windows, window, answers, instrument),
    }
    again = None if ids is None else [len(each) for each in ids]
    checks = [
        *validity.machine_checks(before, after, seen, rules.limits),
        *validity.counter_checks(seen, instrument.tier != "estimated", rules.limits),
        *validity.answer_checks(completions, again, settled, exactly, rules.limits),
    ]
    return {
        "runtime_facts": facts,
        "settings_in_force": in_force,
        "environment": {
            "before": before | quiet,
            "after": after | {"foreign_cpu": foreign, "clock_jump_s": clock_jump_s},
        },
        "windows": [window_entry(each, idle) for each in windows],
        "trace": power_trace.trace(
            windows, instrument.components["gpu"]["source"] != "none", SAMPLING_INTERVAL_S
        ),
        "tasks": tasks,
        "gaps": {
            "duration_s": sum(each.gap_duration_s for each in answers),
            "energy_j": gaps_j,
            "share": gaps_j / energy_j if energy_j else 0.0,
            "conservation": conservation,
        },
        "settle": settled,
        "cross_check": differences(window),
        "energy_j": energy_j,
        "generated_tokens": sum(task["generated_tokens"] for task in tasks),
        "prompt_tokens": sum(task["prompt_tokens"] for task in tasks),
        "validity": validity.judged(checks, rules.limits.flag_only),
    }
