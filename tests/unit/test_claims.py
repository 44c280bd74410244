"""What the article may say, and every number that it states."""

import json

import pandas as pd
import pytest
import synthetic

from joules.claims import (
    claims,
    left_out_blocks,
    permission,
    representative_records,
    study_facts,
)
from joules.descriptives import cells, phases, quality
from joules.files import read_json, to_json
from joules.schedule import Run
from joules.statistics import compare
from joules.tables import tabulate


def comparisons(blocks=8, pairs=1, control=(0.99, 1.01), split=""):
    """Return comparisons whose p's exist; `control` is the interval of the control's ratio."""
    columns = {"model": "m", "runtime_a": "a", "tier": "measured", "n_blocks": blocks}
    columns |= {"split_blocks": split, "invalid_blocks": "", "p_value": 0.5 if blocks > 1 else None}
    rows = [columns | {"kind": "task", "runtime_b": f"b{number}"} for number in range(pairs)]
    if control:
        low, high = control
        ratios = {"ratio": (low + high) / 2, "ratio_low": low, "ratio_high": high}
        rows.append(columns | ratios | {"kind": "control", "runtime_b": "a"})
    columns_of_ratio = {"ratio": None, "ratio_low": None, "ratio_high": None}
    return pd.DataFrame([columns_of_ratio | row for row in rows])


@pytest.mark.parametrize("tier", ["measured", "sampled"])
def test_enough_blocks_and_a_quiet_control_permit_a_claim(tier):
    found = permission(comparisons(), tier)
    assert found["energy_difference"] is True
    assert found["smallest_p"] == 2 / 2**8


@pytest.mark.parametrize(
    ("table", "tier", "words"),
    [
        (comparisons(), "estimated", "modelled"),
        (comparisons(blocks=5), "measured", "the smallest possible p is 0.0625"),
        (comparisons(blocks=6, pairs=2), "measured", "Holm's correction over 2 pairs"),
        (comparisons(control=None), "measured", "no null control"),
        (comparisons(control=(1.021, 1.06)), "measured", "1.021 to 1.060"),
        (comparisons(control=(0.95, 0.979)), "measured", "differs from itself"),
        (comparisons(blocks=0, split="1;2"), "measured", "one session"),
        (comparisons(pairs=0), "measured", "no pair"),
    ],
)
def test_a_claim_is_refused_with_its_reason(table, tier, words):
    found = permission(table, tier)
    assert found["energy_difference"] is False
    assert words in found["reason"]


@pytest.mark.parametrize("interval", [(0.96, 1.10), (1.005, 1.06), (0.90, 0.985)])
def test_a_control_whose_interval_reaches_the_range_is_no_evidence_of_a_fault(interval):
    assert permission(comparisons(control=interval), "measured")["energy_difference"] is True


def claims_of(folder, **options):
    study = synthetic.write_study(folder, validate=False, **options)
    tables = tabulate(study.records, study.grades, study.agreements, study.config)
    chosen = representative_records(study.records, tables.runs)
    facts = study_facts(tables.runs, [read_json(path) for path in chosen], study.config)
    order = study.config["runtimes"]
    agreements = [read_json(path) for path in study.agreements]
    found = claims(
        facts,
        cells(tables.runs),
        compare(tables.runs, order),
        quality(tables.tasks, tables.runs, agreements, order),
        phases(tables.tasks, tables.runs),
    )
    return tables, json.loads(to_json(found))


CELL_NAMES = [
    "energy_j_per_token",
    "energy_j_per_task",
    "energy_j_per_correct",
    "tokens_per_s",
    "power_w",
    "duration_s",
    "pass_at_1",
    "passed",
    "graded",
    "truncated_share",
    "aborted_share",
    "gco2e_per_1000_tasks",
    "generated_tokens",
    "cv",
    "energy_j",
    "load_energy_j",
    "load_duration_s",
    "idle_power_w",
    "resident_power_w",
    "dram_share",
    "prefill_share",
    "gap_share",
]
PAIR_NAMES = [
    "ratio",
    "p_value",
    "p_holm",
    "p_equivalence",
    "p_equivalence_holm",
    "verdict",
    "n_blocks",
    "hedges_g",
    "cliffs_delta",
    "minimum_ratio",
    "n_for_margin",
    "same_text_share",
    "both_pass",
    "only_a",
    "only_b",
    "neither",
    "p_mcnemar",
]
CONTROL_NAMES = ["ratio", "p_value", "p_holm", "verdict", "n_blocks"]


