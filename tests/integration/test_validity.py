"""Each fault that a run can have, seen in its record. Faults are made with a fake powercap tree."""

import dataclasses
import time

import msgspec
import pytest
from powercap_tree import codecarbon_reads, counters, make_tree
from scripted import (
    DEMO,
    LIMITS,
    LOOSE,
    PARAMETERS,
    PROMPTS_FILE,
    SETTINGS,
    Scripted,
    changed,
    run,
)

from joules.core import stored
from joules.core.errors import UserError
from joules.core.inference import Settings
from joules.core.machine_facts import Gpu
from joules.core.plan import plan_of
from joules.core.reading import read_catalogue
from joules.core.record import BrokenRule, CheckedRule, Validity
from joules.core.registration import hashes_of
from joules.core.warm_up_files import Agreement
from joules.inputs.study_plan import study_plan
from joules.machine import machine_state
from joules.measure import campaign, instrument, protocol, validity
from joules.meters import powercap, reader
from joules.meters.meter import Channel, Reading


class Burning(Scripted):
    """Each answer takes energy from the package and the memory, and may do mischief first."""

    def __init__(self, package, dram, joules=5.0, mischief=None, **answer):
        super().__init__(**answer)
        self.package, self.dram, self.joules = package, dram, joules
        self.mischief = mischief or (lambda: None)
        self.asked = 0

    def complete(self, prompt, max_tokens=None):
        if prompt.text.startswith("def f"):
            self.asked += 1
            if self.asked == 2:
                self.mischief()
        time.sleep(0.01)  # energy without time would be a leap of the counter
        self.package.add(self.joules)
        self.dram.add(self.joules / 10)
        return super().complete(prompt, max_tokens)


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "powercap")


def measured(tree, tmp_path, meter_of=powercap.Meter, largest_power_w=5000.0, **burning):
    root, package, dram = tree
    meter = reader.OwnReader([meter_of(root=root)], 60.0, largest_power_w)
    with codecarbon_reads(root):
        parts, _ = run(
            Burning(package, dram, **burning), parameters=LOOSE, tmp=tmp_path, meter=meter
        )
    return parts


def broken(parts):
    return {rule.code: rule for rule in parts.validity.codes if rule.invalidates}


def checked(parts):
    return {check.code: check for check in parts.validity.checks}


def test_a_good_run_on_counters_is_valid_and_conserves_its_energy(tree, tmp_path):
    parts = measured(tree, tmp_path)
    assert parts.validity.valid, parts.validity.codes
    tasks = parts.windows[4]
    assert tasks.energy_j.cpu == pytest.approx(30, rel=2e-6), "3 answers and 3 flush prompts"
    assert parts.gaps.energy_j == pytest.approx(15, rel=2e-6)
    assert parts.gaps.conservation == pytest.approx(0, abs=1e-5)
    assert parts.cross_check["cpu"] == pytest.approx(0, abs=1e-5)
    assert tasks.energy_j.dram == pytest.approx(3, rel=2e-6)
    assert tasks.net_energy_j.cpu == pytest.approx(30, rel=2e-6), "the idle machine took none"
    assert parts.energy_j == pytest.approx(15, rel=4e-6), "without DRAM and without gaps"
    limits = {code: check.limit for code, check in checked(parts).items()}
    assert limits["cross_check"] == LIMITS.cross_check
    assert limits["conservation"] == LIMITS.conservation
    assert limits["wrap_risk"] == LIMITS.wrap_share


def test_without_counters_the_rules_about_them_do_not_apply_and_say_so(tmp_path):
    parts, _ = run(Scripted(), parameters=LOOSE, tmp=tmp_path)
    checks = checked(parts)
    for code in ("counter_unreadable", "counter_reset", "wrap_risk", "cross_check", "conservation"):
        assert checks[code].limit is None
    assert checks["foreign_cpu"].limit == 1e9
    assert isinstance(parts.gaps.conservation, float)


