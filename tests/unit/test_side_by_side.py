"""Campaigns side by side: what is averaged, what is left out, and why, by name."""

import dataclasses
from pathlib import Path

import msgspec
import pytest
from campaigns import on_machine
from demonstration_campaigns import COMMITTED, checkout_of
from synthetic import make_config, make_record

from joules.analyse.campaign import read_campaign
from joules.analyse.protocol import differing, protocol_of
from joules.analyse.side_by_side import numbered, side_by_side
from joules.core.plan import Run
from joules.draw.side_by_side import MOST_LINES, draw_side_by_side


@pytest.fixture(scope="module")
def committed():
    """The committed campaign: two models, one contrast, a demonstration without a counter."""
    return read_campaign(COMMITTED.name, checkout_of(COMMITTED))


def variant(campaign, name, *, machine="", scale=1.0, blocks=8, part=None, **ratios):
    """Return a campaign as if it had been measured with a counter on another machine.

    `scale` multiplies its ratios; `part` is a part of the protocol with its value.
    """
    table = campaign.ratios.assign(claimable=True, no_claim_reason="", n_blocks=blocks, **ratios)
    for column in ("ratio", "ratio_low", "ratio_high", "simultaneous_low", "simultaneous_high"):
        table[column] *= scale
    protocols = {
        place: {**protocol, **dict([part] if part else [])}
        for place, protocol in campaign.protocols.items()
    }
    return dataclasses.replace(
        campaign,
        name=name,
        machine=machine or f"machine of {name}",
        ratios=table,
        protocols=protocols,
        may_claim=True,
        tier="measured",
    )


def mean_of(tables, model="parrot-1m", protocol=1):
    means = tables.means
    [(_, row)] = means[(means["model"] == model) & (means["protocol"] == protocol)].iterrows()
    return row


def test_a_campaign_alone_is_shown_with_its_reasons_and_nothing_is_averaged(committed):
    tables = side_by_side([committed])
    assert len(tables.campaigns) == 1 and len(tables.energy) == 4 and len(tables.ratios) == 2
    assert list(tables.ratios["left_out"]) == ["no claim"] * 2
    assert tables.ratios["no_claim_reason"].str.startswith("It is a demonstration study.").all()
    assert set(tables.ratios["verdict"]) == {"no claim"}
    assert not tables.campaigns["may_claim"].any()
    assert tables.means["ratio"].isna().all() and tables.differences.empty
    assert mean_of(tables)["no_mean_reason"] == "no mean: 0 of 1 may be averaged, 3 are needed"


def test_two_machines_give_no_mean_three_an_approximate_one_and_ten_a_plain_one(committed):
    own = [variant(committed, f"c{n}", scale=1 + n / 100) for n in range(10)]
    assert mean_of(side_by_side(own[:2]))["no_mean_reason"]
    three, ten = (mean_of(side_by_side(own[:count])) for count in (3, 10))
    assert (three["approximate"], ten["approximate"]) == ("yes", "no")
    assert three["prediction_low"] < three["ratio_low"] < three["ratio"] < three["ratio_high"]
    assert own[0].ratios["ratio"][0] < ten["ratio"] < own[9].ratios["ratio"][0]


def test_the_order_in_which_campaigns_are_named_does_not_matter(committed):
    own = [variant(committed, f"c{n}", scale=1 + n / 100) for n in range(4)]
    one, two = side_by_side(own), side_by_side(own[::-1])
    for field in dataclasses.fields(one):
        assert getattr(one, field.name).equals(getattr(two, field.name)), field.name


def test_another_protocol_is_named_and_not_averaged(committed):
    own = [variant(committed, f"c{n}") for n in range(3)]
    odd = variant(committed, "a-longer-settling", part=("settle.seconds", "120"))
    tables = side_by_side([*own, odd])
    assert mean_of(tables)["machines"] == 3
    assert "1 of 1" in mean_of(tables, protocol=2)["no_mean_reason"]
    told = tables.differences[tables.differences["model"] == "parrot-1m"]
    assert list(told["part"]) == ["settle.seconds"] * 2
    assert dict(zip(told["protocol"], told["value"], strict=True)) == {1: "2", 2: "120"}
    assert list(told["campaigns"]) == ["c0, c1, c2", "a-longer-settling"]


def test_what_carries_no_claim_is_shown_beside_the_mean_and_is_not_in_it(committed):
    own = [variant(committed, f"c{n}", scale=1 + n / 100) for n in range(3)]
    tables = side_by_side([*own, dataclasses.replace(committed, machine="another")])
    assert len(tables.ratios) == 8
    assert mean_of(tables)["ratio"] == mean_of(side_by_side(own))["ratio"]
    assert (mean_of(tables)["campaigns"], mean_of(tables)["machines"]) == (4, 3)


