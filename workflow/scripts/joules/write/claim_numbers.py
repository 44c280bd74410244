"""The numbers of cells, of counts and of the whole study, each from one row of one table.

What a row does not give is None.
"""

from collections.abc import Mapping

import pandas as pd

from joules.write.claim_rows import claim_of, source_of, tier_of
from joules.write.claims_file import Claim

CELL_UNITS = {
    "energy_j_per_token": "J/token",
    "energy_j_per_task": "J",
    "tokens_per_s": "token/s",
    "power_w": "W",
    "duration_s": "s",
    "energy_j": "J",
    "gross_energy_j_per_token": "J/token",
    "net_energy_j_per_token": "J/token",
    "idle_share": "1",
    "energy_delay_js": "J s",
    "generated_tokens": "token",
    "load_energy_j": "J",
    "load_duration_s": "s",
    "idle_power_w": "W",
    "resident_power_w": "W",
    "residency_power_w": "W",
    "dram_share": "1",
    "gap_share": "1",
    "gco2e_per_1000_tasks": "g",
}
WITHOUT_TIER = {"tokens_per_s", "duration_s", "generated_tokens", "load_duration_s"}
CELL_COUNTS = {"passed": "task", "graded": "task", "truncated_share": "1", "aborted_share": "1"}
KIND_METRICS = (
    *("energy_j_per_token", "energy_j_per_task", "tokens_per_s", "power_w", "generated_tokens"),
)
PHASE_UNITS = {
    "prefill_power_w": ("W", "runs"),
    "decode_power_w": ("W", "runs"),
    "overhead_power_w": ("W", "runs"),
    "prefill_j_per_token": ("J/token", "runs"),
    "decode_j_per_token": ("J/token", "runs"),
    "overhead_j_per_task": ("J", "runs"),
    "prefill_share": ("1", "runs"),
    "direct_prefill_j_per_token": ("J/token", "direct_tasks"),
    "direct_decode_j_per_token": ("J/token", "direct_tasks"),
    "direct_prefill_share": ("1", "direct_tasks"),
    "direct_tasks": ("task", None),
}


def cell_claims(cells: pd.DataFrame, phases: pd.DataFrame) -> dict[str, Claim]:
    """Return `cell.{model}.{runtime}.X` (kind `task`) and `kind.{kind}.{model}.{runtime}.X`."""
    found: dict[str, Claim] = {}
    for _, row in cells.iterrows():
        source = source_of("cells", row, "model", "runtime", "kind")
        tier = str(row["tier"])
        means = {
            metric: claim_of(
                row,
                f"mean_{metric}",
                unit,
                source,
                interval=(f"low_{metric}", f"high_{metric}"),
                n="n",
                tier=None if metric in WITHOUT_TIER else tier,
            )
            for metric, unit in CELL_UNITS.items()
        }
        for metric in KIND_METRICS:
            name = f"kind.{row['kind']}.{row['model']}.{row['runtime']}.{metric}"
            found[name] = means[metric]
        if row["kind"] != "task":
            continue
        name = f"cell.{row['model']}.{row['runtime']}"
        found |= {f"{name}.{metric}": claim for metric, claim in means.items()}
        found[f"{name}.cv"] = claim_of(
            row, "cv", "1", source, interval=("cv_low", "cv_high"), n="n", tier=tier
        )
        found[f"{name}.pass_at_1"] = claim_of(
            row, "pass_at_1", "1", source, interval=("pass_low", "pass_high"), n="graded"
        )
        found[f"{name}.energy_j_per_correct"] = claim_of(
            row,
            "energy_j_per_correct",
            "J",
            source,
            interval=("low_energy_j_per_correct", "high_energy_j_per_correct"),
            n="n",
            tier=tier,
        )
        for column, unit in CELL_COUNTS.items():
            found[f"{name}.{column}"] = claim_of(row, column, unit, source)
    for _, row in phases.iterrows():
        source = source_of("phases", row, "model", "runtime")
        for column, (unit, n) in PHASE_UNITS.items():
            found[f"cell.{row['model']}.{row['runtime']}.{column}"] = claim_of(
                row,
                column,
                unit,
                source,
                interval=(f"{column}_low", f"{column}_high"),
                n=n,
                tier=tier_of(cells),
            )
    return found


def count_claims(
    table: pd.DataFrame, name: str, column: str, graded: Mapping[tuple[str, str], int]
) -> dict[str, Claim]:
    """Return `{name}.{model}.{runtime}.{label}` for every label that occurs in the study.

    `table` has one row per cell and label (`column`); a label that a cell does not have counts 0.
    `n` is the number of graded answers of the cell.
    """
    labels = sorted(set(table[column]))
    found: dict[str, Claim] = {}
    for (model, runtime), own in table.groupby(["model", "runtime"]):
        counts = dict(zip(own[column], own["count"], strict=True))
        for label in labels:
            found[f"{name}.{model}.{runtime}.{label}"] = Claim(
                value=int(counts.get(label, 0)),
                unit="task",
                low=None,
                high=None,
                n=graded.get((str(model), str(runtime))),
                tier=None,
                source=f"statistics/{name}.csv model={model} runtime={runtime} {column}={label}",
            )
    return found


def _summary(values: pd.Series, how: str, unit: str, source: str, tier: str) -> Claim:
    row = pd.Series({"value": getattr(values.dropna(), how)(), "n": int(values.notna().sum())})
    return claim_of(row, "value", unit, source, n="n", tier=tier)


def study_claims(tables: Mapping[str, pd.DataFrame]) -> dict[str, Claim]:
    """Return how large the noise is: `noise.X` over all cells and pairs, `drift.X` over all runs.

    `noise.minimum_ratio` is the largest of the pairs' smallest detectable ratios, and
    `noise.n_for_margin` the most blocks that one of them needs for a difference of the margin.
    """
    cells, comparisons, drift = (tables[name] for name in ("cells", "comparisons", "drift"))
    tier = tier_of(cells)
    cv = cells.loc[cells["kind"] == "task", "cv"]
    found = {
        f"noise.{words}_cv": _summary(cv, how, "1", "statistics/cells.csv kind=task cv", tier)
        for words, how in (("smallest", "min"), ("median", "median"), ("largest", "max"))
    }
    of_kind = {kind: comparisons[comparisons["kind"] == kind] for kind in ("task", "control")}
    for name, kind, column, how, unit in (
        ("control_low", "control", "ratio", "min", "1"),
        ("control_high", "control", "ratio", "max", "1"),
        ("minimum_ratio", "task", "minimum_ratio", "max", "1"),
        ("n_for_margin", "task", "n_for_margin", "max", "block"),
    ):
        source = f"statistics/comparisons.csv kind={kind} {column}"
        values = of_kind[kind][column].astype(float)
        found[f"noise.{name}"] = _summary(values, how, unit, source, tier)
    whole = drift[(drift["model"] == "all") & (drift["quantity"] == "energy_j_per_token")]
    row = whole.iloc[0] if len(whole) else pd.Series(dtype=object)
    source = "statistics/drift.csv model=all quantity=energy_j_per_token"
    for column in ("slope_per_run", "kendall_tau", "p_kendall"):
        ends = ("slope_low", "slope_high") if column == "slope_per_run" else None
        found[f"drift.{column}"] = claim_of(
            row, column, "1", source, interval=ends, n="n", tier=tier
        )
    return found