def test_one_wrap_in_a_run_changes_nothing(tree, tmp_path):
    _, package, _ = tree
    package.set(package.range_uj - 12_000_000)
    package.copy.set(package.copy.range_uj - 12_000_000)
    parts = measured(tree, tmp_path)
    assert parts.validity.valid, parts.validity.codes
    assert parts.energy_j == pytest.approx(15, rel=4e-6)


def test_a_task_that_takes_more_than_the_counter_holds_is_at_risk(tree, tmp_path):
    _, package, _ = tree
    for zone in (package, package.copy):
        zone.limit(100_000_000)  # 100 J
    parts = measured(tree, tmp_path, largest_power_w=1e6, joules=99.0)
    assert broken(parts)["wrap_risk"].seen > 0.8


def test_a_counter_that_was_reset_makes_the_run_invalid(tree, tmp_path):
    _, package, _ = tree

    def reset():
        package.set(0)
        package.copy.set(0)

    for zone in (package, package.copy):
        zone.set(90_000_000_000)
    parts = measured(tree, tmp_path, mischief=reset)
    assert broken(parts)["counter_reset"].seen == 1
    assert "cross_check" in broken(parts), "CodeCarbon took the reset for a wrap"


def test_a_counter_that_cannot_be_read_for_a_while_makes_the_run_invalid(tree, tmp_path):
    class FailingOnce(powercap.Meter):
        readings = 0

        def read(self):
            self.readings += 1
            if self.readings == 20:
                raise RuntimeError("no such device")
            return super().read()

    parts = measured(tree, tmp_path, FailingOnce)
    assert list(broken(parts)) == ["counter_unreadable"]
    assert broken(parts)["counter_unreadable"].seen == 3, "package, memory and platform, once each"
    assert parts.cross_check["cpu"] == pytest.approx(0, abs=1e-5), "it was caught up with"


def test_a_counter_that_stands_still_makes_the_run_invalid(tree, tmp_path):
    parts = measured(tree, tmp_path, joules=0.0)
    assert broken(parts)["counter_stuck"].seen == ["cpu intel-rapl:0", "dram intel-rapl:0:2"]


def test_a_half_written_counter_is_counted_as_unreadable_and_caught_up_with(tree):
    root, package, _ = tree
    with reader.OwnReader(counters(root), 60, 1e6) as meter:
        (package.path / "energy_uj").write_text("")
        meter.total_j()
        assert meter.unreadable == 1
        package.add(7)
        assert meter.total_j()["cpu"] == pytest.approx(7)


def test_a_suspended_machine_is_seen_by_its_clocks(tmp_path, monkeypatch):
    real, asleep_s = time.time, []

    class Sleeping(Scripted):
        def complete(self, prompt, max_tokens=None):
            asleep_s[:] = [3600.0]
            return super().complete(prompt, max_tokens)

    monkeypatch.setattr(protocol.time, "time", lambda: real() + sum(asleep_s))
    parts, _ = run(Sleeping(), parameters=LOOSE, tmp=tmp_path)
    assert broken(parts)["clock_jump"].seen == pytest.approx(3600, abs=1)


def test_a_starved_tracker_is_seen_by_the_gap_between_its_readings(tmp_path):
    parameters = changed(LOOSE, limits={"sampling_gap_s": 1e-6})
    parts, _ = run(Scripted(), parameters=parameters, tmp=tmp_path)
    assert broken(parts)["sampling_gap"].limit == 1e-6
    window = instrument.MeasuredWindow("tasks", 10.0, duration_s=9.0)
    window.readings = [instrument.Reading(moment, 0, 0, None) for moment in (11, 12, 17, 19)]
    assert window.longest_silence_s() == 5
    assert validity.at_most("sampling_gap", 5, LIMITS.sampling_gap_s).broken is False
    assert validity.at_most("sampling_gap", 5.1, LIMITS.sampling_gap_s).broken is True


class Stepping:
    """A meter whose readings come at moments that a test sets."""

    LABEL, ANSWERS_AT_ONCE = "stepping", True
    channels = (Channel("cpu", "package", "a file", 1e6),)

    def __init__(self):
        self.moment_s = self.joules = 0.0

    def read(self):
        return [Reading(self.moment_s, self.joules)]

    def go(self, meter, moment_s, joules=0.0):
        self.moment_s, self.joules = moment_s, self.joules + joules
        meter.total_j()


