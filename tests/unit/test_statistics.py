"""Block-level statistics against direct library calls, published examples and simulation."""

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired
from synthetic_tables import runs_of, study_tables

from joules.analyse.comparison import compare, compare_pair
from joules.analyse.paired_tests import paired_tests
from joules.analyse.pairs import control_blocks, paired_blocks
from joules.analyse.power import LEAST_BLOCKS, smallest_p
from joules.analyse.verdicts import holm, verdict, verdicts
from joules.core.errors import UserError

# Differences in height of 15 pairs of maize plants, crossed less self-fertilised, in eighths of an
# inch (Darwin 1876), with which Fisher introduced this test (The Design of Experiments, 1935, 21).
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])


def test_sign_flips_of_fishers_maize_example_give_the_published_p():
    found = compare_pair(np.exp(DARWIN / 1000), np.ones(15))
    assert found["p_value"] == pytest.approx(1726 / 32768)  # Fisher counts 863 in each tail


def test_the_interval_of_fishers_maize_example_is_the_published_t_interval():
    found = compare_pair(np.exp(DARWIN / 1000), np.ones(15))
    published = [math.exp(value / 1000) for value in (20.933, 0.03120, 41.83547)]
    assert [found[name] for name in ("ratio", "ratio_low", "ratio_high")] == pytest.approx(
        published, rel=1e-6
    )


def test_five_blocks_that_all_agree_give_the_smallest_possible_p():
    found = compare_pair([1.1, 1.2, 1.3, 1.25, 1.15], [1.0, 1.0, 1.0, 1.0, 1.0])
    assert found["p_value"] == pytest.approx(0.0625) == smallest_p(5)


def test_six_blocks_are_the_fewest_that_can_show_a_difference():
    assert LEAST_BLOCKS == 6
    assert smallest_p(6) < 0.05 < smallest_p(5)


def test_holm_gives_the_adjusted_values_worked_by_hand():
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04, which may not be below its predecessor.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_is_not_the_default_method_of_the_library():
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert holm(p_values) != pytest.approx(list(multipletests(p_values)[1]))


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_holm_is_that_of_the_library(count):
    rng = np.random.default_rng(count)
    p_values = np.round(rng.uniform(0, 0.2, count), 2)  # with ties, with 0
    adjusted = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(adjusted), abs=1e-15)


def test_a_test_that_could_not_be_made_is_no_member_of_the_family():
    assert holm([0.02, None, math.nan, 0.04]) == [0.04, None, None, 0.04]
    assert holm([None]) == [None]


WORDS = [
    ((0.01, 0.01, 0.9), "more than 5 % apart"),
    ((0.9, 0.01, 0.9), "more than 5 % apart"),
    ((0.01, 0.9, 0.01), "apart, by less than 5 %"),
    ((0.01, 0.9, 0.9), "apart, by how much is open"),
    ((0.01, 0.05, 0.05), "apart, by how much is open"),
    ((0.9, 0.9, 0.01), "equal within 5 %"),
    ((0.05, 0.05, 0.05), "open"),
    ((None, None, None), "open"),
    ((0.01, None, None), "apart, by how much is open"),
    ((None, None, 0.01), "equal within 5 %"),
]


@pytest.mark.parametrize(("p_values", "word"), WORDS)
def test_a_verdict_follows_from_the_three_tests(p_values, word):
    assert verdict(*p_values) == word


def test_verdicts_of_many_studies_are_those_of_each():
    columns = np.array([p_values for p_values, _ in WORDS], dtype=float).T
    assert verdicts(*columns).tolist() == [word for _, word in WORDS]


