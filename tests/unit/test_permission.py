"""What may be claimed: controls that find a difference, runs that broke a rule, too few blocks."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_tables import runs_of

from joules.analyse.comparison import compare
from joules.analyse.pairs import paired_blocks
from joules.analyse.permission import permission

# Per block: a task run over the second run of the same runtime. The first has a mean near 0, and
# both signs; the second is above 0 in every block, by 0.2 % on average.
FAIR = np.array([1.004, 0.997, 1.001, 0.998, 1.003, 0.996, 1.002, 0.999, 1.0, 1.001])
UNFAIR = 1.0 + np.array([1, 2, 3, 1, 2, 3, 1, 2, 3, 2]) / 1000
NOISE = np.array([1.01, 0.99, 1.005, 0.995, 1.0, 1.002, 0.998, 1.003, 0.997, 1.001])


def study(
    blocks=10, *, ratio=1.2, control=FAIR, controls=None, tier="measured", models=("m",), codes=()
):
    """Return runs of runtimes a and b, b needing `ratio` times as much, and second runs of a."""
    parts = []
    for model in models:
        a = NOISE[:blocks]
        values = {("a", "task"): a, ("b", "task"): ratio * NOISE[::-1][:blocks]}
        if control is not None:
            values["a", "control"] = (a / control[:blocks])[: controls or blocks]
        parts.append(runs_of(values, model=model))
    runs = pd.concat(parts, ignore_index=True).assign(tier=tier, validity_codes="")
    for runtime, kind, block, code in codes:
        chosen = (runs["runtime"] == runtime) & (runs["kind"] == kind) & (runs["block"] == block)
        runs.loc[chosen, "validity_codes"] = code
    return runs


def decided(runs, **options):
    """Return the comparisons of kind task, and the permission."""
    found = compare(runs, ["a", "b"], **options)
    return found[found["kind"] == "task"], permission(found, str(runs["tier"].iloc[0]))


@pytest.mark.parametrize(("tier", "words"), [("measured", "counters"), ("sampled", "readings")])
def test_enough_blocks_and_a_control_that_finds_nothing_permit_a_claim(tier, words):
    task, found = decided(study(tier=tier))
    assert (found.energy_difference, found.smallest_p) == (True, 2 / 2**10)
    assert words in found.reason and found.sentence.startswith("A difference in energy may be")
    assert task["claimable"].tolist() == [True]
    assert task["verdict"].tolist() == ["more than 5 % apart"]
    assert task["no_claim_reason"].tolist() == [""]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tier": "estimated"}, "modelled"),
        ({"tier": "unstated"}, "tier is unstated"),
        ({"control": UNFAIR}, "finds a difference where there is none: ratio 1.002"),
        ({"control": None}, "m has no null control"),
        ({"controls": 2}, "control of m has 2 blocks and the comparison 10"),
        ({"controls": 9}, "control of m has 9 blocks and the comparison 10"),
        ({"blocks": 5}, "5 blocks can show no difference: the smallest possible p is 0.0625"),
        ({"blocks": 1}, "1 block can show no difference"),
        ({"blocks": 6, "models": ("m", "n")}, "Holm's correction over 2 comparisons"),
    ],
)
def test_a_claim_is_refused_with_its_reason_and_its_word_is_nowhere(options, words):
    task, found = decided(study(**options))
    assert found.energy_difference is False
    assert words in found.reason
    assert set(compare(study(**options))["verdict"]) == {"no claim"}  # the control's too
    assert not task["claimable"].any()
    assert task["no_claim_reason"].str.contains(words.split(":")[0], regex=False).all()


def test_sessions_that_split_every_block_say_so():
    runs = study()
    runs.loc[runs["runtime"] == "b", "session"] = "later"
    assert "from one session" in decided(runs)[1].reason


def test_one_runtime_alone_is_no_comparison():
    runs = study()
    assert "no pair" in decided(runs[runs["runtime"] == "a"])[1].reason


def test_a_control_far_from_one_that_finds_nothing_does_not_veto():
    loud = np.array([1.2, 0.9, 1.15, 0.88, 1.3, 0.95, 1.1, 0.93, 1.2, 0.97])  # mean ratio 1.047
    runs = study(control=loud)
    row = compare(runs, ["a", "b"]).set_index("kind").loc["control"]
    assert row["ratio"] > 1.04 and row["p_holm"] > 0.05
    assert decided(runs)[1].energy_difference is True


def test_runs_of_fixed_length_carry_no_claim_where_those_of_tasks_carry_none():
    runs = study()
    fixed = runs[runs["kind"] == "task"].assign(kind="fixed")
    runs = pd.concat([runs, fixed], ignore_index=True)
    assert compare(runs).set_index("kind").loc["fixed", "verdict"] == "more than 5 % apart"
    runs.loc[runs["kind"].eq("task") & runs["runtime"].eq("b"), "validity_codes"] = "cpu_busy"
    found = compare(runs).set_index("kind")
    assert permission(found.reset_index(), "measured").energy_difference is False
    assert set(found["verdict"]) == {"no claim"}
    assert not found.loc["fixed", "claimable"] and found.loc["fixed", "no_claim_reason"]


def test_a_control_that_finds_a_difference_vetoes_every_model():
    parts = [study(models=("m",)), study(models=("n",), control=UNFAIR)]
    runs = pd.concat(parts, ignore_index=True)
    task, found = decided(runs)
    assert not task["claimable"].any() and "null control of n" in found.reason
    control = compare(runs, ["a", "b"]).set_index(["model", "kind"])
    assert control.loc[("n", "control"), "p_holm"] < 0.05 <= control.loc[("m", "control"), "p_holm"]
    assert set(control["verdict"]) == {"no claim"}


def test_holm_over_the_models_keeps_one_control_of_many_from_vetoing_by_chance():
    # All of 6 blocks agree: p = 2/64 = 0.031 alone, 0.062 of two models.
    one = study(6, control=UNFAIR)
    assert "finds a difference" in decided(one)[1].reason
    two = pd.concat([one, study(6, models=("n",))], ignore_index=True)
    assert "finds a difference" not in decided(two)[1].reason


def test_a_missing_control_of_one_model_refuses_that_model_alone():
    runs = pd.concat([study(), study(models=("n",), control=None)], ignore_index=True)
    task, found = decided(runs)
    assert dict(zip(task["model"], task["claimable"], strict=True)) == {"m": True, "n": False}
    assert found.energy_difference is True and "1 of 2 comparisons carry no claim" in found.reason


BROKEN = [("a", "task", block, "cpu_busy") for block in (1, 2, 3)] + [("b", "task", 3, "settle")]


def test_blocks_with_a_flagged_run_are_left_out_where_six_others_remain():
    runs = study(codes=BROKEN)
    pairs = paired_blocks(runs, "m", "a", "b")
    assert (pairs.blocks, pairs.flagged, pairs.clean) == (list(range(4, 11)), [1, 2, 3], 7)
    task, found = decided(runs)
    row = task.iloc[0]
    assert (row["n_blocks"], row["flagged_blocks"], row["invalid_blocks"]) == (7, "1;2;3", "")
    assert row["flagged_codes"] == "cpu_busy 3;settle 1"
    assert row["claimable"] and found.energy_difference


def test_where_fewer_than_six_remain_all_blocks_are_shown_and_none_carries_a_claim():
    codes = [*BROKEN, *(("b", "task", block, "cpu_busy;memory") for block in (4, 5))]
    task, found = decided(study(codes=codes))
    row = task.iloc[0]
    assert (row["n_blocks"], row["flagged_blocks"], row["verdict"]) == (10, "", "no claim")
    assert row["flagged_codes"] == "cpu_busy 5;memory 2;settle 1"
    assert found.energy_difference is False
    assert found.reason == (
        "Only 5 of 10 blocks are without a run that broke a rule (cpu_busy in 5 runs, memory in 2 "
        "runs, settle in 1 run); at least 6 are needed."
    )


def test_the_omnibus_test_leaves_flagged_blocks_out_too():
    arms = {"a": NOISE, "b": NOISE[::-1], "c": 1.02 * FAIR}
    runs = runs_of({(name, "task"): values for name, values in arms.items()})
    runs["validity_codes"] = ["cpu_busy" if block in (2, 5) else "" for block in runs["block"]]
    kept = [block not in (2, 5) for block in range(1, 11)]
    expected = stats.friedmanchisquare(*(values[kept] for values in arms.values())).pvalue
    assert compare(runs)["p_friedman"].tolist() == pytest.approx([expected] * 3)


def test_a_control_of_flagged_runs_permits_nothing():
    codes = [("a", "control", block, "cpu_busy") for block in range(1, 8)]
    task, found = decided(study(codes=codes))
    assert "null control of m rests on runs that broke a rule (cpu_busy in 7 runs)" in found.reason
    assert task["n_blocks"].tolist() == [10]


def test_what_is_only_stated_of_a_run_is_no_ground_to_distrust_it():
    codes = [("a", "task", block, "not_settled") for block in range(1, 11)]
    task, found = decided(study(codes=codes))
    assert (task.iloc[0]["n_blocks"], found.energy_difference) == (10, True)
    assert task.iloc[0]["flagged_codes"] == ""


def test_a_table_without_codes_is_compared_all_the_same():
    assert decided(study().drop(columns="validity_codes"))[1].energy_difference is True


def test_secondary_pairs_are_permitted_by_the_size_of_their_own_family():
    values = {
        (name, "task"): factor * NOISE[:7]
        for name, factor in {"a": 1, "b": 1.2, "c": 1.4, "d": 1.6}.items()
    }
    values["a", "control"] = NOISE[:7] / FAIR[:7]
    found = compare(runs_of(values), list("abcd"), contrasts=[("a", "b")])
    task = found[found["kind"] == "task"].set_index("family")
    # 7 blocks: the smallest p is 0.0156; times 5 secondary pairs it is above 0.05.
    assert task.loc["primary", "claimable"]
    assert not task.loc["secondary", "claimable"].any()
    assert "over 5 comparisons" in task.loc["secondary", "no_claim_reason"].iloc[0]
    said = permission(found, "measured").reason
    assert "5 of 6 comparisons carry no claim (5 of them secondary); each says why." in said
