"""What makes a run invalid: rules fixed in advance, with limits from the config, blind to energy.

Blind means that no rule looks at how much energy a run took, only at whether it was counted and
whether the machine and the runtime did what the study asks.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from joules.core.conditions import Limits
from joules.core.inference import Completion
from joules.core.machine_facts import MachineState
from joules.core.record import BrokenRule, CheckedRule, RuleValue, Settle, Validity

FLAGS = ("not_settled",)  # stated, but no ground to repeat a run
SHORTEST_PREFILL_S = 0.01  # below, the clock and the server's answer decide, not the cache
HOT = {"hardware slowdown", "software thermal slowdown", "hardware thermal slowdown"}
WATCHED = (  # settings of the machine that must be the same before and after a run
    *("governors", "energy_preferences", "turbo_off", "boost", "smt", "power_plugged"),
    *("platform_profile", "boot_time"),
)


@dataclasses.dataclass(frozen=True)
class SeenOfMachine:
    """What others did: shares of the whole machine, and how far its wall clock jumped."""

    busy_share: float
    foreign_share: float
    steal_share: float
    clock_jump_s: float


@dataclasses.dataclass(frozen=True)
class SeenOfMeters:
    """How the meters did over the tasks window.

    Attributes:
        unreadable: times that a counter could not be read; None without counters.
        resets: times that a counter was reset; None without counters.
        stuck: components whose counter stood still.
        sampling_gap_s: longest time without a reading.
        late_s: longest time between an end of a window or task and its reading.
        wrap_share: longest time between two readings, of the time in which a counter wraps.
        cross_check: per component that both readers have, their relative difference.
        conservation: tasks and gaps over the window, less 1.
    """

    unreadable: int | None
    resets: int | None
    stuck: list[str]
    sampling_gap_s: float
    late_s: float
    wrap_share: float | None
    cross_check: Mapping[str, float]
    conservation: float


@dataclasses.dataclass(frozen=True)
class Check:
    """One rule: what was seen, and the limit. A limit of None: the rule does not apply here."""

    code: str
    seen: RuleValue
    limit: RuleValue
    broken: bool = False


def at_most(code: str, seen: float | None, limit: float) -> Check:
    """Return a check that breaks when a number is above its limit; without a number, it is off."""
    if seen is None:
        return Check(code, None, None)
    return Check(code, seen, limit, not seen <= limit)


def judged(checks: Sequence[Check], flag_only: bool) -> Validity:
    """Return the record's `validity`: the rules that broke, and all that were checked."""
    broken = [
        BrokenRule(each.code, each.seen, each.limit, each.code not in FLAGS and not flag_only)
        for each in checks
        if each.broken
    ]
    return Validity(
        valid=not any(rule.invalidates for rule in broken),
        codes=broken,
        checks=[CheckedRule(each.code, each.seen, each.limit) for each in checks],
    )


def machine_checks(
    before: MachineState, after: MachineState, seen: SeenOfMachine, limits: Limits
) -> list[Check]:
    """Return the checks of what others did to the machine.

    The GPUs of `after` are as they were when the tasks ended.
    """
    changed = [name for name in WATCHED if getattr(before, name) != getattr(after, name)]
    cards = list(zip(before.gpus, after.gpus, strict=False))
    if any(old.power_limit_w != new.power_limit_w for old, new in cards):
        changed.append("gpu_power_limit")
    hot = sum(
        not HOT.isdisjoint(new.clocks_held_by)
        or (new.held_by_heat_ns or 0) > (old.held_by_heat_ns or 0)
        for old, new in cards
    )
    swapped = after.swap_in_bytes - before.swap_in_bytes
    swapped += after.swap_out_bytes - before.swap_out_bytes
    throttled = after.throttle_count - before.throttle_count + hot
    return [
        at_most("machine_busy_before", seen.busy_share, limits.cpu_busy),
        at_most("foreign_cpu", seen.foreign_share, limits.foreign_cpu),
        at_most("steal", seen.steal_share, limits.steal),
        at_most("swap", swapped, limits.swap_bytes),
        at_most("throttled", throttled, 0),
        Check("machine_settings_changed", changed, [], bool(changed)),
        at_most("clock_jump", seen.clock_jump_s, limits.clock_jump_s),
    ]


def counter_checks(seen: SeenOfMeters, counted: bool, limits: Limits) -> list[Check]:
    """Return the checks of the meters themselves.

    `counted`: CPU energy comes from counters. A model of the processor's load does not conserve
    energy over milliseconds: its sum is stated and not judged.
    """
    worst = max(seen.cross_check.values(), default=None, key=abs)
    share = abs(seen.conservation) if counted else None
    return [
        at_most("counter_unreadable", seen.unreadable, 0),
        at_most("counter_reset", seen.resets, 0),
        Check("counter_stuck", seen.stuck, [], bool(seen.stuck)),
        at_most("sampling_gap", seen.sampling_gap_s, limits.sampling_gap_s),
        at_most("window_not_bracketed", seen.late_s, limits.bracket_s),
        at_most("wrap_risk", seen.wrap_share, limits.wrap_share),
        at_most("cross_check", None if worst is None else abs(worst), limits.cross_check),
        at_most("conservation", share, limits.conservation),
    ]


def answer_checks(
    answers: Sequence[Completion],
    again: Sequence[int] | None,
    settle: Settle,
    exactly: int | None,
    limits: Limits,
) -> list[Check]:
    """Return the checks of what the runtime did.

    `again` are the tokens of each text when read again. `exactly`: every answer must have so many
    tokens (kind `fixed`). Another prompt count or setting than asked for ends a run before it comes
    here.
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
        Check("not_settled", settle.cv, settle.limit, not settle.settled),
    ]


def prefill_tokens_per_s(answers: Sequence[Completion]) -> float | None:
    """Return the rate of the prompt that was read fastest; None where all were too short."""
    rates = [
        each.prompt_tokens / each.prefill_s
        for each in answers
        if each.prefill_s is not None and each.prefill_s >= SHORTEST_PREFILL_S
    ]
    return max(rates, default=None)


def cache_ratio(answers: Sequence[Completion], settle: Settle) -> float | None:
    """Return how much faster the fastest prompt was read than the fastest of the settle window.

    A reused prefix is not read, so that its prompt seems to be read many times faster. None where
    the prefill of the settle prompts is too short for the clock.
    """
    before = settle.prefill_tokens_per_s
    rates = [
        each.prompt_tokens / max(each.prefill_s, 1e-6)
        for each in answers
        if each.prefill_s is not None
    ]
    return max(rates) / before if rates and before else None