@pytest.mark.parametrize("blocks", [2, 3, 6, 10, 16, 17, 40])
def test_the_tests_of_many_studies_are_those_of_the_libraries(blocks):
    d = np.random.default_rng(blocks).normal(0.02, 0.03, (4, blocks))
    found = paired_tests(d)
    for place, own in enumerate(d):
        flips = stats.permutation_test(
            (own,),
            lambda values, axis: np.mean(values, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=99_999,
            rng=np.random.default_rng(0),
        ).pvalue
        tost = pingouin.tost(own, np.zeros(blocks), bound=math.log(1.05), paired=True)
        assert found.p_difference[place] == pytest.approx(flips, abs=1e-12)
        assert found.p_equivalence[place] == pytest.approx(tost["pval"].iloc[0], abs=1e-12)
        side = 1 if own.mean() > 0 else -1
        one_sided = stats.ttest_1samp(side * own, math.log(1.05), alternative="greater").pvalue
        assert found.p_size[place] == pytest.approx(min(1, 2 * one_sided), abs=1e-12)
        for tests in (1, 6):
            interval = stats.ttest_1samp(own, 0).confidence_interval(1 - 0.05 / tests)
            ends = [end[place] for end in found.interval(tests)]
            assert ends == pytest.approx([interval.low, interval.high], abs=1e-12)


def test_the_size_is_shown_exactly_where_the_interval_lies_outside_the_margin():
    rng = np.random.default_rng(8)
    d = rng.normal(rng.uniform(-0.12, 0.12, (2_000, 1)), 0.02, (2_000, 8))
    found = paired_tests(d)
    low, high = found.interval()
    outside = (low > math.log(1.05)) | (high < -math.log(1.05))
    assert 200 < outside.sum() < 1_800
    assert ((found.p_size < 0.05) == outside).all()


def test_flips_that_add_up_to_the_same_sum_count_as_equal_whatever_their_order():
    d = np.array([0.1, 0.2, 0.3, -0.3, 0.7, -0.2])  # many flips give the sum that is seen
    flips = np.array(list(itertools.product((1, -1), repeat=6)))
    sums = np.abs(flips @ np.rint(d * 10).astype(int))
    assert float(paired_tests(d).p_difference) == np.mean(sums >= 8)


def test_all_figures_of_a_pair_equal_those_of_the_libraries():
    rng = np.random.default_rng(3)
    a, b = np.exp(rng.normal(0, 0.02, 10)), np.exp(rng.normal(0.01, 0.02, 10))
    found, d = compare_pair(a, b), np.log(a) - np.log(b)
    tost = ttost_paired(a, b, 1 / 1.05, 1.05, transform=np.log)[0]
    assert found["p_equivalence"] == pytest.approx(tost)
    assert found["p_shapiro"] == pytest.approx(stats.shapiro(d).pvalue)
    assert found["p_welch"] == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert found["p_mannwhitney"] == pytest.approx(stats.mannwhitneyu(a, b).pvalue)
    assert found["p_wilcoxon"] == pytest.approx(stats.wilcoxon(a, b).pvalue)
    pooled = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    hedges = (a.mean() - b.mean()) / pooled * (1 - 3 / (4 * 20 - 9))
    assert found["hedges_g"] == pytest.approx(hedges)
    wins = sum(np.sign(x - y) for x in a for y in b)
    assert found["cliffs_delta"] == pytest.approx(wins / 100)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 4])
def test_few_blocks_give_what_they_can_and_no_crash(blocks):
    a, b = [1.0, 1.1, 1.05, 1.02][:blocks], [1.2, 1.25, 1.3, 1.21][:blocks]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_pair(a, b)
    assert found["n_blocks"] == blocks
    assert (found["ratio"] is None) == (blocks == 0)
    tests = [found[name] for name in ("p_value", "p_size", "p_equivalence")]
    assert (tests == [None] * 3) == (blocks < 2)
    assert (found["p_shapiro"] is None) == (blocks < 3)
    assert found["minimum_ratio"] is None


