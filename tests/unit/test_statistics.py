"""Block-level statistics against direct library calls, published examples and simulation."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired
from synthetic_tables import runs_of, study_tables

from joules.analyse.comparison import compare, compare_pair, holm, verdict
from joules.analyse.pairs import paired_blocks
from joules.analyse.power import LEAST_BLOCKS, power_facts, smallest_p
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


def test_a_test_that_could_not_be_made_is_no_member_of_the_family():
    assert holm([0.02, None, math.nan, 0.04]) == [0.04, None, None, 0.04]
    assert holm([None]) == [None]


@pytest.mark.parametrize(
    ("difference", "equivalence", "words"),
    [
        (0.01, 0.5, "different"),
        (0.01, 0.01, "different but within margin"),
        (0.5, 0.01, "equivalent within margin"),
        (0.5, 0.5, "inconclusive"),
        (0.05, 0.05, "inconclusive"),
        (None, None, "inconclusive"),
    ],
)
def test_a_verdict_follows_from_both_tests(difference, equivalence, words):
    assert verdict(difference, equivalence) == words


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


@pytest.mark.parametrize(("spread", "blocks"), [(0.05, 14), (0.08, 31), (0.10, 47), (0.01, 6)])
def test_the_blocks_that_a_margin_needs_are_those_of_a_paired_t_test(spread, blocks):
    assert power_facts(spread, 10)["n_for_margin"] == blocks
    if blocks > LEAST_BLOCKS:
        for n, enough in ((blocks, True), (blocks - 1, False)):
            shift, edge = math.log(1.05) / spread * math.sqrt(n), stats.t.ppf(0.975, n - 1)
            power = stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift)
            assert (power >= 0.9) == enough


def test_the_smallest_detectable_ratio_would_be_found_with_power_90_percent():
    least = power_facts(0.02, 10)["minimum_ratio"]
    shift = math.log(least) / 0.02 * math.sqrt(10)
    edge = stats.t.ppf(0.975, 9)
    power = stats.nct.sf(edge, 9, shift) + stats.nct.cdf(-edge, 9, shift)
    assert power == pytest.approx(0.9, abs=1e-4)
    assert power_facts(0.02, 5)["minimum_ratio"] is None


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 4])
def test_few_blocks_give_what_they_can_and_no_crash(blocks):
    a, b = [1.0, 1.1, 1.05, 1.02][:blocks], [1.2, 1.25, 1.3, 1.21][:blocks]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_pair(a, b)
    assert found["n_blocks"] == blocks
    assert (found["ratio"] is None) == (blocks == 0)
    assert (found["p_value"] is None) == (blocks < 2)
    assert (found["p_shapiro"] is None) == (blocks < 3)
    assert found["minimum_ratio"] is None


def test_pairs_without_any_spread_do_not_crash():
    found = compare_pair([1.01] * 4, [1.0] * 4)
    assert found["ratio_low"] == pytest.approx(found["ratio_high"])
    assert (found["p_equivalence"], found["p_shapiro"]) == (0.0, None)


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
    assert (row["n_blocks"], row["verdict"], row["split_blocks"]) == (0, "inconclusive", "1;2;3")


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
    _, tables = study_tables(tmp_path, blocks=8, ratios={"llama_cpp": 1.2}, seed=4)
    found = compare(tables.runs, ["ollama", "llama_cpp"])
    for _, row in found[found["kind"] == "task"].iterrows():
        assert row["verdict"] == "different"
        assert row["ratio"] == pytest.approx(1 / 1.2, rel=0.03)
        assert row["minimum_ratio"] < 1.05
