"""Cells, answers, phases, break-even and drift against what was put into synthetic records."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats
from synthetic_tables import study_tables

from joules.analyse.cells import cells
from joules.analyse.comparison import compare
from joules.analyse.drift import MOST_FOR_SLOPE, drift
from joules.analyse.estimates import wilson
from joules.analyse.explanations import explanations
from joules.analyse.phases import break_even, phases
from joules.analyse.quality import contested, first_difference, quality, rule_counts, verdict_counts
from joules.analyse.texts import texts
from joules.core.plan import Run


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


def test_how_many_answers_were_cut_or_ended_is_of_the_answers_that_were_graded(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task", "quality"), blocks=2)
    runs = tables.runs.assign(truncated=0, aborted=0)
    assert set(cells(runs)["truncated_share"]) == set(cells(runs)["aborted_share"]) == {0}
    of_quality = runs["kind"] == "quality"
    changed = runs.assign(truncated=of_quality * 41, aborted=of_quality * 82)
    shares = cells(changed).set_index("kind")[["truncated_share", "aborted_share"]]
    assert {tuple(row) for row in shares.loc[["task", "quality"]].to_numpy()} == {(0.25, 0.5)}


def test_mcnemars_test_is_the_exact_binomial_one(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), blocks=1, problems=164)
    for _, row in quality(tables.tasks, tables.runs).iterrows():
        flips = int(row["only_a"] + row["only_b"])
        fewer = int(min(row["only_a"], row["only_b"]))
        tail = sum(math.comb(flips, k) for k in range(fewer + 1)) / 2**flips
        assert row["p_mcnemar"] == pytest.approx(min(1.0, 2 * tail))
        assert flips == row["flips"] > 0


def test_the_split_by_times_finds_what_a_token_costs(tmp_path):
    _, tables = study_tables(tmp_path, kinds=("task",), problems=164, blocks=3)
    for _, row in phases(tables.tasks, tables.runs).iterrows():
        assert row["decode_j_per_token"] == pytest.approx(synthetic.DECODE_J_PER_TOKEN, rel=0.05)
        assert row["prefill_j_per_token"] == pytest.approx(synthetic.PREFILL_J_PER_TOKEN, rel=0.05)
        assert row["decode_j_per_token_low"] < row["decode_j_per_token_high"]
        assert row["prefill_share"] == pytest.approx(row["direct_prefill_share"], rel=0.05)
        assert (row["tasks"], row["runs"]) == (492, 3)
        assert row["note"] == "Overhead takes under 1 % of the time; it counts as decode."


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
    controls = min(blocks, 2) * 2  # the runtimes take turns; models that follow each other differ
    assert len(cells(tables.runs)) == 8 + controls
    assert len(phases(tables.tasks, tables.runs)) == 4
    assert len(drift(tables.runs)) == 2 * (1 + 8 + controls)
    assert len(explanations(tables.tasks, tables.runs)) == 2 * 10
    assert len(texts(tables.tasks, tables.runs)) == 2 * 3


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


def break_even_of(loads, tasks, **pair):
    """Return the row of two runtimes, `pair` being columns of their comparison."""
    table = pd.DataFrame(
        {
            "model": "m",
            "runtime": ["a", "b"],
            "kind": "task",
            "mean_load_energy_j": loads,
            "mean_energy_j_per_task": tasks,
        }
    )
    known = {"model": "m", "runtime_a": "a", "runtime_b": "b", "kind": "task"}
    known |= {"ratio": tasks[0] / tasks[1], "claimable": True, "verdict": "more than 5 % apart"}
    return break_even(table, pd.DataFrame([known | pair]), ["a", "b"]).iloc[0]


@pytest.mark.parametrize(
    ("loads", "tasks", "crossing", "words"),
    [
        ((10, 30), (3, 2), 20, "a needs less below, b above."),
        ((30, 10), (2, 3), 20, "b needs less below, a above."),
        ((10, 30), (2, 3), None, "a needs less for any number of tasks."),
        ((30, 10), (3, 2), None, "b needs less for any number of tasks."),
        ((10, 10), (3, 2), None, "b needs less for any number of tasks."),
        ((math.nan, 10), (3, 2), None, "The energy of loading is not known for one runtime."),
    ],
)
def test_the_break_even_is_where_the_total_energies_meet(loads, tasks, crossing, words):
    row = break_even_of(loads, tasks)
    assert row["note"] == words
    if crossing is None:
        assert pd.isna(row["break_even_tasks"])
    else:
        n = row["break_even_tasks"]
        assert loads[0] + n * tasks[0] == pytest.approx(loads[1] + n * tasks[1])
        assert n == crossing


@pytest.mark.parametrize(
    "pair",
    [
        {"claimable": False, "verdict": "no claim"},
        {"verdict": "equal within 5 %"},
        {"verdict": "open"},
        {"ratio": 0.9},  # the one needs less per token, the other per task
        {"kind": "fixed"},
        {"runtime_b": "c"},
    ],
)
@pytest.mark.parametrize("loads", [(10, 30), (30, 10)])
def test_without_a_claim_no_runtime_needs_less_at_any_number_of_tasks(loads, pair):
    row = break_even_of(loads, (3, 2), **pair)
    assert row["note"] == "No claim." and pd.isna(row["break_even_tasks"])
    assert (row["load_a_j"], row["task_b_j"]) == (loads[0], 2)


@pytest.mark.parametrize("word", ["apart, by less than 5 %", "apart, by how much is open"])
def test_pairs_that_are_apart_by_any_word_have_a_break_even(word):
    swapped = {"runtime_a": "b", "runtime_b": "a", "ratio": 2 / 3}
    for pair in ({"verdict": word}, {"verdict": word, **swapped}):
        assert break_even_of((10, 30), (3, 2), **pair)["break_even_tasks"] == 20


def test_the_slope_of_very_many_runs_is_that_of_a_part_of_them():
    runs = 2 * MOST_FOR_SLOPE + 1
    places = np.arange(1, runs + 1)
    noise = np.random.default_rng(1).normal(0, 1e-3, runs)
    table = pd.DataFrame(
        {
            **{"model": "m", "runtime": "a", "kind": "task", "valid": True},
            "position_actual": places,
            "energy_j_per_token": 1 + 1e-5 * places + noise,
            "idle_power_w": 5.0,
        }
    )
    row = drift(table).iloc[0]
    mean = table["energy_j_per_token"].mean()
    assert row["slope_per_run"] == pytest.approx(1e-5 / mean, rel=0.01)
    assert row["n"] == runs