@pytest.mark.parametrize(("ratio", "p_size", "p_equivalence"), [(1.01, 1, 0), (1.2, 0, 1)])
def test_pairs_without_any_spread_have_the_limit_of_the_tests(ratio, p_size, p_equivalence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_pair([ratio] * 4, [1.0] * 4)
    assert found["ratio_low"] == pytest.approx(found["ratio_high"])
    assert found["simultaneous_low"] == pytest.approx(ratio)
    assert (found["p_size"], found["p_equivalence"]) == (p_size, p_equivalence)
    assert (found["p_shapiro"], found["sd_log_ratio"], found["minimum_ratio"]) == (None, 0, None)


def test_a_block_of_two_sessions_is_listed_and_not_paired():
    runs = runs_of({("a", "task"): [1, 2, 3], ("b", "task"): [1, 2, 3]})
    runs.loc[(runs["runtime"] == "b") & (runs["block"] == 2), "session"] = "later"
    pairs = paired_blocks(runs, "m", "a", "b")
    assert (pairs.blocks, pairs.split, pairs.invalid) == ([1, 3], [2], [])


def test_an_invalid_or_missing_run_takes_its_block_out():
    runs = runs_of({("a", "task"): [1, 2, 3], ("b", "task"): [1, 2, 3, 4]})
    runs.loc[(runs["runtime"] == "a") & (runs["block"] == 1), "valid"] = False
    pairs = paired_blocks(runs, "m", "a", "b")
    assert (pairs.blocks, pairs.split, pairs.invalid) == ([2, 3], [], [1, 4])
    assert pairs.a.tolist() == pairs.b.tolist() == [2, 3]


def test_a_runtime_added_days_later_is_compared_with_nothing():
    runs = runs_of({("a", "task"): [1, 2, 3], ("b", "task"): [1, 2, 3]})
    runs.loc[runs["runtime"] == "b", "session"] = "later"
    row = compare(runs).iloc[0]
    assert (row["n_blocks"], row["verdict"], row["split_blocks"]) == (0, "no claim", "1;2;3")
    assert "one session" in row["no_claim_reason"]


def test_a_run_without_energy_is_refused_by_name():
    runs = runs_of({("a", "task"): [1, 0.0], ("b", "task"): [1, 2]})
    with pytest.raises(UserError, match="m/a/task/2"):
        compare(runs)


def test_pairs_and_controls_are_separate_families():
    base = np.array([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01])
    wiggle = np.array([1.002, 0.999, 1.001, 0.998, 1.003, 0.997, 1.0, 1.001])
    values = {("a", "task"): base, ("b", "task"): base * 1.2 * wiggle}
    values |= {("c", "task"): base * 1.3 * wiggle, ("a", "control"): base * wiggle[::-1]}
    found = compare(runs_of(values))
    task, control = found[found["kind"] == "task"], found[found["kind"] == "control"]
    assert len(task) == 3 and len(control) == 1
    assert control["p_holm"].tolist() == control["p_value"].tolist()
    assert task["p_holm"].tolist() == pytest.approx([3 * smallest_p(8)] * 3)
    assert (task["p_friedman"] < 0.01).all()


ARMS = ("a", "b", "c")


def study_of_three(blocks=12, control=None, seed=5):
    """Return runs of three runtimes: b needs 20 % more than a, c 1 % more than b."""
    rng = np.random.default_rng(seed)
    values = {
        (arm, "task"): level * np.exp(rng.normal(0, 0.005, blocks))
        for arm, level in zip(ARMS, (1.0, 1.2, 1.212), strict=True)
    }
    runs = runs_of(values | ({("a", "control"): control} if control is not None else {}))
    return runs.assign(runtime_label=runs["runtime"], validity_codes="")


def turning_controls(runs, factor=1.0, seed=6):
    """Return second runs of the three runtimes in turn, `factor` times as much as the first."""
    rng = np.random.default_rng(seed)
    task = runs[runs["kind"] == "task"].set_index(["runtime", "block"])
    rows = [
        task.loc[(ARMS[block % 3], block)].to_dict()
        | {"runtime": ARMS[block % 3], "block": block, "kind": "control"}
        for block in sorted(set(runs["block"]))
    ]
    frame = pd.DataFrame(rows)
    frame["energy_j_per_token"] *= factor * np.exp(rng.normal(0, 0.005, len(frame)))
    return pd.concat([runs, frame], ignore_index=True)


def test_contrasts_are_a_family_of_their_own_and_all_pairs_are_primary_without_them():
    runs = turning_controls(study_of_three())
    found = compare(runs, ARMS, contrasts=[("b", "a")]).set_index(["runtime_a", "runtime_b"])
    assert found.loc[("a", "b"), "family"] == "primary"
    assert found.loc[("a", "c"), "family"] == found.loc[("b", "c"), "family"] == "secondary"
    assert found.loc[("a", "b"), "p_holm"] == found.loc[("a", "b"), "p_value"]
    assert found.loc[("a", "c"), "p_holm"] == 2 * found.loc[("a", "c"), "p_value"]
    width = {
        pair: math.log(row["simultaneous_high"] / row["simultaneous_low"])
        / math.log(row["ratio_high"] / row["ratio_low"])
        for pair, row in found.iterrows()
    }
    assert width["a", "b"] == pytest.approx(1)
    wider = stats.t.isf(0.0125, 11) / stats.t.isf(0.025, 11)
    assert [width["a", "c"], width["b", "c"]] == pytest.approx([wider] * 2)
    for contrasts in (None, []):
        again = compare(runs, ARMS, contrasts=contrasts)
        assert set(again.loc[again["kind"] == "task", "family"]) == {"primary"}


def test_each_of_the_three_tests_is_corrected_by_itself():
    found = compare(turning_controls(study_of_three()), ARMS)
    task = found[found["kind"] == "task"]
    for name, corrected in (
        ("p_value", "p_holm"),
        ("p_size", "p_size_holm"),
        ("p_equivalence", "p_equivalence_holm"),
    ):
        assert task[corrected].tolist() == pytest.approx(
            list(multipletests(task[name], method="holm")[1])
        )
    words = dict(zip(task["runtime_a"] + task["runtime_b"], task["verdict"], strict=True))
    assert words["ab"] == words["ac"] == "more than 5 % apart"
    assert words["bc"] in ("apart, by less than 5 %", "equal within 5 %")


def test_a_control_that_turns_is_one_row_of_differences_within_each_runtime():
    runs = turning_controls(study_of_three())
    row = compare(runs, ARMS).set_index("kind").loc["control"]
    wide = runs.pivot(index="block", columns=["kind", "runtime"], values="energy_j_per_token")
    d = [
        math.log(wide.loc[k, ("task", ARMS[k % 3])] / wide.loc[k, ("control", ARMS[k % 3])])
        for k in range(1, 13)
    ]
    assert (row["runtime_a"], row["runtime_b"], row["n_blocks"]) == ("all", "all", 12)
    assert row["ratio"] == pytest.approx(math.exp(np.mean(d)))
    assert control_blocks(runs, "m").runtimes == [ARMS[k % 3] for k in range(1, 13)]
    assert (bool(row["claimable"]), row["verdict"]) == (True, "equal within 5 %")


def test_a_control_of_one_runtime_is_named_after_it_and_a_missing_one_is_listed():
    runs = study_of_three(control=[1.0] * 12)
    runs = runs[~((runs["kind"] == "control") & (runs["block"] == 4))]
    row = compare(runs, ARMS).set_index("kind").loc["control"]
    assert (row["runtime_a"], row["runtime_b"], row["invalid_blocks"]) == ("a", "a", "4")


def test_a_control_of_another_session_than_its_runtime_is_no_pair():
    runs = turning_controls(study_of_three())
    runs.loc[(runs["kind"] == "control") & (runs["block"] == 2), "session"] = "later"
    assert compare(runs, ARMS).set_index("kind").loc["control", "split_blocks"] == "2"


def simulated(rng, blocks, order, cv=0.02, effect=0.0, trend=0.03):
    """Return J/token of runtimes a and b; places in the order are drawn per block or given."""
    steps = np.linspace(0, trend, 2 * blocks)
    if order == "blocks":
        first = rng.integers(0, 2, blocks)
        places = np.stack([2 * np.arange(blocks) + first, 2 * np.arange(blocks) + 1 - first])
    else:
        places = np.arange(2 * blocks).reshape(2, blocks)
    noise = rng.normal(0, cv, (2, blocks))
    return np.exp(noise[0] + steps[places[0]] + effect), np.exp(noise[1] + steps[places[1]])


def share_of_differences(studies, order, **options):
    rng = np.random.default_rng(20261125)
    found = 0
    for _ in range(studies):
        a, b = simulated(rng, 10, order, **options)
        pairs = paired_blocks(runs_of({("a", "task"): a, ("b", "task"): b}), "m", "a", "b")
        found += compare_pair(pairs.a, pairs.b)["p_value"] < 0.05
    return found / studies


def test_randomised_blocks_keep_false_positives_down_under_drift():
    assert share_of_differences(200, "blocks") <= 0.07


def test_one_runtime_after_the_other_finds_differences_that_are_not_there():
    assert share_of_differences(40, "one after the other", cv=0.01) > 0.5


def test_an_injected_difference_of_five_percent_is_found():
    assert share_of_differences(40, "blocks", effect=math.log(1.05)) >= 0.9


def test_a_true_ratio_is_recovered_from_record_files(tmp_path):
    _, tables = study_tables(tmp_path, blocks=8, ratios={"llama_cpp": 1.2}, seed=5)
    found = compare(tables.runs, ["ollama", "llama_cpp"])
    for _, row in found[found["kind"] == "task"].iterrows():
        assert row["verdict"] == "more than 5 % apart"
        assert row["ratio"] == pytest.approx(1 / 1.2, rel=0.03)
        assert row["minimum_ratio"] < 1.05
