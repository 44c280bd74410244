"""Absence is never a pass: the rule, and every rule of validity that lacks data."""

import dataclasses

import msgspec
import pytest
from scripted import LIMITS

from joules.core.inference import Completion
from joules.core.known import Unknown, each_of, known, largest
from joules.core.machine_facts import Gpu
from joules.core.record import Settle
from joules.machine import machine_state
from joules.measure import validity

NOTHING_SEEN = validity.SeenOfMeters(validity.SeenOfCounters(), 1.0, 0.0, None, {}, None)
UNTOLD = Completion(
    text="x",
    prompt_tokens=1,
    generated_tokens=1,
    prefill_s=None,
    decode_s=1.0,
    finish_reason="eos",
    counts_known=False,
)
SETTLE = Settle(settled=True, prompts=4, cv=0.01, limit=0.02, prefill_tokens_per_s=None)


# A machine that counts and shows nothing: no Linux, or one that hides all of it.
BLANK = msgspec.structs.replace(
    machine_state.observe(),
    **dict.fromkeys(("governors", "energy_preferences", "gpus"), []),
    **dict.fromkeys(("turbo_off", "boost", "smt", "power_plugged", "platform_profile")),
    **dict.fromkeys(("throttle_count", "swap_in_bytes", "swap_out_bytes")),
)
CARD = Gpu(
    name=None,
    driver="1",
    memory_bytes=None,
    power_limit_w=None,
    temperature_c=None,
    clocks_held_by=None,
    held_by_heat_ns=None,
)
UNSTOLEN = validity.SeenOfMachine(0.0, 0.0, None, 0.0)


def test_a_property_of_all_members_does_not_hold_for_none():
    assert all([]), "Python's own does"
    assert not each_of([], bool)
    assert each_of([1, 2], bool)
    assert not each_of([1, 0], bool)


def test_what_is_not_known_has_a_reason_and_no_truth():
    assert known(0, "not read") == 0
    assert known(None, "not read") == Unknown("not read")
    assert largest([], "no counter") == Unknown("no counter")
    assert largest([1.0, 3.0], "no counter") == 3.0
    with pytest.raises(TypeError, match="neither true nor false: not read"):
        bool(Unknown("not read"))
    with pytest.raises(ValueError, match="needs a reason"):
        Unknown("")


def test_a_check_without_a_number_is_not_made_and_says_why():
    check = validity.at_most("cross_check", Unknown("no counter is read"), 0.01)
    assert (check.limit, check.broken, check.not_checked) == (None, False, "no counter is read")
    assert validity.at_most("cross_check", float("nan"), 0.01).broken, "no number is not a pass"
    assert validity.nothing_of("counter_stuck", []).not_checked is None


@pytest.mark.parametrize("counted", [True, False])
def test_every_rule_about_counters_says_why_it_was_not_checked_where_there_are_none(counted):
    checks = {each.code: each for each in validity.counter_checks(NOTHING_SEEN, counted, LIMITS)}
    made = {"sampling_gap", "window_not_bracketed", "second_reader_missing"}
    assert {code for code, each in checks.items() if each.not_checked is None} == made
    assert not any(each.broken for each in checks.values())
    for code, each in checks.items():
        assert (each.limit is None) == (code not in made)


def machine_rules(before, after):
    return {each.code: each for each in validity.machine_checks(before, after, UNSTOLEN, LIMITS)}


def test_every_rule_about_the_machine_says_why_it_was_not_checked_where_nothing_is_shown():
    checks = machine_rules(BLANK, BLANK)
    assert {code: each.not_checked for code, each in checks.items() if each.not_checked} == {
        "steal": "stolen time is not counted here",
        "swap": "swap is not counted here",
        "throttled": "throttling of the processor is not counted here",
        "machine_settings_changed": "no setting of this machine is shown",
    }
    assert not any(each.broken for each in checks.values())
    plugged = msgspec.structs.replace(BLANK, power_plugged=True)
    assert machine_rules(BLANK, plugged)["machine_settings_changed"].broken


@pytest.mark.parametrize(
    ("slowed", "told", "words"),
    [
        (0, {}, "throttling of a GPU is not counted here"),
        (None, {}, "throttling of the processor and of a GPU is not counted here"),
        (None, {"clocks_held_by": []}, "throttling of the processor is not counted here"),
        (0, {"clocks_held_by": ["software power cap"]}, None),
        (0, {"held_by_heat_ns": 5}, None),
    ],
)
def test_a_part_whose_throttling_is_not_told_is_not_taken_for_a_cool_one(slowed, told, words):
    card = msgspec.structs.replace(CARD, **told)
    state = msgspec.structs.replace(BLANK, throttle_count=slowed, gpus=[card])
    throttled = machine_rules(state, state)["throttled"]
    assert (throttled.not_checked, throttled.broken) == (words, False)


