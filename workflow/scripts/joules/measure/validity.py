"""What makes a run invalid: rules fixed in advance, with limits from the config, blind to energy.

Blind means that no rule looks at how much energy a run took, only at whether it was counted and
whether the machine and the runtime did what the study asks. A rule without data is not checked, and
says why; it never passes (`joules.core.known`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

from joules.core.conditions import Limits
from joules.core.inference import Completion, SettingsInForce
from joules.core.known import Known, Unknown, each_of, known, largest
from joules.core.machine_facts import Allocation, Gpu, MachineState
from joules.core.record import BrokenRule, CheckedRule, RuleValue, Settle, Validity
from joules.core.values import STATED_ONLY
from joules.meters.reader import Power

T = TypeVar("T")

# A card's counter against its own limit, and against its sampled power. One sample a second misses
# much of a load that comes and goes: only a counter in other units or of another card shows.
MOST_OF_LIMIT, MOST_OF_SAMPLED = 1.2, 2.0
NO_COUNTERS = "no energy counter is read"
SHORTEST_PREFILL_S = 0.01  # below, the clock and the server's answer decide, not the prompt
NOT_SHOWN: tuple[object, ...] = (None, [])
HOT = {"hardware slowdown", "software thermal slowdown", "hardware thermal slowdown"}
WATCHED = (  # settings of the machine that must be the same before and after a run
    *("governors", "energy_preferences", "turbo_off", "boost", "smt", "power_plugged"),
    "platform_profile",  # not the time of boot, which moves with the wall clock
)


@dataclasses.dataclass(frozen=True)
class SeenOfMachine:
    """What others did: shares of the whole machine, and how far its wall clock jumped.

    `steal_share` is None where the system does not count what a hypervisor takes.
    """

    busy_share: float
    foreign_share: float
    steal_share: float | None
    clock_jump_s: float


@dataclasses.dataclass(frozen=True)
class SeenOfCounters:
    """How the own reader's counters did.

    Attributes:
        counters: how many are read.
        unreadable: times that one could not be read.
        resets: times that one stepped back and did not wrap.
        leaps: times that one stepped forward by more than any power allows.
        still: those that stood still in the tasks window.
        without_range: those of which it is not known when they start again at 0.
        alone: components that CodeCarbon counts and the own reader does not.
        powers: of each that gives power as well, in the tasks window.
    """

    counters: int = 0
    unreadable: int = 0
    resets: int = 0
    leaps: int = 0
    still: Sequence[str] = ()
    without_range: Sequence[str] = ()
    alone: Sequence[str] = ()
    powers: Sequence[Power] = ()


@dataclasses.dataclass(frozen=True)
class SeenOfMeters:
    """How the meters did over the tasks window.

    Attributes:
        counters: how the own reader's did.
        sampling_gap_s: longest time without a reading.
        late_s: longest time between an end of a window or task and its reading.
        wrap_share: longest time between two readings, of the time in which a counter wraps.
        cross_check: per component that both readers have, their relative difference.
        conservation: tasks and gaps over the window, less 1; None where the window has no energy.
    """

    counters: SeenOfCounters
    sampling_gap_s: float
    late_s: float
    wrap_share: float | None
    cross_check: Mapping[str, float]
    conservation: float | None


@dataclasses.dataclass(frozen=True)
class Check:
    """One rule: what was seen, and the limit. Or `not_checked`: why it says nothing here."""

    code: str
    seen: RuleValue
    limit: RuleValue
    broken: bool = False
    not_checked: str | None = None


def unchecked(code: str, why: Unknown) -> Check:
    """Return that a rule was not checked. It is neither kept nor broken."""
    return Check(code, None, None, not_checked=why.reason)


def at_most(code: str, seen: Known[float], limit: float) -> Check:
    """Return a check that breaks when a number is above its limit, or is no number."""
    if isinstance(seen, Unknown):
        return unchecked(code, seen)
    return Check(code, seen, limit, not seen <= limit)


def nothing_of(code: str, seen: Known[Sequence[str]]) -> Check:
    """Return a check that breaks when something is listed."""
    if isinstance(seen, Unknown):
        return unchecked(code, seen)
    return Check(code, list(seen), [], bool(seen))


def judged(checks: Sequence[Check], flag_only: bool) -> Validity:
    """Return the record's `validity`: the rules that broke, and all that were checked."""
    broken = [
        BrokenRule(each.code, each.seen, each.limit, each.code not in STATED_ONLY and not flag_only)
        for each in checks
        if each.broken
    ]
    return Validity(
        valid=not any(rule.invalidates for rule in broken),
        codes=broken,
        checks=[CheckedRule(each.code, each.seen, each.limit, each.not_checked) for each in checks],
    )