def test_the_own_readers_gap_is_the_longest_time_without_a_reading():
    source = Stepping()
    meter = reader.OwnReader([source])
    for moment_s in (1.0, 4.0, 5.0):
        source.go(meter, moment_s)
    assert meter.largest_gap_s(0.0, 5.0) == 3.0


def test_prefill_energy_is_interpolated_where_the_clock_allows():
    source = Stepping()
    meter = reader.OwnReader([source])
    for second in range(1, 6):
        source.go(meter, float(second), 10)
    assert meter.between_j(1.5, 4.0, ["cpu"]) == pytest.approx(25)
    assert meter.between_j(1.5, 3.4, ["cpu"]) is None, "less than two readings"
    assert meter.between_j(1.5, 4.0, ["cpu", "gpu"]) is None, "the GPU has no counter"
    assert meter.between_j(1.5, 4.0, []) is None, "nothing is not 0 joule"


def test_a_counter_that_leaps_by_more_than_any_power_allows_is_implausible():
    source = Stepping()
    meter = reader.OwnReader([source], largest_power_w=1000.0)
    source.go(meter, 1.0, 900)
    assert (meter.total_j()["cpu"], meter.leaps) == (900, 0)
    source.go(meter, 2.0, 1100)
    assert (meter.total_j()["cpu"], meter.leaps) == (900, 1)
    seen = validity.implausible(validity.SeenOfCounters(counters=1, leaps=meter.leaps))
    assert seen.broken and seen.code == "implausible_power"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"generated_tokens": 40}, "token_mismatch"),
    ],
)
def test_what_a_runtime_does_wrong_has_a_code(answer, code, tmp_path):
    parts, _ = run(Scripted(**answer), parameters=LOOSE, tmp=tmp_path)
    assert list(broken(parts)) == [code]


def test_a_prompt_that_was_not_read_shows_as_a_cache_hit(tmp_path):
    class Caching(Scripted):
        def complete(self, prompt, max_tokens=None):
            completion = super().complete(prompt, max_tokens)
            cached = prompt.text == "def f1"
            return dataclasses.replace(completion, prefill_s=0.001 if cached else 0.05)

    parts, _ = run(Caching(), parameters=LOOSE, tmp=tmp_path)
    hit = broken(parts)["prompt_cache_hit"]
    # 3 tokens in what counts as 10 ms, against 2 tokens of a settle prompt in 50 ms.
    assert hit.seen == pytest.approx(300 / 40) and hit.seen > hit.limit
    parts, _ = run(Scripted(prefill_s=0.05), parameters=LOOSE, tmp=tmp_path)
    assert parts.validity.valid, parts.validity.codes


def test_an_answer_of_another_length_breaks_a_run_of_fixed_length(tmp_path):
    parts, _ = run(Scripted(), parameters=LOOSE, tmp=tmp_path, exactly=256)
    assert broken(parts)["not_fixed_length"] == BrokenRule("not_fixed_length", 3, 0, True)
    parts, _ = run(Scripted(generated_tokens=256), parameters=LOOSE, tmp=tmp_path, exactly=256)
    assert parts.validity.valid, parts.validity.codes


CARD = Gpu(
    name="Scripted GPU",
    driver="999.1",
    memory_bytes=None,
    power_limit_w=350.0,
    temperature_c=None,
    clocks_held_by=["software power cap"],
    held_by_heat_ns=7,
)
QUIET = msgspec.structs.replace(
    machine_state.observe(), governors=["x"], throttle_count=0, power_plugged=None, gpus=[CARD]
)
CALM = validity.SeenOfMachine(
    busy_share=0.01, foreign_share=0.001, steal_share=0.0, clock_jump_s=0.0
)


def card(**changes):
    return {"gpus": [msgspec.structs.replace(CARD, **changes)]}


