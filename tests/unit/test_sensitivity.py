"""Ranking, families of tests, and the same comparisons by other methods."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_tables import runs_of, study_tables

from joules.analyse.comparison import compare
from joules.analyse.ranking import ranking
from joules.analyse.sensitivity import bca_bootstrap, mixed_model, sensitivity
from joules.core.plan import Run

WIGGLE = np.array([1.002, 0.999, 1.001, 0.998, 1.003, 0.997, 1.0, 1.001, 0.9995, 1.0015])
ORDER = np.array([1, 0, 3, 2, 5, 4, 7, 6, 9, 8])


def four_runtimes(blocks=10, control=True):
    """Return runs of a and b, which are alike, of c and of d, which needs most."""
    first = WIGGLE[:blocks]
    values = {("a", "task"): first[::-1] * 1.001, ("b", "task"): first}
    values |= {("c", "task"): 1.2 * WIGGLE[ORDER][:blocks], ("d", "task"): 1.5 * first}
    if control:
        values["b", "control"] = WIGGLE[ORDER][:blocks]
    return runs_of(values).assign(runtime_label=lambda frame: frame["runtime"].str.upper())


def test_runtimes_that_are_not_told_apart_share_a_rank():
    runs = four_runtimes()
    table = ranking(runs, compare(runs)).set_index("runtime")
    assert table.loc[["a", "b", "c", "d"], "rank"].tolist() == [1, 1, 3, 4]
    assert (table.loc["a", "tied_with"], table.loc["c", "tied_with"]) == ("B", "")
    assert table.loc["c", "ratio_to_best"] == pytest.approx(1.2)
    assert table.loc["c", "low"] < 1.2 < table.loc["c", "high"]
    assert table["ratio_to_best"].notna().all()


@pytest.mark.parametrize("runs", [four_runtimes(control=False), four_runtimes(blocks=7)])
def test_no_rank_and_no_order_follow_from_comparisons_that_carry_no_claim(runs):
    comparisons = compare(runs)  # 7 blocks cannot show a difference after Holm over 6 pairs
    table = ranking(runs, comparisons)
    assert set(comparisons.loc[comparisons["kind"] == "task", "verdict"]) == {"no claim"}
    assert table["runtime"].tolist() == ["a", "b", "c", "d"]
    assert table[["rank", "ratio_to_best", "low", "high"]].isna().all(axis=None)
    assert set(table["tied_with"]) == {"no claim"}


def test_a_runtime_with_one_comparison_that_carries_no_claim_has_no_rank():
    runs = four_runtimes().assign(validity_codes="")
    flagged = (runs["runtime"] == "d") & (runs["block"] > 4)
    runs.loc[flagged, "validity_codes"] = "cpu_busy"
    table = ranking(runs, compare(runs)).set_index("runtime")
    assert table["rank"].isna().all() and table["tied_with"].eq("no claim").all()
    assert table.loc["c", "ratio_to_best"] == pytest.approx(1.2)
    assert pd.isna(table.loc["d", "ratio_to_best"])


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
    error = math.log(found["high"] / found["low"]) / 2 / stats.t.ppf(0.975, 5)
    assert error == pytest.approx(d.std(ddof=1) / math.sqrt(len(d)), rel=0.5)
    p = 2 * stats.t.sf(math.log(found["ratio"]) / error, 5)
    assert (found["n"], found["p"]) == (144, pytest.approx(p, rel=0.05))


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
    assert (table.loc["without_flagged", "n"], table.loc["without_outliers", "n"]) == (11, 11)
    assert "the primary test does so" in table.loc["without_flagged", "note"]
    assert table["claimable"].tolist() == [task["claimable"]] * 9
    # Net energy is dearer by more than gross energy: the idle power is in both runtimes' gross.
    assert table.loc["net_energy", "ratio"] != table.loc["sign_flip", "ratio"]
    assert table["note"].str.len().min() > 0
    assert pd.isna(table.loc["bca_bootstrap", "ratio"])


def test_where_too_many_runs_are_flagged_the_others_are_compared_beside_all():
    first = WIGGLE[:9]
    runs = runs_of({("a", "task"): first, ("b", "task"): 1.2 * first[::-1]})
    runs = runs.assign(
        validity_codes=["settle"] * 5 + [""] * 13, tasks=1, net_energy_j_per_token=np.nan
    )
    tasks = answers_of().iloc[:0].assign(kind="", model="")
    table = sensitivity(tasks, runs, compare(runs)).set_index("method")
    assert (table.loc["sign_flip", "n"], table.loc["without_flagged", "n"]) == (9, 4)
    assert not table["claimable"].any()


def test_mixed_models_of_a_large_study_are_left_out_with_the_reason(tmp_path):
    _, tables = study_tables(tmp_path, models=("parrot-1m",), blocks=2)
    runs = tables.runs.assign(tasks=20_000)
    table = sensitivity(tables.tasks, runs, compare(runs)).set_index("method")
    assert "80,000 answers" in table.loc["mixed_model", "note"]
