"""The headline tables of two campaigns, held against a recomputation with other tools.

`independent_check` reads the JSON files with numpy and scipy alone and was written from the method;
what joules computes must be the same to six significant digits. One campaign has records of schema
2, the other of schema 3.
"""

import ast
from pathlib import Path

import independent_check as other
import pandas as pd
import pytest

from joules.analyse.cells import cells
from joules.analyse.comparison import compare
from joules.analyse.explanations import EQUAL_TEXT, explanations
from joules.analyse.mixes import Mixing
from joules.analyse.problems import problems
from joules.analyse.tables import tabulate
from joules.analyse.verdicts import verdict
from joules.core.analysis import ALL_ARMS

ARMS = ("ollama", "llama_cpp")
MODELS = ("parrot-1m", "parrot-3m")
SIX_DIGITS = 1e-6
GRAMS_PER_KWH = 267.6


@pytest.fixture(scope="module")
def recomputed(either):
    return other.read_runs(either)


@pytest.fixture(scope="module")
def tables(either):
    files = [sorted((either / name).rglob("*.json")) for name in ("records", "grades")]
    agreements = (either / "agreement").glob("*.json")
    return tabulate(*files, agreements, GRAMS_PER_KWH, Mixing())


@pytest.fixture(scope="module")
def comparisons(tables):
    return compare(tables.runs, ARMS)


def same(value):
    return pytest.approx(value, rel=SIX_DIGITS, abs=0)


def row_of(table, **wanted):
    """Return the only row with these values."""
    found = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(found) == 1, wanted
    return found.iloc[0]


def pairs_of(recomputed, model):
    """Return the pairs of task runs of the two arms, block by block."""
    left, right = (other.of(recomputed, model, arm, "task") for arm in ARMS)
    return other.blocks_of(left, right)