def test_every_claim_of_the_contract_is_there_even_where_it_has_no_value(tmp_path):
    _, found = claims_of(tmp_path, blocks=1, tier="estimated")
    for model in ("parrot-1m", "parrot-3m"):
        for runtime in ("ollama", "llama_cpp"):
            assert {f"cell.{model}.{runtime}.{name}" for name in CELL_NAMES} <= set(found["claims"])
        pair = f"pair.{model}.ollama.llama_cpp"
        assert {f"{pair}.{name}" for name in PAIR_NAMES} <= set(found["claims"])
        assert {f"control.{model}.{name}" for name in CONTROL_NAMES} <= set(found["claims"])
    assert found["claims"]["pair.parrot-1m.ollama.llama_cpp.p_holm"]["value"] is None
    assert found["claims"]["cell.parrot-1m.ollama.dram_share"]["value"] is None
    for claim in found["claims"].values():
        assert set(claim) - {"claimable"} == {
            *("value", "unit", "low", "high", "n", "tier", "source")
        }


def test_nothing_estimated_may_be_claimed_however_clear_it_looks(tmp_path):
    _, found = claims_of(tmp_path, blocks=8, ratios={"llama_cpp": 4.7}, tier="estimated")
    assert found["permission"]["energy_difference"] is False
    verdict = found["claims"]["pair.parrot-1m.ollama.llama_cpp.verdict"]
    assert (verdict["value"], verdict["tier"], verdict["claimable"]) == (
        *("different", "estimated"),
        False,
    )


def test_what_was_measured_may_be_claimed_and_names_its_source(tmp_path):
    tables, found = claims_of(tmp_path, blocks=8, ratios={"llama_cpp": 1.2}, seed=4)
    assert found["permission"]["energy_difference"] is True
    ratio = found["claims"]["pair.parrot-3m.ollama.llama_cpp.ratio"]
    assert ratio["low"] < ratio["value"] < ratio["high"] < 1
    assert (ratio["n"], ratio["claimable"]) == (8, True)
    assert ratio["source"] == (
        "statistics/comparisons.csv model=parrot-3m runtime_a=ollama runtime_b=llama_cpp kind=task"
    )
    runs = tables.runs
    own = runs[(runs["model"] == "parrot-3m") & (runs["runtime"] == "ollama")]
    own = own[own["kind"] == "task"]
    carbon = found["claims"]["cell.parrot-3m.ollama.gco2e_per_1000_tasks"]
    grams = own["energy_j"].mean() / own["tasks"].iloc[0] * 1000 / 3.6e6 * 268
    assert carbon["value"] == pytest.approx(grams, rel=1e-6)


def test_the_study_says_where_when_and_on_what_it_was_measured(tmp_path):
    bad = Run("parrot-1m", "ollama", "task", 2)
    _, found = claims_of(tmp_path, blocks=2, invalid=[bad])
    study = found["study"]
    assert [model["name"] for model in study["models"]] == ["parrot-1m", "parrot-3m"]
    assert [runtime["label"] for runtime in study["runtimes"]] == ["Ollama", "llama-cpp-python"]
    assert (study["runs"], study["valid_runs"], study["blocks"], study["problems"]) == (
        12,
        11,
        2,
        10,
    )
    assert study["control_runtime"] == "ollama"
    assert study["measured_on"] == "2026-11-25"
    assert study["machine"]["memory_gb"] == pytest.approx(17.18, abs=0.01)
    assert study["carbon"] == {
        "grams_per_kwh": 268,
        "country_iso_code": "NLD",
        "source": "ember2024",
    }
    broken = {"model": "parrot-1m", "runtime": "ollama", "kind": "task", "block": 2}
    assert study["invalid_runs"] == [broken | {"codes": ["foreign_cpu"], "valid": False}]


def test_blocks_that_were_left_out_are_reported_with_the_command_that_mends_them():
    lines = list(left_out_blocks(comparisons(split="1;2", control=None)))
    assert len(lines) == 1
    assert "blocks 1, 2 are left out" in lines[0] and "--forcerun measure --" in lines[0]