def test_machines_that_cannot_be_told_apart_count_once_by_blocks_and_not_by_ratio(committed):
    own = [variant(committed, f"c{n}", scale=1 + n / 100) for n in range(3)]
    again = variant(committed, "a-again", machine="machine of c1", scale=2.0, blocks=7)
    tables = side_by_side([*own, again])
    assert mean_of(tables)["ratio"] == mean_of(side_by_side(own))["ratio"]
    reasons = dict(zip(tables.ratios["campaign"], tables.ratios["left_out"], strict=True))
    assert reasons["a-again"] == "its machine cannot be told from that of c1"
    more = dataclasses.replace(again, ratios=again.ratios.assign(n_blocks=9))
    reasons = side_by_side([*own, more]).ratios.set_index("campaign")["left_out"]
    assert set(reasons["c1"]) == {"its machine cannot be told from that of a-again"}


def test_a_mix_of_machines_and_blocks_without_spread_are_left_out(committed):
    mixed = dataclasses.replace(variant(committed, "mixed"), machines=2)
    equal = variant(committed, "equal", sd_log_ratio=0.0)
    reasons = side_by_side([mixed, equal]).ratios.set_index("campaign")["left_out"]
    assert "states of a machine" in reasons["mixed"].iloc[0]
    assert "its weight is not known" in reasons["equal"].iloc[0]


def test_the_commonest_protocol_is_the_first():
    assert numbered([{"a": "1"}, {"a": "2"}, {"a": "2"}, {"a": "1"}, {"a": "2"}]) == [2, 1, 1, 2, 1]
    assert differing([{"a": "1", "b": "x"}, {"a": "1"}]) == {"b": ["x", "not stated"]}


def made(study, arm, **changes):
    record = make_record(Run("parrot-1m", arm, "task", 1), 1, 8, study)
    return msgspec.structs.replace(on_machine(record, "any"), **changes)


def protocol(changes=None, config=None):
    study = make_config(["parrot-1m"], ["ollama", "llama_cpp"], ["task"], **(config or {}))
    a, b = made(study, "llama_cpp", **(changes or {})), made(study, "ollama")
    return protocol_of(a, b, study)


def test_auto_threads_are_one_protocol_on_machines_of_any_size():
    asked = {"settings": {"context_length": 2048, "threads": 4, "max_tokens": 256}}
    four = make_config(["parrot-1m"], ["ollama", "llama_cpp"], ["task"], **asked)
    settings = made(four, "ollama").settings
    auto = msgspec.structs.replace(
        four, settings=msgspec.structs.replace(four.settings, threads="auto")
    )
    pairs = []
    for threads in (4, 7):
        held = dataclasses.replace(settings, threads=threads)
        pairs.append([made(four, runtime, settings=held) for runtime in ("llama_cpp", "ollama")])
    assert protocol_of(*pairs[0], auto) == protocol_of(*pairs[1], auto)
    told = differing([protocol_of(*pairs[0], auto), protocol_of(*pairs[0], four)])
    assert told == {"setting threads": ["auto", "4"]}


@pytest.mark.parametrize(
    ("part", "changes", "config"),
    [
        ("record", {"schema": 2}, {}),
        ("prompts", {"protocol": "chat"}, {}),
        ("settle.seconds", {}, {"settle": {"seconds": 10}}),
        ("windows.rest_s", {}, {"windows": {"rest_s": 5}}),
        (
            *("option library of ollama", {}),
            {"runtime_options": {"ollama": {"version": "1.2.3", "library": "cuda", "binary": ""}}},
        ),
        ("limits.foreign_cpu", {}, {"limits": {"foreign_cpu": 0.5}}),
    ],
)
def test_each_part_of_a_protocol_is_told(part, changes, config):
    assert list(differing([protocol(), protocol(changes, config)])) == [part]


def test_versions_and_origin_of_a_runtime_are_its_protocol_and_a_build_is_not():
    def with_facts(**facts):
        study = make_config(["parrot-1m"], ["ollama", "llama_cpp"], ["task"])
        runtime = made(study, "ollama").runtime
        told = msgspec.structs.replace(runtime, facts={"version": "1.2.3", **facts})
        return protocol_of(made(study, "llama_cpp"), made(study, "ollama", runtime=told), study)

    assert with_facts(binary_sha256="0" * 64) == with_facts(binary_sha256="1" * 64)
    for facts in ({"version": "1.2.4"}, {"llama_cpp_commit": "abc"}, {"from": "official"}):
        assert list(differing([with_facts(), with_facts(**facts)])) == ["runtime of ollama"]


def test_how_long_a_busy_machine_is_waited_for_is_no_protocol():
    assert protocol() == protocol(config={"limits": {"wait_s": 5}})


def test_the_figure_holds_hundreds_of_campaigns(committed, tmp_path: Path):
    own = [variant(committed, f"c{n}", scale=1 + n / 1000) for n in range(250)]
    figure = draw_side_by_side(side_by_side(own))
    assert figure.get_figheight() < 0.25 * MOST_LINES
    [axes] = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert sum("parrot-" in text for text in texts) == 2, "both contrasts have a heading"
    marked = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(marked) == 500, "every ratio is drawn"
