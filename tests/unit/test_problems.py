"""What holds over blocks and problems, against populations of problems that were put in."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_tables import study_tables

from joules.analyse.cells import cells
from joules.analyse.comparison import compare
from joules.analyse.problems import PROBLEM_COLUMNS, Estimate, per_correct_intervals, problems

STUDIES = 80  # of a simulation
QUANTITIES = ("energy_j_per_token", "pass_at_1", "energy_j_per_correct")


def population(rng, share, turned, size=20_000):
    """Return tokens, energies and verdicts of many problems on two runtimes."""
    length = np.minimum(5 + np.exp(rng.normal(4.5, 0.8, size)), 512)
    tokens = length * np.exp(rng.normal(0, 0.1, (2, size)))
    energy = (0.5 * tokens + 8 * rng.random(size)) * np.exp(rng.normal(0, 0.05, (2, size)))
    passed = rng.random(size) < share
    other = rng.random((2, size)) < turned
    return tokens, energy, np.where(other, rng.random((2, size)) < share, passed)


def measured(rng, whole, blocks, problem_count, name, ratio=1.0, quality=0):
    """Return tasks and runs of one study of so many problems drawn from a population."""
    tokens, energy, passed = whole
    drawn = rng.choice(tokens.shape[1], quality or problem_count, replace=False)
    by_block = np.exp(rng.normal(0, 0.03, (blocks, 1)))
    kinds = [("task", block + 1, drawn[:problem_count]) for block in range(blocks)]
    kinds += [("quality", 1, drawn)] * bool(quality)
    columns = {name: [] for name in ("runtime", "kind", "block", "task_id", "tokens", "passed")}
    joules = []
    for place, runtime in enumerate("ab"):
        noise = by_block * np.exp(rng.normal(0, 0.02, (blocks, 1)))
        noise = noise * np.exp(rng.normal(0, 0.02, (blocks, problem_count)))
        noise = np.append(noise.ravel(), np.ones(quality)) * (ratio if runtime == "a" else 1.0)
        chosen = np.concatenate([each for _, _, each in kinds])
        joules.append(energy[place, chosen] * noise)
        columns["runtime"] += [runtime] * len(chosen)
        columns["kind"] += [kind for kind, _, each in kinds for _ in each]
        columns["block"] += [block for _, block, each in kinds for _ in each]
        columns["task_id"] += [f"HumanEval/{problem}" for problem in chosen]
        columns["tokens"] += tokens[place, chosen].tolist()
        columns["passed"] += passed[place, chosen].tolist()
    table = pd.DataFrame(columns).assign(model=name, energy_j=np.concatenate(joules))
    table["verdict"] = np.where(table.pop("passed"), "passed", "failed")
    return table.rename(columns={"tokens": "generated_tokens"})


def runs_of(tasks):
    """Return the table of runs, as far as it is looked at, and the comparisons' columns."""
    runs = tasks.groupby(["model", "runtime", "kind", "block"], as_index=False).agg(
        energy_j=("energy_j", "sum"), generated_tokens=("generated_tokens", "sum")
    )
    runs["energy_j_per_token"] = runs["energy_j"] / runs["generated_tokens"]
    runs = runs.assign(valid=True, session="s", validity_codes="")
    models = sorted(set(runs["model"]))
    pairs = pd.DataFrame({"model": models, "runtime_a": "a", "runtime_b": "b", "kind": "task"})
    return runs, pairs.assign(family="primary", claimable=True)


def studies(count, *, blocks=10, problem_count=20, share=0.5, turned=0.2, quality=0, seed=1):
    """Return the table of `count` studies, each as one model, the truth and the tasks."""
    rng = np.random.default_rng(seed)
    whole = population(rng, share, turned)
    tasks = pd.concat(
        measured(rng, whole, blocks, problem_count, f"study-{place:03}", quality=quality)
        for place in range(count)
    )
    runs, pairs = runs_of(tasks)
    tokens, energy, passed = (values.mean(axis=1) for values in whole)
    per_token, per_correct = energy / tokens, energy / passed
    truth = {
        "energy_j_per_token": per_token[0] / per_token[1],
        "pass_at_1": passed[0] - passed[1],
        "energy_j_per_correct": per_correct[0] / per_correct[1],
    }
    return problems(tasks, runs, pairs), truth, (tasks, runs, per_correct[0])


