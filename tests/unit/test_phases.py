"""The split of energy by parts of an answer, against energies that were put in part by part."""

import math

import numpy as np
import pandas as pd
import pytest

from joules.analyse.phases import phases

POWER_W = {"prefill": 40.0, "decode": 30.0, "overhead": 15.0}
PARTS = tuple(POWER_W)


def invented(
    studies: int,
    *,
    runs: int = 10,
    problems: int = 20,
    misfit: float = 0.05,
    run_noise: float = 0.02,
    seed: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return tasks and runs of as many studies, each one a runtime, and their truth.

    A generated token takes longer the longer its prompt is (n_prompt x n_out). `misfit`: the power
    of each task is off by so much in all runs, and that of each of its parts by half as much;
    `run_noise`: the power of all tasks of a run. Time and energy of each task have noise besides.
    """
    rng = np.random.default_rng(seed)
    shape = (studies, runs, problems)

    def factor(spread, *sizes):
        return np.exp(rng.normal(0, spread, sizes) - spread**2 / 2)

    prompt = rng.integers(40, 300, (studies, 1, problems))
    answer = np.minimum(5 + np.exp(rng.normal(4.5, 0.8, (studies, 1, problems))).astype(int), 512)
    seconds = {
        "prefill": 0.004 * prompt,
        "decode": 0.03 * answer + 6e-6 * prompt * answer,
        "overhead": 0.35 + 0.15 * rng.random((studies, 1, problems)),
    }
    whole = factor(misfit, studies, 1, problems) * factor(run_noise, studies, runs, 1)
    energy, measured, truth = np.zeros(shape), {}, {}
    for part in PARTS:
        measured[part] = seconds[part] * factor(0.01, *shape)
        own = factor(misfit / 2, studies, 1, problems)
        energy += POWER_W[part] * measured[part] * whole * own
        truth[part] = POWER_W[part] * seconds[part].sum(axis=(1, 2))
    energy *= factor(0.01, *shape)
    places = np.indices(shape).reshape(3, -1)
    tasks = pd.DataFrame(
        {
            **{"model": "m", "kind": "task", "block": places[1] + 1},
            "runtime": [f"study-{place:04}" for place in places[0]],
            "task_id": [f"HumanEval/{place}" for place in places[2]],
            "prompt_tokens": np.broadcast_to(prompt, shape).ravel(),
            "generated_tokens": np.broadcast_to(answer, shape).ravel(),
            **{f"{part}_s": values.ravel() for part, values in measured.items()},
            **{"energy_j": energy.ravel(), "prefill_energy_j": math.nan},
        }
    )
    tasks["runtime_label"] = tasks["runtime"]
    table = tasks[["model", "runtime", "kind", "block"]].drop_duplicates()
    table = table.assign(valid=True, load_energy_j=20.0, residency_power_w=0.5)
    known = pd.DataFrame(truth)
    known["prefill_share"] = known["prefill"] / known.sum(axis=1)
    known["prefill_j_per_token"] = known["prefill"] / prompt.sum(axis=(1, 2))
    known["decode_j_per_token"] = known["decode"] / answer.sum(axis=(1, 2))
    return tasks, table, known


def test_the_parts_are_right_where_a_token_costs_more_the_longer_its_prompt_is():
    tasks, runs, truth = invented(5, problems=164, misfit=0.0, run_noise=0.0)
    found = phases(tasks, runs)
    for part, power_w in POWER_W.items():
        assert found[f"{part}_power_w"].to_numpy() == pytest.approx(power_w, rel=0.05)
    for name in ("prefill_share", "prefill_j_per_token", "decode_j_per_token"):
        assert found[name].to_numpy() == pytest.approx(truth[name].to_numpy(), rel=0.05)


def test_the_parts_add_up_to_the_energy_of_the_tasks():
    tasks, runs, _ = invented(3, misfit=0.02)
    found = phases(tasks, runs).set_index("runtime")
    for runtime, own in tasks.groupby("runtime"):
        row = found.loc[runtime]
        prefill_j = row["prefill_j_per_token"] * own["prompt_tokens"].sum()
        parts_j = (
            prefill_j
            + row["decode_j_per_token"] * own["generated_tokens"].sum()
            + row["overhead_j_per_task"] * len(own)
        )
        assert parts_j == pytest.approx(own["energy_j"].sum(), rel=1e-9)
        assert row["prefill_share"] == pytest.approx(prefill_j / parts_j)


@pytest.mark.parametrize(("runs", "problems"), [(10, 20), (4, 40)])
def test_intervals_hold_the_truth_in_90_to_98_of_100_studies(runs, problems):
    tasks, table, truth = invented(600, runs=runs, problems=problems)
    found = phases(tasks, table)
    truth = truth.assign(**{f"{part}_power_w": power_w for part, power_w in POWER_W.items()})
    for name in (
        *("prefill_power_w", "decode_power_w", "prefill_j_per_token", "decode_j_per_token"),
        "prefill_share",
    ):
        held = found[f"{name}_low"].to_numpy() <= truth[name].to_numpy()
        held &= truth[name].to_numpy() <= found[f"{name}_high"].to_numpy()
        assert 0.90 <= held.mean() <= 0.98, (name, held.mean())
    # The power of a sliver of the time is stated where it is known; there its interval holds.
    stated = found[found["overhead_power_w_low"].notna()]
    held = stated["overhead_power_w_low"].le(POWER_W["overhead"])
    held &= stated["overhead_power_w_high"].ge(POWER_W["overhead"])
    assert len(stated) > 400 and 0.90 <= held.mean() <= 0.99, held.mean()


def of_one_study(**changes):
    """Return the row of one study, some of its columns of tasks replaced."""
    tasks, runs, _ = invented(1)
    return phases(tasks.assign(**changes), runs).iloc[0]


def test_records_without_overhead_have_no_such_term():
    tasks, runs, truth = invented(1, problems=164, misfit=0.0, run_noise=0.0)
    energy_j = POWER_W["prefill"] * tasks["prefill_s"] + POWER_W["decode"] * tasks["decode_s"]
    row = phases(tasks.assign(overhead_s=math.nan, energy_j=energy_j), runs).iloc[0]
    assert math.isnan(row["overhead_power_w"]) and math.isnan(row["overhead_j_per_task"])
    assert row["prefill_power_w"] == pytest.approx(POWER_W["prefill"])
    assert row["decode_power_w"] == pytest.approx(POWER_W["decode"])
    assert row["r2"] == pytest.approx(1.0)


def test_a_prefill_of_milliseconds_is_counted_with_the_decode_and_said():
    tasks, runs, _ = invented(1)
    # so long that an answer's energy would have no power to spare for a prefill of its own
    short_s = np.random.default_rng(3).uniform(0.001, 0.005, len(tasks))
    row = phases(tasks.assign(prefill_s=short_s), runs).iloc[0]
    stated = [name for name in row.index if name.startswith("prefill") and row[name] is not None]
    assert all(math.isnan(row[name]) for name in stated) and len(stated) == 9
    assert "Prefill takes under 1 % of the time; it counts as decode." in row["note"]
    assert 10 < row["decode_power_w"] < 60


def test_times_that_rise_and_fall_together_are_not_told_apart():
    tasks, runs, _ = invented(1)
    changed = tasks.assign(prefill_s=tasks["decode_s"] / 3)
    row = phases(changed, runs).iloc[0]
    assert row["note"] == "The times of the parts rise and fall together."
    assert math.isnan(row["prefill_power_w"]) and math.isnan(row["decode_j_per_token"])
    assert (row["tasks"], row["runs"], row["load_energy_j"]) == (200, 10, 20.0)


def test_an_intercept_in_the_energy_makes_no_absurd_power():
    row = of_one_study(
        energy_j=np.random.default_rng(5).normal(200, 100, 200).clip(1),
    )
    likely_w = 200 / 5
    for part in PARTS:
        if not math.isnan(row[f"{part}_power_w"]):
            half = (row[f"{part}_power_w_high"] - row[f"{part}_power_w_low"]) / 2
            assert half < 2 * likely_w
        else:
            assert f"The power of {part} is not known" in row["note"]
    assert math.isnan(row["prefill_share"])


def test_a_negative_part_gives_no_share():
    tasks, runs, _ = invented(1, problems=164, misfit=0.0, run_noise=0.0)
    energy_j = 30 * tasks["decode_s"] - 5 * tasks["prefill_s"] + 15 * tasks["overhead_s"]
    row = phases(tasks.assign(energy_j=energy_j), runs).iloc[0]
    assert row["prefill_power_w"] == pytest.approx(-5)
    assert math.isnan(row["prefill_share"]) and math.isnan(row["prefill_share_high"])
    assert "negative" in row["note"]


def test_a_runtime_that_tells_no_times_has_no_parts():
    row = of_one_study(prefill_s=math.nan)
    assert row["note"] == "The runtime does not tell the times of prefill and decode."
    assert math.isnan(row["decode_power_w"])


def test_one_run_gives_powers_without_intervals():
    tasks, runs, _ = invented(1, misfit=0.01)
    row = phases(tasks[tasks["block"] == 1], runs[runs["block"] == 1]).iloc[0]
    assert row["decode_power_w"] == pytest.approx(30, rel=0.1)
    assert math.isnan(row["decode_power_w_low"]) and math.isnan(row["prefill_share_low"])


def test_the_share_is_right_where_one_of_token_counts_is_off_by_20_points():
    """Both a prompt token and an answer token cost more the longer the prompt is."""
    tasks, runs, _ = invented(1, problems=164, misfit=0.02)
    prompt, answer = tasks["prompt_tokens"], tasks["generated_tokens"]
    noise = np.exp(np.random.default_rng(2).normal(0, 0.01, len(tasks)))
    seconds = {
        "prefill_s": 0.001 * prompt + 4e-5 * prompt**2,
        "decode_s": 0.004 * answer + 6e-5 * prompt * answer,
        "overhead_s": math.nan,
    }
    prefill_j = POWER_W["prefill"] * seconds["prefill_s"]
    energy_j = (prefill_j + POWER_W["decode"] * seconds["decode_s"]) * noise
    row = phases(tasks.assign(**seconds, energy_j=energy_j, prefill_energy_j=prefill_j), runs).iloc[
        0
    ]
    seen = prefill_j.sum() / energy_j.sum()
    assert row["direct_tasks"] == 1640
    assert row["direct_prefill_share"] == pytest.approx(seen, rel=1e-9)
    assert row["prefill_share"] == pytest.approx(seen, rel=0.05)
    design = np.column_stack([np.ones(len(tasks)), prompt, answer])
    cost = np.linalg.lstsq(design, energy_j, rcond=None)[0]
    assert cost[0] < 0  # and so was the overhead of that fit
    assert cost[1] * prompt.sum() / energy_j.sum() > seen + 0.20