@pytest.mark.parametrize(
    ("seen", "after", "code"),
    [
        ({"busy_share": 0.2}, {}, "machine_busy_before"),
        ({"foreign_share": 0.03}, {}, "foreign_cpu"),
        ({"steal_share": 0.02}, {}, "steal"),
        ({"clock_jump_s": 30.0}, {}, "clock_jump"),
        ({}, {"swap_out_bytes": QUIET.swap_out_bytes + 4096}, "swap"),
        ({}, {"throttle_count": 1}, "throttled"),
        ({}, card(clocks_held_by=["hardware thermal slowdown"]), "throttled"),
        ({}, card(held_by_heat_ns=8), "throttled"),
        ({}, card(power_limit_w=250.0), "machine_settings_changed"),
        ({}, {"governors": ["y"]}, "machine_settings_changed"),
        ({}, {"power_plugged": False}, "machine_settings_changed"),
    ],
)
def test_what_happens_to_the_machine_has_a_code_with_seen_and_limit(seen, after, code):
    assert not any(c.broken for c in validity.machine_checks(QUIET, QUIET, CALM, LIMITS))
    checks = validity.machine_checks(
        QUIET, msgspec.structs.replace(QUIET, **after), dataclasses.replace(CALM, **seen), LIMITS
    )
    found = validity.judged(checks, flag_only=False)
    assert found.valid is False
    assert [each.code for each in found.codes] == [code]
    assert found.codes[0].seen != found.codes[0].limit
    assert CheckedRule(code, found.codes[0].seen, found.codes[0].limit) in found.checks
    flagged = validity.judged(checks, flag_only=True)
    assert flagged.valid is True
    assert flagged.codes[0].invalidates is False


def test_a_step_of_the_wall_clock_is_no_changed_setting_of_the_machine():
    """The time of boot follows the wall clock; the step has a rule of its own."""
    later = msgspec.structs.replace(QUIET, boot_time=(QUIET.boot_time or 0.0) + 1)
    assert not any(check.broken for check in validity.machine_checks(QUIET, later, CALM, LIMITS))


def test_no_rule_looks_at_the_amount_of_energy(tree, tmp_path):
    cheap = measured(tree, tmp_path, joules=1.0)
    dear = measured(tree, tmp_path, largest_power_w=1e6, joules=500.0)
    assert cheap.validity.valid and dear.validity.valid


def test_a_busy_machine_is_waited_for_and_then_judged():
    said: list[str] = []
    limits = msgspec.structs.replace(LIMITS, cpu_busy=-1.0, wait_s=1.0)
    quiet = protocol.preflight(PARAMETERS.windows, limits, said.append)
    assert quiet.waited_s >= 1.0
    assert "waiting until it is quiet" in said[0]


def test_a_run_rests_until_the_processor_is_cool_again_but_not_for_ever(monkeypatch):
    temperatures = iter([60.0, 55.0, 41.5])
    monkeypatch.setattr(machine_state, "package_temperature", lambda: next(temperatures))
    monkeypatch.setattr(protocol.time, "sleep", lambda seconds: None)
    protocol.rest(PARAMETERS.windows, 40.0)
    assert next(temperatures, None) is None
    monkeypatch.setattr(machine_state, "package_temperature", lambda: 90.0)
    protocol.rest(msgspec.structs.replace(PARAMETERS.windows, rest_cap_s=0.0), 40.0)


PLAN = study_plan(DEMO, read_catalogue())