@pytest.mark.parametrize(("turned", "quality"), [(0.5, 0), (0.3, 164)], ids=["task", "quality"])
def test_intervals_hold_the_truth_in_90_of_100_studies_of_10_blocks_and_20_problems(
    turned, quality
):
    found, truth, (tasks, runs, of_one) = studies(STUDIES, turned=turned, quality=quality)
    for quantity in QUANTITIES:
        own = found[found["quantity"] == quantity]
        held = own["low"].le(truth[quantity]) & own["high"].ge(truth[quantity])
        assert len(own) == STUDIES and held.mean() >= 0.90, (quantity, held.mean())
    own = found[found["quantity"] == "energy_j_per_correct"]
    assert (
        abs(math.log(truth["energy_j_per_correct"])) < 0.02
    )  # so that a difference is a false one
    assert own["p_value"].lt(0.05).mean() <= 0.07
    intervals = per_correct_intervals(tasks, runs)
    held = [low <= of_one <= high for (_, name), (low, high) in intervals.items() if name == "a"]
    assert len(held) == STUDIES and np.mean(held) >= 0.90


def one_study(**changes):
    found, _, (tasks, runs, _) = studies(1, **changes)
    return found.set_index("quantity"), tasks, runs


def test_values_are_those_of_plain_sums():
    found, tasks, _ = one_study()
    by_run = tasks.groupby(["runtime", "block"])[["energy_j", "generated_tokens"]].sum()
    logs = np.log(by_run["energy_j"] / by_run["generated_tokens"])
    assert found.loc["energy_j_per_token", "value"] == pytest.approx(
        math.exp((logs["a"] - logs["b"]).mean())
    )
    rates = (
        tasks[tasks["block"] == 1]
        .groupby("runtime")["verdict"]
        .apply(lambda verdicts: verdicts.eq("passed").mean())
    )
    assert found.loc["pass_at_1", "value"] == pytest.approx(rates["a"] - rates["b"])
    logs = np.log(by_run["energy_j"])
    assert found.loc["energy_j_per_correct", "value"] == pytest.approx(
        math.exp((logs["a"] - logs["b"]).mean()) * rates["b"] / rates["a"]
    )
    assert set(found["n_blocks"]) == {10} and set(found["n_problems"]) == {20}
    assert list(found.reset_index()[PROBLEM_COLUMNS].columns) == PROBLEM_COLUMNS


def test_correct_answers_of_quality_runs_count_and_energies_are_those_of_tasks():
    found, tasks, _ = one_study(quality=164)
    assert found["n_problems"].tolist() == [20, 164, 20]
    quality = tasks[tasks["kind"] == "quality"]
    rates = quality.groupby("runtime")["verdict"].apply(lambda each: each.eq("passed").mean())
    assert found.loc["pass_at_1", "value"] == pytest.approx(rates["a"] - rates["b"])
    few, _, _ = one_study()
    width = [
        table.loc["pass_at_1", "high"] - table.loc["pass_at_1", "low"] for table in (found, few)
    ]
    assert width[0] < width[1] / 2  # 164 problems say more than 20


def test_the_spread_over_blocks_is_the_t_intervals_where_problems_are_alike():
    tasks = pd.DataFrame(
        [
            {
                **{"model": "m", "runtime": runtime, "kind": "task", "block": block},
                **{"task_id": f"HumanEval/{place}", "generated_tokens": 10, "verdict": "passed"},
                "energy_j": joule,
            }
            for runtime, joules in (("a", (1.00, 1.10, 1.05, 1.21)), ("b", (1.0, 1.0, 1.0, 1.0)))
            for block, joule in enumerate(joules, start=1)
            for place in range(12)
        ]
    )
    runs, pairs = runs_of(tasks)
    row = problems(tasks, runs, pairs).set_index("quantity").loc["energy_j_per_token"]
    interval = stats.ttest_1samp(np.log([1.00, 1.10, 1.05, 1.21]), 0).confidence_interval()
    assert math.log(row["low"]) == pytest.approx(interval.low, abs=0.01)
    assert math.log(row["high"]) == pytest.approx(interval.high, abs=0.01)


def test_no_correct_answer_gives_no_energy_per_correct_answer_and_no_infinity():
    _, tasks, runs = one_study(turned=1.0)
    pairs = runs_of(tasks)[1]
    tasks = tasks.assign(verdict=tasks["verdict"].where(tasks["runtime"] == "b", "failed"))
    found = problems(tasks, runs, pairs).set_index("quantity")
    row = found.loc["energy_j_per_correct"]
    assert row[["value", "low", "high", "p_value"]].isna().all()
    assert row["approximate"] and "5 correct answers" in row["note"]
    assert row["verdict"] == "no claim" and not row["claimable"]
    assert np.isfinite(found.loc["pass_at_1", ["value", "low", "high"]].astype(float)).all()
    assert ("study-000", "a") not in per_correct_intervals(tasks, runs)