def machine_checks(
    before: MachineState, after: MachineState, seen: SeenOfMachine, limits: Limits
) -> list[Check]:
    """Return the checks of what others did to the machine.

    The GPUs of `after` are as they were when the tasks ended.
    """
    changed = [name for name in WATCHED if getattr(before, name) != getattr(after, name)]
    cards = list(zip(before.gpus, after.gpus, strict=False))
    if len(before.gpus) != len(after.gpus):
        changed.append("gpus")
    if any(old.power_limit_w != new.power_limit_w for old, new in cards):
        changed.append("gpu_power_limit")
    shown = [name for name in WATCHED if getattr(before, name) not in NOT_SHOWN]
    settings: Known[Sequence[str]] = changed
    if not (changed or shown or cards):
        settings = Unknown("no setting of this machine is shown")
    swapped = _added(
        _grown(before.swap_in_bytes, after.swap_in_bytes),
        _grown(before.swap_out_bytes, after.swap_out_bytes),
    )
    slowed = _grown(before.throttle_count, after.throttle_count)
    hot = [_was_hot(old, new) for old, new in cards]
    parts = ["of the processor"] * (slowed is None) + ["of a GPU"] * (None in hot)
    throttled = known(_added(slowed, *hot), f"throttling {' and '.join(parts)} is not counted here")
    return [
        at_most("machine_busy_before", seen.busy_share, limits.cpu_busy),
        at_most("foreign_cpu", seen.foreign_share, limits.foreign_cpu),
        at_most("steal", known(seen.steal_share, "stolen time is not counted here"), limits.steal),
        at_most("swap", known(swapped, "swap is not counted here"), limits.swap_bytes),
        at_most("throttled", throttled, 0),
        nothing_of("machine_settings_changed", settings),
        at_most("clock_jump", seen.clock_jump_s, limits.clock_jump_s),
    ]


def allocation_check(allocation: Allocation | None) -> Check:
    """Return the check that no other job may share the node of a batch system's job."""
    if allocation is None:
        return unchecked("not_exclusive", Unknown("no job of a batch system measures"))
    if allocation.exclusive is None:
        return unchecked("not_exclusive", Unknown(allocation.basis))
    return Check("not_exclusive", allocation.exclusive, True, not allocation.exclusive)


def _grown(before: int | None, after: int | None) -> int | None:
    """Return by how much a count grew; None where the machine does not count it."""
    return None if before is None or after is None else after - before


def _added(*counts: int | None) -> int | None:
    """Return the sum of counts; None where one is not known and those that are say nothing."""
    total = sum(count for count in counts if count is not None)
    return None if total == 0 and None in counts else total


def _was_hot(before: Gpu, after: Gpu) -> int | None:
    """Return whether heat held a card's clocks down, as 0 or 1; None where it does not tell."""
    held = _grown(before.held_by_heat_ns, after.held_by_heat_ns)
    now = None if after.clocks_held_by is None else int(not HOT.isdisjoint(after.clocks_held_by))
    counted = None if held is None else int(held > 0)
    return max((each for each in (now, counted) if each is not None), default=None)


def counter_checks(seen: SeenOfMeters, counted: bool, limits: Limits) -> list[Check]:
    """Return the checks of the meters themselves.

    `counted`: CPU energy comes from counters. A model of the processor's load does not conserve
    energy over milliseconds: its sum is stated and not judged.
    """
    own = seen.counters
    worst = largest(map(abs, seen.cross_check.values()), "no component has two readers")
    share = known(seen.conservation, "the window has no energy")
    if not counted:
        share = Unknown("energy is modelled, and a model does not conserve it over milliseconds")
    if own.without_range:
        risk: Known[float] = Unknown(f"the range of {', '.join(own.without_range)} is not known")
    else:
        risk = known(seen.wrap_share, NO_COUNTERS)

    def of_counters(value: T) -> Known[T]:
        return value if own.counters else Unknown(NO_COUNTERS)

    return [
        at_most("counter_unreadable", of_counters(own.unreadable), 0),
        at_most("counter_reset", of_counters(own.resets), 0),
        nothing_of("counter_stuck", of_counters(own.still)),
        nothing_of("counter_range_unknown", of_counters(own.without_range)),
        nothing_of("second_reader_missing", own.alone),
        implausible(own),
        at_most("sampling_gap", seen.sampling_gap_s, limits.sampling_gap_s),
        at_most("window_not_bracketed", seen.late_s, limits.bracket_s),
        at_most("wrap_risk", risk, limits.wrap_share),
        at_most("cross_check", worst, limits.cross_check),
        at_most("conservation", share, limits.conservation),
    ]