def test_a_part_that_was_throttled_breaks_the_rule_whatever_another_one_does_not_tell():
    hot = msgspec.structs.replace(CARD, clocks_held_by=["hardware thermal slowdown"])
    after = msgspec.structs.replace(BLANK, gpus=[hot])
    assert machine_rules(msgspec.structs.replace(BLANK, gpus=[CARD]), after)["throttled"].broken
    before = msgspec.structs.replace(BLANK, throttle_count=3, gpus=[CARD])
    throttled = machine_rules(before, msgspec.structs.replace(before, throttle_count=4))[
        "throttled"
    ]
    assert (throttled.seen, throttled.broken) == (1, True)


def test_a_range_that_is_missing_leaves_the_risk_of_a_wrap_unknown_and_is_named():
    counters = validity.SeenOfCounters(counters=1, without_range=["cpu intel-rapl:0"])
    seen = validity.SeenOfMeters(counters, 1.0, 0.0, 0.0, {"cpu": 0.0}, 0.0)
    checks = {each.code: each for each in validity.counter_checks(seen, True, LIMITS)}
    assert checks["wrap_risk"].not_checked == "the range of cpu intel-rapl:0 is not known"
    assert checks["counter_range_unknown"].broken


def test_a_second_reader_that_is_missing_makes_a_run_invalid():
    counters = validity.SeenOfCounters(counters=1, alone=["cpu"])
    seen = validity.SeenOfMeters(counters, 1.0, 0.0, 0.0, {}, 0.0)
    judged = validity.judged(validity.counter_checks(seen, True, LIMITS), flag_only=False)
    assert not judged.valid
    assert [(rule.code, rule.seen) for rule in judged.codes] == [("second_reader_missing", ["cpu"])]


def test_answers_that_tell_nothing_are_not_taken_for_answers_that_are_right():
    checks = validity.answer_checks([UNTOLD], None, SETTLE, {}, None, None, LIMITS)
    unknown = {each.code for each in checks if each.not_checked}
    assert unknown >= {"prompt_tokens_differ", "load_during_tasks", "prompt_cache_hit"}
    assert "settings_not_in_force" in unknown, "no setting is shown, so none was compared"
    assert unknown >= {"token_mismatch", "not_fixed_length"}
    none = validity.answer_checks([], [], SETTLE, {}, 256, None, LIMITS)
    assert {each.code: each.not_checked for each in none}[
        "not_fixed_length"
    ] == "there is no answer"
    again = validity.mismatch([UNTOLD], [1], None)
    assert again == Unknown("the runtime gives no token counts"), "not 0 of 1"


def read_in(prompt_tokens, prefill_s):
    return dataclasses.replace(UNTOLD, prompt_tokens=prompt_tokens, prefill_s=prefill_s)


def settled_at(tokens_per_s):
    return msgspec.structs.replace(SETTLE, prefill_tokens_per_s=tokens_per_s)


def test_prompts_that_are_read_in_no_time_tell_no_rate_before_the_tasks():
    """On a loaded machine one of them takes 12 ms: that is no rate of reading."""
    loaded = [read_in(40, 0.002), read_in(50, 0.012), read_in(40, 0.003)]
    assert validity.prefill_tokens_per_s(loaded) is None
    seen = validity.cache_ratio([read_in(150, 0.004)], settled_at(None))
    assert seen == Unknown("the settle prompts were read too fast for the clock")
    # A short prompt is no obstacle where a longer one was read faster.
    assert validity.prefill_tokens_per_s([read_in(2, 0.009), read_in(60, 0.1)]) == 600


@pytest.mark.parametrize(
    ("prompt_tokens", "prefill_s", "ratio"),
    [
        (200, 0.2, 1.0),  # as fast as before
        (200, 0.02, 10.0),  # most of it was not read
        (200, 0.0, 20.0),  # at least: 200 tokens in at most 10 ms
        (20, 0.001, 2.0),  # at least: 20 tokens in at most 10 ms
    ],
)
def test_a_prompt_counts_as_read_no_faster_than_the_clock_can_tell(prompt_tokens, prefill_s, ratio):
    slow, seen = read_in(10, 0.05), read_in(prompt_tokens, prefill_s)
    assert validity.cache_ratio([slow, seen], settled_at(1000.0)) == pytest.approx(ratio)


def test_settings_that_a_runtime_shows_were_compared_before_its_tasks():
    checks = validity.answer_checks([UNTOLD], None, SETTLE, {"seed": 1}, None, None, LIMITS)
    shown = {each.code: each for each in checks}["settings_not_in_force"]
    assert (shown.seen, shown.limit, shown.not_checked) == ([], [], None)


def test_the_reason_is_in_the_record_and_a_rule_without_limit_has_one():
    judged = validity.judged(validity.counter_checks(NOTHING_SEEN, True, LIMITS), flag_only=False)
    stored = msgspec.to_builtins(judged)["checks"]
    assert all((each["limit"] is None) == bool(each["not_checked"]) for each in stored)
