"""Tables that explain: what a ratio is made of, whose texts repeat, which rules were broken."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_tables import study_tables

from joules.analyse.broken_rules import broken_rules
from joules.analyse.comparison import compare
from joules.analyse.derived_columns import derived_columns, shared_out
from joules.analyse.drift import deviations, drift
from joules.analyse.explanations import EQUAL_TEXT, QUANTITIES, explanations
from joules.analyse.pairs import paired_blocks
from joules.analyse.tables import RUNS, TASKS
from joules.analyse.texts import texts
from joules.core.plan import Run

NO_TASKS = TASKS.empty_table().to_pandas()


def run(runtime, block, *, tokens=100, kind="task", valid=True, codes="", **known):
    """Return one row of the table of runs; what is not given is not known."""
    given = {"energy_j": 10.0, "tasks": 4, "duration_s": 5.0, "idle_power_w": 1.0} | known
    named = {"model": "m", "runtime": runtime, "kind": kind, "block": block, "valid": valid}
    facts = {"session": "s", "validity_codes": codes, "position_actual": block, "tier": "measured"}
    derived = derived_columns(
        generated_tokens=tokens,
        resident_power_w=None,
        passed=None,
        graded=None,
        **given,
    )
    return named | facts | {"generated_tokens": tokens} | given | derived


def table(rows):
    return pd.DataFrame(rows, columns=RUNS.names)


def answers(runtime, block, texts_of_problems, energies):
    """Return the tasks of one run, ten tokens each."""
    return [
        {
            "model": "m",
            "runtime": runtime,
            "kind": "task",
            "block": block,
            "task_id": f"HumanEval/{place}",
            "completion_sha256": text,
            "energy_j": joule,
            "generated_tokens": 10,
        }
        for place, (text, joule) in enumerate(zip(texts_of_problems, energies, strict=True))
    ]


def explained(runs, tasks=NO_TASKS):
    """Return the rows of the only pair, by quantity."""
    return explanations(tasks, runs, ["a", "b"]).set_index("quantity")


def test_each_quantity_is_the_ratio_of_geometric_means_with_its_t_interval():
    """By hand: a took 8, 18 and 50 J, b 2, 2 and 2 J: ratios 4, 9 and 25, logs 2 ln 2, 3, 5."""
    runs = table(
        [run("a", block, energy_j=joule) for block, joule in ((1, 8.0), (2, 18.0), (3, 50.0))]
        + [run("b", block, energy_j=2.0) for block in (1, 2, 3)]
    )
    row = explained(runs).loc["energy_j_per_token"]
    assert row["ratio"] == pytest.approx(30 ** (2 / 3))
    logs = 2 * np.log([2.0, 3.0, 5.0])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3)
    assert row["low"] == pytest.approx(math.exp(logs.mean() - half))
    assert row["high"] == pytest.approx(math.exp(logs.mean() + half))
    assert row["n_blocks"] == 3 and row["note"] == ""


def test_energy_per_token_is_power_times_seconds_per_token():
    rng = np.random.default_rng(1)
    rows = [
        run(
            runtime,
            block,
            tokens=int(rng.integers(500, 2000)),
            energy_j=float(rng.uniform(5, 50)),
            duration_s=float(rng.uniform(1, 9)),
        )
        for runtime in "ab"
        for block in range(1, 9)
    ]
    ratio = explained(table(rows))["ratio"]
    assert ratio["energy_j_per_token"] == pytest.approx(
        ratio["power_w"] * ratio["seconds_per_token"], rel=1e-14
    )
    assert ratio["duration_s"] == pytest.approx(
        ratio["seconds_per_token"] * ratio["generated_tokens"], rel=1e-14
    )
    assert not math.isclose(ratio["power_w"], ratio["seconds_per_token"], rel_tol=0.01)


def test_gross_net_and_memory_stand_beside_the_headline():
    """By hand: a takes 10 J in 5 s, 12 J with the gaps; b 6 J in 3 s and 6.6 J; idle takes 1 W."""
    a = run("a", 1, energy_j=10.0, duration_s=5.0, gross_energy_j=12.0, dram_energy_j=2.0)
    b = run("b", 1, energy_j=6.0, duration_s=3.0, gross_energy_j=6.6, dram_energy_j=0.4, tasks=2)
    found = explained(table([a, b]))
    assert found.loc["energy_j_per_token", "ratio"] == pytest.approx(10 / 6)
    assert found.loc["gross_energy_j_per_token", "ratio"] == pytest.approx(12 / 6.6)
    assert found.loc["net_energy_j_per_token", "ratio"] == pytest.approx((10 - 5) / (6 - 3))
    assert found.loc["energy_with_dram_j_per_token", "ratio"] == pytest.approx(12 / 6.4)
    assert found.loc["energy_j_per_task", "ratio"] == pytest.approx((10 / 4) / (6 / 2))
    assert found["low"].isna().all() and found["high"].isna().all(), "one block has no interval"
    assert (a["idle_share"], b["idle_share"]) == (0.5, 0.5)


def test_what_the_data_cannot_give_is_no_ratio_and_the_note_says_why():
    idle_takes_more = run("a", 1, energy_j=4.0, duration_s=5.0)
    unknown_time = run("b", 1, duration_s=None)
    found = explained(table([idle_takes_more, run("b", 1)]))
    assert found.loc["net_energy_j_per_token", "note"].startswith("A run has no energy above")
    assert found.loc["energy_with_dram_j_per_token", "note"].startswith("No counter of the memory")
    assert found.loc[EQUAL_TEXT, "note"] == "No texts are known."
    assert found["ratio"].isna().equals(found["note"].ne(""))
    found = explained(table([idle_takes_more, unknown_time]))
    assert found.loc["power_w", "note"] == "The time is not known."
    apart = explained(table([run("a", 1), run("b", 2)]))
    assert apart["ratio"].isna().all() and set(apart["note"][:3]) == {"No block has a valid pair."}


def test_a_study_is_explained_over_the_blocks_of_its_comparison(tmp_path):
    bad = Run("parrot-1m", "ollama", "task", 2)
    _, tables = study_tables(tmp_path, blocks=8, ratios={"ollama": 1.2}, invalid=[bad])
    found = explanations(tables.tasks, tables.runs)
    assert len(found) == 2 * (len(QUANTITIES) + 1)
    compared = compare(tables.runs)
    for _, row in compared[compared["kind"] == "task"].iterrows():
        names = [row["model"], row["runtime_a"], row["runtime_b"]]
        chosen = found[["model", "runtime_a", "runtime_b"]].eq(names).all(axis=1)
        own = found[chosen].set_index("quantity")
        blocks = paired_blocks(tables.runs, *names).blocks
        assert set(own["n_blocks"]) == {len(blocks)} == {7 if row["model"] == "parrot-1m" else 8}
        headline = own.loc["energy_j_per_token", ["ratio", "low", "high"]].to_numpy(float)
        assert headline == pytest.approx(
            row[["ratio", "ratio_low", "ratio_high"]].to_numpy(float), rel=1e-12
        )


def two_arms(of_a, of_b, *, energies=((1, 1, 2), (1, 1, 1))):
    """Return runs and tasks: per arm a list of runs, each with its three texts."""
    pairs = [
        (name, block, own, joule)
        for name, arm, joule in zip("ab", (of_a, of_b), energies, strict=True)
        for block, own in enumerate(arm, start=1)
    ]
    runs = [
        run(name, block, energy_j=float(sum(joule)), tokens=30) for name, block, _, joule in pairs
    ]
    rows = [row for name, block, own, joule in pairs for row in answers(name, block, own, joule)]
    return table(runs), pd.DataFrame(rows, columns=TASKS.names)


def test_at_equal_text_only_problems_count_that_all_runs_answer_alike():
    """Problem 2 parts the arms: 2 J against 1 J. The other two cost both of them the same."""
    runs, tasks = two_arms(["xyz", "xyz"], ["xyw", "xyw"])
    found = explained(runs, tasks)
    assert found.loc["energy_j_per_token", "ratio"] == pytest.approx(4 / 3)
    assert found.loc[EQUAL_TEXT, "ratio"] == pytest.approx(1)
    assert found.loc[EQUAL_TEXT, "note"].startswith("2 of 3 problems")
    runs, tasks = two_arms(["xyz", "xyz"], ["xyz", "xyz"])
    found = explained(runs, tasks)
    assert found.loc[EQUAL_TEXT, "ratio"] == pytest.approx(4 / 3), "all problems: the headline"
    runs, tasks = two_arms(["xyz", "pqr"], ["xyz", "xyz"])
    row = explained(runs, tasks).loc[EQUAL_TEXT]
    assert math.isnan(row["ratio"]) and row["note"].startswith("None of 3 problems")


def test_energy_of_a_run_is_shared_out_by_the_readings_of_its_tasks():
    """Where tasks add up to 8 J of a run of 16 J, half of whose energy lies in equal texts."""
    runs, tasks = two_arms(["xyz"], ["xyw"], energies=((2, 2, 4), (1, 1, 1)))
    runs.loc[runs["runtime"] == "a", "energy_j"] = 16.0
    row = explained(runs, tasks).loc[EQUAL_TEXT]
    assert row["ratio"] == pytest.approx((16 * 4 / 8) / 2)


def test_texts_within_an_arm_stand_beside_those_between_arms():
    runs, tasks = two_arms(["xyz", "xyw"], ["xqz", "xqz"])
    found = texts(tasks, runs, ["a", "b"]).set_index(["runtime_a", "runtime_b"])
    assert found.loc[("a", "a"), ["runs", "problems", "equal_problems"]].tolist() == [2, 3, 2]
    assert found.loc[("b", "b"), "share"] == 1
    assert found.loc[("a", "b"), ["runs", "equal_problems"]].tolist() == [4, 1]
    assert found.loc[("a", "b"), "share"] == pytest.approx(1 / 3)


def test_an_invalid_run_has_no_say_in_texts_and_one_run_repeats_nothing():
    runs, tasks = two_arms(["xyz", "pqr"], ["xyz", "xyz"])
    runs.loc[(runs["runtime"] == "a") & (runs["block"] == 2), "valid"] = False
    found = texts(tasks, runs, ["a", "b"]).set_index(["runtime_a", "runtime_b"])
    assert found.loc[("a", "a"), "runs"] == 1 and math.isnan(found.loc[("a", "a"), "share"])
    assert found.loc[("a", "b"), "share"] == 1
    runs.loc[runs["runtime"] == "a", "valid"] = False
    found = texts(tasks, runs, ["a", "b"]).set_index(["runtime_a", "runtime_b"])
    assert math.isnan(found.loc[("a", "b"), "share"]), "nothing of a was compared"


def test_broken_rules_are_counted_per_cell_and_those_that_count_all_the_same():
    runs = table(
        [
            run("a", 1, codes="cpu_busy;settle"),
            run("a", 2, codes="cpu_busy", valid=False),
            run("a", 3),
            run("a", 1, kind="control", codes="cpu_busy_before"),
            run("b", 1),
        ]
    )
    found = broken_rules(runs).set_index(["runtime", "kind", "code"])
    assert len(found) == 9, "three cells, three codes that any run broke"
    broken = found[found["broken"] > 0][["runs", "broken", "counted"]]
    assert dict(zip(broken.index, broken.to_numpy().tolist(), strict=True)) == {
        ("a", "control", "cpu_busy_before"): [1, 1, 1],
        ("a", "task", "cpu_busy"): [3, 2, 1],
        ("a", "task", "settle"): [3, 1, 1],
    }
    assert broken_rules(table([run("a", 1)])).empty


def test_a_control_deviates_from_the_mean_of_its_arm_and_not_from_itself():
    runs = table(
        [run("a", 1, energy_j=10.0), run("a", 2, energy_j=10.0), run("b", 3, energy_j=1.0)]
        + [run("a", 4, energy_j=16.0, kind="control"), run("a", 5, energy_j=1.0, valid=False)]
    )
    found = deviations(runs).set_index("position_actual")["deviation"]
    assert found.to_dict() == pytest.approx({1: -1 / 6, 2: -1 / 6, 3: 0, 4: 1 / 3})
    whole = drift(runs).iloc[0]
    assert (whole["model"], whole["n"]) == ("all", 4)
    # Sen's slope by hand: the median of (0, 1/12, 1/6, 1/6, 1/4, 1/3).
    assert whole["slope_per_run"] == pytest.approx(1 / 6)


def test_tasks_that_are_shared_out_add_up_to_the_headline_in_their_own_proportion():
    """By hand: 2 + 2 + 4 J were read of a run of 16 J, 1 + 1 + 1 J of one of 3 J."""
    runs, tasks = two_arms(["xyz"], ["xyw"], energies=((2, 2, 4), (1, 1, 1)))
    runs.loc[runs["runtime"] == "a", "energy_j"] = 16.0
    assert shared_out(tasks, runs).tolist() == [4, 4, 8, 1, 1, 1]
    backwards = tasks.iloc[::-1]
    assert shared_out(backwards, runs).tolist() == [1, 1, 1, 8, 4, 4]