def implausible(own: SeenOfCounters) -> Check:
    """Return the check of counters against power that was read apart, or that is possible at all.

    Both readers of a card share its driver, so that they agree on a counter that is wrong.
    """
    code, found = "implausible_power", []
    if own.leaps:
        found.append(f"{own.leaps} steps of more than `largest_power_w`")
    compared = bool(own.leaps)
    for power in own.powers:
        if not isinstance(power.limit_w, Unknown):
            compared = True
            if power.counted_w > MOST_OF_LIMIT * power.limit_w:
                found.append(
                    f"{power.name}: {power.counted_w:.0f} W counted, limit {power.limit_w:.0f} W"
                )
        if not isinstance(power.sampled_w, Unknown):
            compared = True
            low, high = sorted((power.counted_w, power.sampled_w))
            if high > MOST_OF_SAMPLED * low:
                found.append(
                    f"{power.name}: {power.counted_w:.0f} W counted, "
                    f"{power.sampled_w:.0f} W sampled"
                )
    if not compared:
        return unchecked(code, Unknown("no counter here gives power beside its energy"))
    return nothing_of(code, found)


def answer_checks(
    answers: Sequence[Completion],
    again: Sequence[int] | None,
    settle: Settle,
    compared: SettingsInForce,
    exactly: int | None,
    reloaded: bool | None,
    limits: Limits,
    may_cache: bool = False,
) -> list[Check]:
    """Return the checks of what the runtime did.

    `compared` are the settings that it shows, of those that it was asked for. `again` are the
    tokens of each text when read again. `exactly`: every answer must have so many tokens (kind
    `fixed`). `reloaded`: whether another process holds the weights than before the tasks; None
    where that is not known. `may_cache`: it may reuse the computed prefix of an earlier prompt.
    Another prompt count or setting than asked for ends a run before it comes here.
    """
    told = [each.counts_known for each in answers]
    miscounted: Known[float] = 0
    if not each_of(told, bool):
        miscounted = Unknown("the runtime does not count the tokens of every prompt")
    different: Known[Sequence[str]] = ()
    if not compared:
        different = Unknown("the runtime shows none of the settings that it was asked for")
    ratio = cache_ratio(answers, settle)
    if may_cache:
        ratio = Unknown("the runtime may keep prompts, as installed")
    return [
        at_most("prompt_tokens_differ", miscounted, 0),
        nothing_of("settings_not_in_force", different),
        at_most(
            "load_during_tasks",
            known(
                None if reloaded is None else int(reloaded),
                "the runtime shows no process of its own",
            ),
            0,
        ),
        at_most("prompt_cache_hit", ratio, limits.prompt_cache_ratio),
        at_most("token_mismatch", mismatch(answers, again, exactly), limits.token_mismatch),
        at_most("not_fixed_length", off_length(answers, exactly), 0),
        Check("not_settled", settle.cv, settle.limit, not settle.settled),
    ]


def mismatch(
    answers: Sequence[Completion], again: Sequence[int] | None, exactly: int | None
) -> Known[float]:
    """Return the share of answers whose tokens differ when their text is read again."""
    if exactly is not None:
        return Unknown("answers of a fixed length are cut anywhere")
    if again is None:
        return Unknown("the texts could not be read again")
    pairs = [(a, n) for a, n in zip(answers, again, strict=True) if a.counts_known]
    if not pairs:
        return Unknown("the runtime gives no token counts")
    # Reading a text again merges tokens: 1 to 3 differ in about one answer of twenty.
    return sum(abs(a.generated_tokens - n) > 3 for a, n in pairs) / len(pairs)


def off_length(answers: Sequence[Completion], exactly: int | None) -> Known[float]:
    """Return how many answers are not of the length asked for."""
    if exactly is None:
        return Unknown("this kind of run asks for no length")
    if not answers:
        return Unknown("there is no answer")
    return sum(each.generated_tokens != exactly for each in answers)


def _least_rate(answer: Completion) -> float | None:
    """Return the tokens per second that a prompt was read at, or at least so many.

    One that was read faster than can be told counts as read in that time. None where it is not
    told.
    """
    if answer.prefill_s is None:
        return None
    return answer.prompt_tokens / max(answer.prefill_s, SHORTEST_PREFILL_S)


def prefill_tokens_per_s(answers: Sequence[Completion]) -> float | None:
    """Return the rate of the prompt that was read fastest; None where it was too short to tell.

    One that took longer, of prompts that are read in no time, shows what else the machine did.
    """
    told = [(each.prompt_tokens, each.prefill_s) for each in answers if each.prefill_s is not None]
    if not told:
        return None
    tokens, fastest_s = max(told, key=lambda pair: pair[0] / max(pair[1], 1e-9))
    return None if fastest_s < SHORTEST_PREFILL_S else tokens / fastest_s


def cache_ratio(answers: Sequence[Completion], settle: Settle) -> Known[float]:
    """Return how much faster the fastest prompt was read than the fastest of the settle window.

    A reused prefix is not read, so that its prompt seems to be read many times faster. At least so
    much faster: what the clock cannot tell is not taken for speed.
    """
    before = settle.prefill_tokens_per_s
    rates = [rate for rate in map(_least_rate, answers) if rate is not None]
    if not rates:
        return Unknown("the runtime does not tell when it has read a prompt")
    if not before:
        return Unknown("the settle prompts were read too fast for the clock")
    return max(rates) / before