@pytest.fixture
def attempts(monkeypatch, tmp_path):
    """Return a function that measures a run whose attempts are valid or not as it is told.

    What is measured is scripted; agreement, record and all around it are real. The function returns
    the record's file and what lies beside it.
    """
    first = plan_of(DEMO)[0]
    settings = Settings(
        context_length=DEMO.settings.context_length,
        threads=1,
        batch_size=SETTINGS.batch_size,
        micro_batch_size=SETTINGS.micro_batch_size,
        flash_attention=False,
        gpu_layers=0,
        seed=1,
        max_tokens=256,
        kv_cache="f16",
    )
    parameters = changed(PARAMETERS, limits={"attempts": 3}, settings={"threads": 1})
    agreement = Agreement(
        model=first.model,
        protocol="base",
        runtimes=[first.arm],
        settings=settings,
        passed=True,
        problems=[],
        pairs=[],
    )
    stored.write_agreement(tmp_path / f"agreement/{first.model}.json", agreement)
    parts, measured = run(Scripted(), tmp=tmp_path)
    machine = machine_state.machine_facts(campaign.PACKAGES)
    monkeypatch.setattr(campaign, "end_with_workflow", lambda: None)

    def measure(valid, plan=PLAN):
        outcomes = iter(valid)

        def attempted(given, attempt, head, report):
            codes = [] if (good := next(outcomes)) else [BrokenRule("foreign_cpu", 1, 0, True)]
            judged = dataclasses.replace(parts, validity=Validity(good, codes))
            return campaign.record_of(given, attempt, Scripted(), measured.facts(), machine, judged)

        monkeypatch.setattr(campaign, "attempted", attempted)
        record = tmp_path / f"records/{'/'.join(first[:3])}/{first.repetition}.json"
        campaign.measure(
            first,
            DEMO,
            plan,
            parameters,
            tmp_path / "m.gguf",
            PROMPTS_FILE,
            {},
            record,
            tmp_path / "log.txt",
            lambda line: None,
        )
        return record

    return measure


def beside(folder):
    return sorted(path.name for path in folder.glob("records/*/*/*/*.json"))


def test_an_invalid_attempt_is_kept_beside_the_record_and_repeated(attempts, tmp_path):
    record = attempts([False, False, True])
    assert beside(tmp_path) == ["1.invalid-1.json", "1.invalid-2.json", "1.json"]
    assert stored.read_record(record).attempts == 3
    assert stored.read_record(record).validity.valid
    second = stored.read_record(record.with_name("1.invalid-2.json"))
    assert (second.attempts, second.validity.valid) == (2, False)


def test_an_attempt_of_an_earlier_try_is_not_written_over(attempts, tmp_path):
    with pytest.raises(UserError, match="3 attempts, none valid"):
        attempts([False] * 3)
    record = attempts([False, True])
    assert beside(tmp_path) == [*(f"1.invalid-{n}.json" for n in (1, 2, 3, 4)), "1.json"]
    assert stored.read_record(record).attempts == 5
    assert stored.read_record(record).position.actual == 2, "the run was started twice"


def test_the_first_run_registers_the_plan_and_later_ones_carry_it_whatever_the_plan(
    attempts, tmp_path
):
    with pytest.raises(StopIteration):
        attempts([])
    assert not (tmp_path / "registration.json").exists(), "a start that failed fixes nothing"
    first = stored.read_record(attempts([False, True]))
    written = (tmp_path / "registration.json").read_bytes()
    mark = stored.read_registered(tmp_path / "registration.json")
    assert mark.parts == hashes_of(PLAN)
    changed = msgspec.structs.replace(PLAN, blocks=PLAN.blocks + 1)
    second = attempts([True], changed)
    invalid = second.with_name("1.invalid-1.json")
    found = [first, stored.read_record(second), stored.read_record(invalid)]
    assert [record.registration for record in found] == [mark] * 3
    assert (tmp_path / "registration.json").read_bytes() == written


def test_a_study_whose_first_run_had_no_plan_is_measured_on_without_one(attempts, tmp_path):
    record = attempts([True])
    older = msgspec.structs.replace(stored.read_record(record), registration=None)
    stored.write_record(record, older)
    (tmp_path / "registration.json").unlink()
    assert stored.read_record(attempts([True])).registration is None
    assert not (tmp_path / "registration.json").exists()


def test_a_run_is_repeated_a_bounded_number_of_times(attempts, tmp_path):
    with pytest.raises(UserError, match=r"3 attempts, none valid \(foreign_cpu\)"):
        attempts([False] * 4)
    assert beside(tmp_path) == ["1.invalid-1.json", "1.invalid-2.json", "1.invalid-3.json"]
