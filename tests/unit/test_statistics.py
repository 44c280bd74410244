"""Block-level statistics against direct library calls, published examples and simulation."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from joules.answers import contested, first_difference, quality, rule_counts, verdict_counts
from joules.descriptives import cells, drift, wilson
from joules.errors import UserError
from joules.phases import break_even, phases
from joules.ranking import ranking
from joules.schedule import Run
from joules.sensitivity import bca_bootstrap, mixed_model, sensitivity
from joules.statistics import (
    LEAST_BLOCKS,
    compare,
    compare_pair,
    holm,
    paired_blocks,
    power_facts,
    smallest_p,
    verdict,
)
from joules.tables import tabulate

# Differences in height of 15 pairs of maize plants, crossed less self-fertilised, in eighths of an
# inch (Darwin 1876), with which Fisher introduced this test (The Design of Experiments, 1935, 21).
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])


def study_tables(folder, **options):
    study = synthetic.write_study(folder, validate=False, **options)
    return study, tabulate(study.records, study.grades, study.agreements, study.config)


def runs_of(values, model="m", session="s"):
    """Return a table of runs from {(runtime, kind): J/token per block}."""
    rows = [
        {
            "model": model,
            "runtime": runtime,
            "kind": kind,
            "block": block,
            "valid": True,
            "session": session,
            "tier": "measured",
            "energy_j_per_token": float(value),
        }
        for (runtime, kind), series in values.items()
        for block, value in enumerate(series, start=1)
    ]
    return pd.DataFrame(rows)


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


# --- cells, answers, phases, drift ---


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_that_of_newcombes_table(passed, total, low, high):
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
    assert wilson(passed, total) == pytest.approx((low, high), abs=5e-5)


def test_a_cell_is_the_mean_of_its_valid_runs(tmp_path):
    bad = Run("parrot-1m", "ollama", "task", 2)
    _, tables = study_tables(tmp_path, invalid=[bad])
    runs = tables.runs
    chosen = runs[(runs["model"] == "parrot-1m") & (runs["runtime"] == "ollama")]
    values = chosen.loc[(chosen["kind"] == "task") & chosen["valid"], "energy_j_per_token"]
    table = cells(runs).set_index(["model", "runtime", "kind"])
    cell = table.loc[("parrot-1m", "ollama", "task")]
    assert (cell["runs"], cell["n"]) == (5, 4)
    assert cell["mean_energy_j_per_token"] == pytest.approx(values.mean())
    half = stats.t.ppf(0.975, 3) * values.std() / 2
    assert cell["high_energy_j_per_token"] == pytest.approx(values.mean() + half)
    assert cell["energy_j_per_correct"] == pytest.approx(
        cell["mean_energy_j_per_task"] / cell["pass_at_1"]
    )


def test_pass_at_1_comes_from_the_quality_run_where_there_is_one(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task", "quality"), blocks=2)
    assert set(cells(tables.runs)["graded"]) == {164}
    answers = quality(tables.tasks, tables.runs)
    assert set(answers["kind"]) == {"quality"}
    columns = ["both_pass", "only_a", "only_b", "neither"]
    assert set(answers[columns].sum(axis=1)) == {164}


def test_mcnemars_test_is_the_exact_binomial_one(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), blocks=1, problems=164)
    for _, row in quality(tables.tasks, tables.runs).iterrows():
        flips = int(row["only_a"] + row["only_b"])
        fewer = int(min(row["only_a"], row["only_b"]))
        tail = sum(math.comb(flips, k) for k in range(fewer + 1)) / 2**flips
        assert row["p_mcnemar"] == pytest.approx(min(1.0, 2 * tail))
        assert flips == row["flips"] > 0


def test_the_regression_finds_what_a_token_costs(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), problems=164, blocks=3)
    for _, row in phases(tables.tasks, tables.runs).iterrows():
        assert row["decode_j_per_token"] == pytest.approx(synthetic.DECODE_J_PER_TOKEN, rel=0.05)
        assert row["prefill_j_per_token"] == pytest.approx(synthetic.PREFILL_J_PER_TOKEN, rel=0.2)
        assert row["decode_low"] < row["decode_j_per_token"] < row["decode_high"]
        assert (row["tasks"], row["runs"]) == (492, 3)


def test_answers_of_one_length_leave_the_phases_unknown(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), blocks=2)
    row = phases(tables.tasks.assign(generated_tokens=100), tables.runs).iloc[0]
    assert math.isnan(row["decode_j_per_token"]) and row["tasks"] == 20


def test_drift_that_was_put_in_is_seen(tmp_path):
    _, tables = study_tables(tmp_path / "drift", blocks=8, drift=0.10, noise_cv=0.002)
    found = drift(tables.runs)
    row = found[(found["model"] == "all") & (found["quantity"] == "energy_j_per_token")].iloc[0]
    assert row["p_kendall"] < 1e-6
    assert row["slope_per_run"] == pytest.approx(0.10 / 47, rel=0.1)
    assert row["durbin_watson"] < 1
    _, calm = study_tables(tmp_path / "calm", blocks=8, noise_cv=0.002)
    assert drift(calm.runs).iloc[0]["p_kendall"] > 0.05


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_all_tables_can_be_made_of_few_blocks(tmp_path, blocks):
    _, tables = study_tables(tmp_path, blocks=blocks, kinds=("task", "control", "fixed"))
    assert len(compare(tables.runs)) == 6
    assert len(cells(tables.runs)) == 10
    assert len(phases(tables.tasks, tables.runs)) == 4
    assert len(drift(tables.runs)) == 2 * 11


def test_texts_are_compared_over_all_answers_with_the_first_token_that_differs(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), blocks=2, problems=164)
    for _, row in quality(tables.tasks, tables.runs).iterrows():
        assert (row["compared_prompts"], row["differing_answers"]) == (164, 17)
        assert row["same_text_share"] == pytest.approx(147 / 164)
        assert row["first_difference_token"] == 2


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        ([1, 2, 3], [1, 2, 4], 2),
        ([1, 2], [1, 2, 3], 2),
        ([1], [2], 0),
        ([1, 2], [1, 2], None),
        ([], [5], 0),
        (None, [1], None),
    ],
)
def test_the_first_difference_is_found(one, other, place):
    assert first_difference(one, other) == place


def test_answers_without_tokens_have_no_place_of_difference(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), blocks=1)
    row = quality(tables.tasks.assign(retokenised_ids=None), tables.runs).iloc[0]
    assert row["differing_answers"] == 1 and math.isnan(row["first_difference_token"])


def test_verdicts_and_rules_are_counted_over_one_run_of_each_cell(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task", "quality"), blocks=3)
    counts = verdict_counts(tables.tasks, tables.runs)
    assert set(counts.groupby(["model", "runtime"])["count"].sum()) == {164}
    passed = cells(tables.runs).query("kind == 'task'").set_index(["model", "runtime"])["passed"]
    own = counts[counts["label"] == "passed"].set_index(["model", "runtime"])["count"]
    assert own.sort_index().tolist() == passed.sort_index().tolist()
    assert rule_counts(tables.tasks, tables.runs)["count"].tolist() == [164] * 4


def test_scores_without_the_contested_problems_leave_just_these_out(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), blocks=1, problems=164)
    odd = ["HumanEval/32", "HumanEval/47", "HumanEval/999"]
    row = contested(tables.tasks, tables.runs, odd).iloc[0]
    assert (row["graded"], row["graded_without"]) == (164, 162)
    own = tables.tasks[
        (tables.tasks["model"] == row["model"]) & (tables.tasks["runtime"] == row["runtime"])
    ]
    kept = own[~own["task_id"].isin(odd)]
    assert row["passed_without"] == (kept["verdict"] == "passed").sum()
    assert (row["low_without"], row["high_without"]) == wilson(int(row["passed_without"]), 162)


def test_the_direct_split_finds_what_was_put_in(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), problems=164, blocks=3)
    for _, row in phases(tables.tasks, tables.runs).iterrows():
        assert row["direct_tasks"] == 492
        assert row["direct_prefill_j_per_token"] == pytest.approx(0.02, rel=0.05)
        assert row["direct_decode_j_per_token"] == pytest.approx(0.10, rel=0.05)
        assert row["residency_power_w"] == pytest.approx(0.5)
    without = phases(tables.tasks.assign(prefill_energy_j=None), tables.runs).iloc[0]
    assert without["direct_tasks"] == 0 and math.isnan(without["direct_prefill_j_per_token"])


@pytest.mark.parametrize(
    ("loads", "tasks", "crossing", "words"),
    [
        ((10, 30), (3, 2), 20, "a needs less below, b above."),
        ((30, 10), (2, 3), 20, "b needs less below, a above."),
        ((10, 30), (2, 3), None, "a needs less for any number of tasks."),
        ((30, 10), (3, 2), None, "b needs less for any number of tasks."),
        ((10, 10), (3, 2), None, "b needs less for any number of tasks."),
        ((10, 10), (2, 2), None, "Both need the same."),
        ((math.nan, 10), (2, 2), None, "The load or the task energy of one runtime is not known."),
    ],
)
def test_the_break_even_is_where_the_total_energies_meet(loads, tasks, crossing, words):
    table = pd.DataFrame(
        {
            "model": "m",
            "runtime": ["a", "b"],
            "kind": "task",
            "mean_load_energy_j": loads,
            "mean_energy_j_per_task": tasks,
        }
    )
    row = break_even(table, ["a", "b"]).iloc[0]
    assert row["note"] == words
    if crossing is None:
        assert pd.isna(row["break_even_tasks"])
    else:
        n = row["break_even_tasks"]
        assert loads[0] + n * tasks[0] == pytest.approx(loads[1] + n * tasks[1])
        assert n == crossing


WIGGLE = np.array([1.002, 0.999, 1.001, 0.998, 1.003, 0.997, 1.0, 1.001])


def test_runtimes_that_are_not_told_apart_share_a_rank():
    values = {("a", "task"): WIGGLE[::-1] * 1.001, ("b", "task"): WIGGLE}
    values |= {("c", "task"): 1.2 * WIGGLE[[1, 0, 3, 2, 5, 4, 7, 6]], ("d", "task"): 1.5 * WIGGLE}
    runs = runs_of(values).assign(runtime_label=lambda frame: frame["runtime"].str.upper())
    table = ranking(runs, compare(runs)).set_index("runtime")
    assert table.loc[["a", "b", "c", "d"], "rank"].tolist() == [1, 1, 3, 4]
    assert (table.loc["a", "tied_with"], table.loc["c", "tied_with"]) == ("B", "")
    assert table.loc["c", "ratio_to_best"] == pytest.approx(1.2)
    assert table.loc["c", "low"] < 1.2 < table.loc["c", "high"]


def test_fixed_runs_are_a_family_of_their_own_and_quality_runs_are_in_none():
    values = {("a", "task"): WIGGLE, ("b", "task"): 1.2 * WIGGLE[::-1]}
    values |= {("a", "fixed"): WIGGLE, ("b", "fixed"): 1.3 * WIGGLE[::-1]}
    values |= {("a", "quality"): [1.0], ("b", "quality"): [9.0]}
    found = compare(runs_of(values)).set_index("kind")
    assert sorted(found.index) == ["fixed", "task"]
    assert found["p_holm"].tolist() == found["p_value"].tolist()
    assert found.loc["fixed", "ratio"] == pytest.approx(1 / 1.3)


def test_the_bootstrap_interval_is_scipys_and_begins_at_twenty_blocks():
    rng = np.random.default_rng(5)
    a, b = np.exp(rng.normal(0.03, 0.02, 20)), np.exp(rng.normal(0, 0.02, 20))
    found = bca_bootstrap(a, b)

    def ratio(x, y, axis=-1):
        return x.mean(axis=axis) / y.mean(axis=axis)

    direct = stats.bootstrap(
        (a, b), ratio, paired=True, method="BCa", n_resamples=9_999, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((direct.low, direct.high), rel=1e-3)
    assert found["low"] < found["ratio"] < found["high"]
    assert set(bca_bootstrap(a[:19], b[:19])) == {"note"}


def answers_of(effect=0.05, blocks=6, tasks=12, noise=0.03, seed=2):
    rng = np.random.default_rng(seed)
    of_task, of_block = rng.normal(0, 0.5, tasks), rng.normal(0, 0.02, blocks)
    rows = []
    for block in range(blocks):
        for runtime, shift in (("a", effect), ("b", 0.0)):
            of_run = rng.normal(0, 0.01) + of_block[block] + shift
            for task in range(tasks):
                y = of_run + of_task[task] + rng.normal(0, noise)
                rows.append((runtime, block + 1, f"HumanEval/{task}", math.exp(y) * 50, 50))
    names = ["runtime", "block", "task_id", "energy_j", "generated_tokens"]
    return pd.DataFrame(rows, columns=names)


def test_the_mixed_model_gives_the_paired_estimate_with_an_honest_error():
    answers = answers_of()
    found = mixed_model(answers, "a", "b")
    logs = np.log(answers["energy_j"] / answers["generated_tokens"])
    of_run = logs.groupby([answers["block"], answers["runtime"]]).mean().unstack()
    d = (of_run["a"] - of_run["b"]).to_numpy()
    assert found["ratio"] == pytest.approx(math.exp(d.mean()), rel=1e-4)
    error = math.log(found["high"] / found["low"]) / 2 / 1.96
    assert error == pytest.approx(d.std(ddof=1) / math.sqrt(len(d)), rel=0.5)
    assert (found["n"], found["p"] < 0.05) == (144, True)


def test_a_mixed_model_that_has_nothing_to_fit_says_so():
    assert "two blocks" in mixed_model(answers_of(blocks=1), "a", "b")["note"]
    assert "no single answers" in mixed_model(answers_of().iloc[:0], "a", "b")["note"]


def test_every_method_has_a_row_and_every_gap_a_reason(tmp_path):
    flagged = Run("parrot-1m", "ollama", "task", 2)
    _, tables = study_tables(tmp_path, models=("parrot-1m",), blocks=12, ratios={"llama_cpp": 1.2})
    runs = tables.runs
    odd = (runs["runtime"] == "ollama") & (runs["block"] == flagged.repetition)
    runs.loc[odd & (runs["kind"] == "task"), "validity_codes"] = "steal"
    comparisons = compare(runs, ["ollama", "llama_cpp"])
    table = sensitivity(tables.tasks, runs, comparisons).set_index("method")
    assert table.index.tolist() == [
        *("sign_flip", "bca_bootstrap", "welch", "mannwhitney", "wilcoxon", "without_flagged"),
        *("without_outliers", "net_energy", "mixed_model"),
    ]
    task = comparisons[comparisons["kind"] == "task"].iloc[0]
    assert table.loc["sign_flip", "p"] == task["p_value"]
    assert table.loc["welch", "p"] == task["p_welch"]
    assert (table.loc["without_flagged", "n"], table.loc["without_outliers", "n"]) == (11, 12)
    # Net energy is dearer by more than gross energy: the idle power is in both runtimes' gross.
    assert table.loc["net_energy", "ratio"] != table.loc["sign_flip", "ratio"]
    assert table["note"].str.len().min() > 0
    assert pd.isna(table.loc["bca_bootstrap", "ratio"])


def test_mixed_models_of_a_large_study_are_left_out_with_the_reason(tmp_path):
    _, tables = study_tables(tmp_path, models=("parrot-1m",), blocks=2)
    runs = tables.runs.assign(tasks=20_000)
    table = sensitivity(tables.tasks, runs, compare(runs)).set_index("method")
    assert "80,000 answers" in table.loc["mixed_model", "note"]