def test_few_correct_answers_are_called_approximate_and_stay_finite():
    _, tasks, runs = one_study()
    pairs = runs_of(tasks)[1]
    one = tasks["task_id"] == tasks["task_id"].iloc[0]
    tasks = tasks.assign(verdict=np.where(one, "passed", "failed"))
    found = problems(tasks, runs, pairs).set_index("quantity")
    row = found.loc["energy_j_per_correct"]
    assert row["value"] == pytest.approx(row["value"]) and row["low"] < row["value"] < row["high"]
    assert np.isfinite([row["low"], row["high"]]).all() and row["approximate"]
    assert found.loc["pass_at_1", "low"] < 0 < found.loc["pass_at_1", "high"]  # none turned over


@pytest.mark.parametrize("blocks", [1, 2])
def test_few_blocks_are_approximate(blocks):
    found, _, _ = one_study(blocks=blocks)
    row = found.loc["energy_j_per_token"]
    assert row["approximate"] and "fewer than 3 blocks" in row["note"]
    assert math.isnan(row["low"]) == (blocks == 1)
    assert row["value"] > 0


def test_verdicts_are_those_of_the_three_tests_in_a_family_of_their_own():
    rng = np.random.default_rng(4)
    tokens, energy, passed = population(rng, 0.9, 0.0)
    whole = (tokens, np.vstack([energy[0], energy[0]]), np.vstack([passed[0], passed[0]]))
    tasks = pd.concat(
        measured(rng, whole, 12, 150, name, ratio)
        for name, ratio in (("equal", 1.0), ("far", 1.5), ("far-secondary", 1.5))
    )
    runs, pairs = runs_of(tasks)
    pairs["family"] = ["primary", "primary", "secondary"]
    found = problems(tasks, runs, pairs)
    found = found[found["quantity"] == "energy_j_per_correct"].set_index("model")
    assert found["verdict"].tolist() == ["equal within 5 %", *["more than 5 % apart"] * 2]
    assert found["p_holm"]["far"] == pytest.approx(2 * found["p_value"]["far"])
    assert found["p_holm"]["far-secondary"] == found["p_value"]["far-secondary"]
    refused = problems(tasks, runs, pairs.assign(claimable=[True, False, True]))
    words = refused[refused["quantity"] == "energy_j_per_correct"]["verdict"].tolist()
    assert words == ["equal within 5 %", "no claim", "more than 5 % apart"]
    assert refused[refused["quantity"] != "energy_j_per_correct"]["verdict"].isna().all()


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.0, 0.0, (1.0, 1.0, 0.0)),
        (0.2, 0.0, (0.0, 0.0, 1.0)),
        (0.02, 0.0, (0.0, 1.0, 0.0)),
    ],
)
def test_tests_without_spread_have_their_limits(value, error, expected):
    assert Estimate(value, error, 9).tests() == expected


def test_the_tests_agree_with_the_interval():
    for value in np.linspace(-0.3, 0.3, 61):
        estimate = Estimate(value, 0.05, 12)
        low, high = estimate.interval()
        difference, size, _ = estimate.tests()
        assert (difference < 0.05) == (not low <= 0 <= high)
        limit = math.log(1.05)
        assert (size < 0.05) == (low > limit or high < -limit)


def test_a_study_has_all_rows_and_its_cells_have_the_interval(tmp_path):
    _, tables = study_tables(tmp_path, blocks=6, kinds=("task", "control", "quality"))
    comparisons = compare(tables.runs)
    found = problems(tables.tasks, tables.runs, comparisons)
    assert found["quantity"].tolist() == list(QUANTITIES) * (comparisons["kind"] == "task").sum()
    ratios = found[found["quantity"] == "energy_j_per_token"]["value"].to_numpy()
    assert ratios == pytest.approx(
        comparisons.loc[comparisons["kind"] == "task", "ratio"].to_numpy()
    )
    table = cells(tables.runs, tables.tasks)
    own = table[table["kind"] == "task"]
    assert (own["low_energy_j_per_correct"] < own["energy_j_per_correct"]).all()
    assert (own["energy_j_per_correct"] < own["high_energy_j_per_correct"]).all()
    assert table.loc[table["kind"] != "task", "low_energy_j_per_correct"].isna().all()
    assert cells(tables.runs)["low_energy_j_per_correct"].isna().all()
    assert problems(tables.tasks, tables.runs, comparisons).equals(found)


def test_one_runtime_has_no_pair_and_still_an_interval_of_its_own():
    tasks, runs = (table[table["runtime"] == "a"] for table in one_study()[1:])
    none = runs_of(tasks)[1].iloc[:0]
    found = problems(tasks, runs, none)
    assert len(found) == 0 and list(found.columns) == PROBLEM_COLUMNS
    assert list(per_correct_intervals(tasks, runs)) == [("study-000", "a")]