def test_the_recomputation_uses_nothing_of_the_package():
    tree = ast.parse(Path(other.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in imports
        for alias in node.names
    }
    assert names == {"itertools", "json", "pathlib", "numpy", "scipy"}


def test_every_run_has_the_same_numbers(recomputed, tables):
    assert len(recomputed) == len(tables.runs) == 30
    quantities = [
        *("energy_j", "gross_energy_j", "energy_j_per_token", "gross_energy_j_per_token"),
        *("net_energy_j_per_token", "energy_j_per_task", "energy_j_per_correct", "duration_s"),
        *("seconds_per_token", "power_w", "generated_tokens", "idle_share", "gap_share", "passed"),
    ]
    for run in recomputed:
        names = {name: run[name] for name in ("model", "kind", "block")}
        row = row_of(tables.runs, runtime=run["arm"], **names)
        assert [row[name] for name in quantities] == same([run[name] for name in quantities])
        assert row["valid"] == run["valid"] and row["session"] == run["sitting"]
        assert row["validity_codes"] == ";".join(run["broken"])


def test_the_gaps_of_older_records_are_no_part_of_the_headline(older):
    """Of one runtime's energy flush prompts were six times the share that they were of the other's.

    So a ratio of 1.79 is one of 1.60 without them.
    """
    pairs = pairs_of(other.read_runs(older), "parrot-1m")
    shares = [
        sum(run["gaps_energy_j"] for run in arm) / sum(run["gross_energy_j"] for run in arm)
        for arm in zip(*pairs, strict=True)
    ]
    assert shares == pytest.approx([0.126, 0.020], abs=0.0005)
    assert other.paired_ratio(pairs, "gross_energy_j_per_token")[0] == pytest.approx(
        1.793, abs=5e-4
    )
    assert other.paired_ratio(pairs, "energy_j_per_token")[0] == pytest.approx(1.600, abs=5e-4)


def test_means_of_cells_and_quality_are_the_same(recomputed, tables):
    table = cells(tables.runs)
    for model in MODELS:
        for arm in ARMS:
            row = row_of(table, model=model, runtime=arm, kind="task")
            own = list(other.of(recomputed, model, arm, "task").values())
            for quantity in (
                *("energy_j_per_token", "gross_energy_j_per_token", "net_energy_j_per_token"),
                *("idle_share", "power_w", "energy_j_per_task"),
            ):
                names = [f"{which}_{quantity}" for which in ("mean", "low", "high")]
                expected = other.t_interval([run[quantity] for run in own])
                assert [row[name] for name in names] == same(list(expected))
            assert len({run["passed"] for run in own}) == 1, "greedy: every run solves as many"
            passed, problems = own[0]["passed"], own[0]["problems"]
            assert row["pass_at_1"] == same(passed / problems)
            low_high = [row["pass_low"], row["pass_high"]]
            assert low_high == same(list(other.wilson(passed, problems)))
            per_correct = sum(run["energy_j_per_correct"] for run in own) / len(own)
            assert row["energy_j_per_correct"] == same(per_correct)


TESTED = (
    *("n_blocks", "ratio", "ratio_low", "ratio_high", "simultaneous_low", "simultaneous_high"),
    *("p_value", "p_holm", "p_size", "p_size_holm", "p_equivalence", "p_equivalence_holm"),
)


def test_ratios_intervals_and_all_three_tests_are_the_same(recomputed, comparisons):
    pairs = [pairs_of(recomputed, model) for model in MODELS]
    assert [len(each) for each in pairs] == [5, 5]
    family = [other.log_ratios(each, "energy_j_per_token") for each in pairs]
    for model, expected in zip(MODELS, other.tests_of(family), strict=True):
        row = row_of(comparisons, model=model, kind="task", runtime_a=ARMS[0], runtime_b=ARMS[1])
        assert [row[name] for name in TESTED] == same([expected[name] for name in TESTED])
        assert row["family"] == "primary"
        assert expected["p_value"] == 2 / 2**5, "all five blocks on one side"
        assert (row["claimable"], row["verdict"]) == (False, "no claim"), "energy is estimated"
        holm = [row[name] for name in ("p_holm", "p_size_holm", "p_equivalence_holm")]
        assert verdict(*holm) == expected["word"]


def test_energy_per_correct_answer_has_the_same_ratio(recomputed, tables, comparisons):
    """Its interval is a bootstrap's, which no other tool makes anew to six digits."""
    table = problems(tables.tasks, tables.runs, comparisons)
    for model in MODELS:
        pairs = pairs_of(recomputed, model)
        named = {"model": model, "runtime_a": ARMS[0], "runtime_b": ARMS[1]}
        for quantity in ("energy_j_per_token", "energy_j_per_correct"):
            row = row_of(table, quantity=quantity, **named)
            assert row["value"] == same(other.paired_ratio(pairs, quantity)[0])
        row = row_of(table, quantity="pass_at_1", **named)
        a, b = pairs[0]
        assert row["value"] == a["passed"] / a["problems"] - b["passed"] / b["problems"]


def test_the_null_control_is_the_same(recomputed, comparisons):
    """In the older campaign it was always of one arm; since then the arms take turns."""
    pairs = [other.control_pairs(recomputed, model) for model in MODELS]
    assert [len(each) for each in pairs] == [5, 5]
    turns = {second["arm"] for each in pairs for _, second in each}
    name = ALL_ARMS if len(turns) > 1 else ARMS[0]
    family = [other.log_ratios(each, "energy_j_per_token") for each in pairs]
    for model, expected in zip(MODELS, other.tests_of(family), strict=True):
        row = row_of(comparisons, model=model, kind="control")
        assert (row["runtime_a"], row["runtime_b"]) == (name, name)
        assert [row[name] for name in TESTED] == same([expected[name] for name in TESTED])
        assert row["verdict"] == "no claim", "energy is estimated"
        holm = [row[name] for name in ("p_holm", "p_size_holm", "p_equivalence_holm")]
        assert verdict(*holm) == expected["word"]


def test_the_ratios_that_explain_are_the_same(recomputed, tables):
    table = explanations(tables.tasks, tables.runs, ARMS)
    named = {"runtime_a": ARMS[0], "runtime_b": ARMS[1]}
    for model in MODELS:
        pairs = pairs_of(recomputed, model)
        for quantity in (
            *("energy_j_per_token", "gross_energy_j_per_token", "net_energy_j_per_token"),
            *("energy_j_per_task", "duration_s", "seconds_per_token", "power_w"),
            "generated_tokens",
        ):
            row = row_of(table, model=model, quantity=quantity, **named)
            expected = list(other.paired_ratio(pairs, quantity))
            assert [row[name] for name in ("ratio", "low", "high")] == same(expected)
        arms = [other.of(recomputed, model, arm, "task") for arm in ARMS]
        equal = other.equal_texts(*arms)
        row = row_of(table, model=model, quantity=EQUAL_TEXT, **named)
        assert row["note"].startswith(f"{len(equal)} of 164 problems")
        expected = list(other.equal_text_ratio(pairs, equal))
        assert [row[name] for name in ("ratio", "low", "high")] == same(expected)
