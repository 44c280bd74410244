"""What makes a run invalid: rules fixed in advance, with limits from the config, blind to energy.

Blind means that no rule looks at how much energy a run took, only at whether it was counted and
whether the machine and the runtime did what the study asks.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from joules.runtimes import Completion

FLAGS = ("not_settled",)  # stated, but no ground to repeat a run
SHORTEST_PREFILL_S = 0.01  # below, the clock and the server's answer decide, not the cache
HOT = {"hardware slowdown", "software thermal slowdown", "hardware thermal slowdown"}
WATCHED = (  # settings of the machine that must be the same before and after a run
    *("governors", "energy_preferences", "turbo_off", "boost", "smt", "power_plugged"),
    *("platform_profile", "boot_time"),
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a valid run; config/README.md explains each. `flag_only` keeps a broken run."""

    flag_only: bool
    cpu_busy: float
    foreign_cpu: float
    steal: float
    swap_bytes: int
    clock_jump_s: float
    sampling_gap_s: float
    bracket_s: float
    wrap_share: float
    cross_check: float
    conservation: float
    load_during_tasks_s: float
    prompt_cache_ratio: float
    token_mismatch: float
    largest_power_w: float
    wait_s: float


@dataclasses.dataclass(frozen=True)
class Check:
    """One rule: what was seen, and the limit. A limit of None: the rule does not apply here."""

    code: str
    seen: Any
    limit: Any
    broken: bool = False


def at_most(code: str, seen: float | None, limit: float) -> Check:
    """Return a check that breaks when a number is above its limit; without a number, it is off."""
    if seen is None:
        return Check(code, None, None)
    return Check(code, seen, limit, not seen <= limit)


def judged(checks: Sequence[Check], flag_only: bool) -> dict[str, Any]:
    """Return the record's `validity`: the rules that broke, and all that were checked."""
    codes = [
        {
            "code": check.code,
            "seen": check.seen,
            "limit": check.limit,
            "invalidates": check.code not in FLAGS and not flag_only,
        }
        for check in checks
        if check.broken
    ]
    return {
        "valid": not any(code["invalidates"] for code in codes),
        "codes": codes,
        "checks": [
            {"code": check.code, "seen": check.seen, "limit": check.limit} for check in checks
        ],
    }


def machine_checks(
    before: Mapping[str, Any], after: Mapping[str, Any], seen: Mapping[str, Any], limits: Limits
) -> list[Check]:
    """Return the checks of what others did to the machine.

    `before` and `after` are `environment.state()`, but the GPUs of `after` as they were when the
    tasks ended; `seen` holds busy_share, foreign_share, steal_share and clock_jump_s.
    """
    changed = [name for name in WATCHED if before.get(name) != after.get(name)]
    cards = list(zip(before.get("gpus", []), after.get("gpus", []), strict=False))
    if any(old["power_limit_w"] != new["power_limit_w"] for old, new in cards):
        changed.append("gpu_power_limit")
    hot = sum(
        not HOT.isdisjoint(new["clocks_held_by"])
        or (new["held_by_heat_ns"] or 0) > (old["held_by_heat_ns"] or 0)
        for old, new in cards
    )
    swapped = sum(after[key] - before[key] for key in ("swap_in_bytes", "swap_out_bytes"))
    throttled = after["throttle_count"] - before["throttle_count"] + hot
    return [
        at_most("machine_busy_before", seen["busy_share"], limits.cpu_busy),
        at_most("foreign_cpu", seen["foreign_share"], limits.foreign_cpu),
        at_most("steal", seen["steal_share"], limits.steal),
        at_most("swap", swapped, limits.swap_bytes),
        at_most("throttled", throttled, 0),
        Check("machine_settings_changed", changed, [], bool(changed)),
        at_most("clock_jump", seen["clock_jump_s"], limits.clock_jump_s),
    ]


def counter_checks(seen: Mapping[str, Any], counted: bool, limits: Limits) -> list[Check]:
    """Return the checks of the meters themselves.

    `seen` holds unreadable and resets (times; None without counters), stuck (components whose
    counter stood still), sampling_gap_s, late_s (an end of a window or task to its reading),
    wrap_share (of the time to a wrap between two readings), cross_check (component: relative
    difference of the two readers) and conservation. `counted`: CPU energy comes from counters. A
    model of the processor's load does not conserve energy over milliseconds: its sum is stated and
    not judged.
    """
    worst = max(seen["cross_check"].values(), default=None, key=abs)
    share = abs(seen["conservation"]) if counted else None
    return [
        at_most("counter_unreadable", seen["unreadable"], 0),
        at_most("counter_reset", seen["resets"], 0),
        Check("counter_stuck", seen["stuck"], [], bool(seen["stuck"])),
        at_most("sampling_gap", seen["sampling_gap_s"], limits.sampling_gap_s),
        at_most("window_not_bracketed", seen["late_s"], limits.bracket_s),
        at_most("wrap_risk", seen["wrap_share"], limits.wrap_share),
        at_most("cross_check", None if worst is None else abs(worst), limits.cross_check),
        at_most("conservation", share, limits.conservation),
    ]


def answer_checks(
    answers: Sequence[Completion],
    again: Sequence[int] | None,
    settle: Mapping[str, Any],
    exactly: int | None,
    limits: Limits,
) -> list[Check]:
    """Return the checks of what the runtime did.

    `again` are the tokens of each text when read again. `settle` is the record's part, with
    `prefill_tokens_per_s`. `exactly`: every answer must have so many tokens (kind `fixed`).
    Another prompt count or setting than asked for ends a run before it comes here.
    """
    loads = [each.load_s for each in answers if each.load_s is not None]
    odd = None
    if again is not None and exactly is None:
        known = [(a, n) for a, n in zip(answers, again, strict=True) if a.counts_known]
        # Reading a text again merges tokens: 1 to 3 differ in about one answer of twenty.
        odd = sum(abs(a.generated_tokens - n) > 3 for a, n in known) / max(1, len(known))
    off = None
    if exactly is not None:
        off = sum(each.generated_tokens != exactly for each in answers)
    return [
        Check("prompt_tokens_differ", 0, 0),
        Check("settings_not_in_force", [], []),
        at_most("load_during_tasks", max(loads) if loads else None, limits.load_during_tasks_s),
        at_most("prompt_cache_hit", cache_ratio(answers, settle), limits.prompt_cache_ratio),
        at_most("token_mismatch", odd, limits.token_mismatch),
        at_most("not_fixed_length", off, 0),
        Check("not_settled", settle["cv"], settle["limit"], not settle["settled"]),
    ]


def prefill_tokens_per_s(answers: Sequence[Completion]) -> float | None:
    """Return the rate of the prompt that was read fastest; None where all were too short."""
    rates = [
        each.prompt_tokens / each.prefill_s
        for each in answers
        if each.prefill_s is not None and each.prefill_s >= SHORTEST_PREFILL_S
    ]
    return max(rates, default=None)


def cache_ratio(answers: Sequence[Completion], settle: Mapping[str, Any]) -> float | None:
    """Return how much faster the fastest prompt was read than the fastest of the settle window.

    A reused prefix is not read, so that its prompt seems to be read many times faster. None where
    the prefill of the settle prompts is too short for the clock.
    """
    before = settle["prefill_tokens_per_s"]
    rates = [
        each.prompt_tokens / max(each.prefill_s, 1e-6)
        for each in answers
        if each.prefill_s is not None
    ]
    return max(rates) / before if rates and before else None
