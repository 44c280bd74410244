"""Where a finished record goes, whether runtimes agree, which study of fixed length may start."""

import dataclasses
import os

import pytest
from scripted import SETTINGS, Scripted, assigned, run

from joules.core import stored
from joules.core.arms import Arm, facts_of
from joules.core.errors import UserError
from joules.core.warm_up_files import TextDifference, WarmUp, WarmUpAnswer
from joules.machine import machine_state
from joules.measure import campaign
from joules.measure.agreement import agree, check_fixed
from joules.runtimes import load, names

CANNOT, CAN = (
    next(name for name in names() if ("ignore_eos" in load(name).CANNOT_HOLD) == wanted)
    for wanted in (True, False)
)


def warm_up(
    runtime, reason="limit", never_ends=False, text="x", prompt_tokens=3, settings=SETTINGS
):
    answer = WarmUpAnswer(
        task_id="HumanEval/0",
        duration_s=1.0,
        text=text,
        prompt_tokens=prompt_tokens,
        generated_tokens=8,
        prefill_s=0.1,
        decode_s=0.9,
        finish_reason=reason,
    )
    return WarmUp(
        model="m",
        arm=facts_of(runtime, Arm(runtime=runtime), runtime),
        runtime=runtime,
        protocol="base",
        never_ends=never_ends,
        facts={},
        settings=settings,
        settings_in_force={},
        cannot_hold=[],
        load_s=1.0,
        tokens_per_s=8.0,
        answers=[answer],
    )


@pytest.fixture
def record(tmp_path):
    """A record of a scripted run."""
    parts, measured = run(Scripted(), tmp=tmp_path)
    machine = machine_state.machine_facts(campaign.PACKAGES)
    made = assigned(tmp_path)
    return campaign.record_of(made, 1, Scripted(), measured.facts(), machine, parts)


def test_a_finished_record_lies_in_its_place_and_in_the_journal_once(tmp_path, record):
    place = tmp_path / "records/m/r/task/1.json"
    campaign.finish(record, place, tmp_path / "journal")
    (kept,) = (tmp_path / "journal").iterdir()
    assert stored.read_record(place).position == record.position
    assert os.path.samefile(kept, place)


def test_a_kill_just_before_the_record_is_in_its_place_finds_it_in_the_journal(
    tmp_path, monkeypatch, record
):
    place, journal = tmp_path / "records/1.json", tmp_path / "journal"
    replace = os.replace

    def killed_at_the_record(source, target):
        if target == place:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_record)
    with pytest.raises(KeyboardInterrupt):
        campaign.finish(record, place, journal)
    assert not place.exists()
    (kept,) = journal.glob("*.json")
    assert stored.read_record(kept).session == record.session


def test_runtimes_whose_texts_differ_agree_and_it_is_written_where_they_part(tmp_path):
    seen = [warm_up("a", text="abc"), warm_up("b", text="abd"), warm_up("c", text="abc")]
    agreement = agree(seen)
    assert agreement.passed and agreement.problems == []
    assert agreement.runtimes == ["a", "b", "c"]
    shares = {(p.runtime_a, p.runtime_b): p.same_text_share for p in agreement.pairs}
    assert shares == {("a", "b"): 0.0, ("a", "c"): 1.0, ("b", "c"): 0.0}
    assert agreement.pairs[0].first_difference == [TextDifference("HumanEval/0", 2)]
    assert [pair.same_counts for pair in agreement.pairs] == [1, 1, 1]
    stored.write_agreement(tmp_path / "m.json", agreement)
    assert stored.read_agreement(tmp_path / "m.json") == agreement


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"prompt_tokens": 4}, "HumanEval/0: b read 4 prompt tokens, a 3"),
        ({"text": ""}, "HumanEval/0: b answered nothing"),
        (
            {"settings": dataclasses.replace(SETTINGS, threads=2)},
            "b ran with other settings than a",
        ),
    ],
)
def test_runtimes_that_read_or_ran_otherwise_do_not_agree(other, problem):
    agreement = agree([warm_up("a"), warm_up("b", **other)])
    assert not agreement.passed
    assert agreement.problems == [problem]


def test_fixed_length_is_refused_by_the_name_of_the_runtime_that_cannot_ignore_the_end():
    check_fixed([warm_up(CANNOT), warm_up(CAN)], ["task", "control"])
    check_fixed([warm_up(CAN)], ["fixed"])
    with pytest.raises(
        UserError, match=rf"The runtime {CANNOT} cannot hold ignore_eos.*never_ends"
    ):
        check_fixed([warm_up(CAN), warm_up(CANNOT)], ["task", "fixed"])


def test_fixed_length_is_allowed_with_a_model_that_never_ends_until_it_ends():
    check_fixed([warm_up(CANNOT, never_ends=True)], ["fixed"])
    with pytest.raises(UserError, match=rf"m says `never_ends`.*{CANNOT}.*HumanEval/0"):
        check_fixed([warm_up(CANNOT, "eos", never_ends=True)], ["task"])
