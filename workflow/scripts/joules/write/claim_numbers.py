"""The numbers of the article under their names, each from one row of one table.

What a row does not give is None.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import pandas as pd

from joules.write.claims_file import Claim
from joules.write.permission import can_differ

CELL_UNITS = {
    "energy_j_per_token": "J/token",
    "energy_j_per_task": "J",
    "tokens_per_s": "token/s",
    "power_w": "W",
    "duration_s": "s",
    "energy_j": "J",
    "net_energy_j_per_token": "J/token",
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
PAIR_UNITS = {
    **dict.fromkeys(("p_value", "p_holm", "p_equivalence", "p_equivalence_holm"), "1"),
    "verdict": "",
    "n_blocks": "block",
    **dict.fromkeys(("hedges_g", "cliffs_delta", "minimum_ratio"), "1"),
    "n_for_margin": "block",
}
CONTROL_UNITS = {name: PAIR_UNITS[name] for name in ("p_value", "p_holm", "verdict", "n_blocks")}
ANSWER_UNITS = {
    "same_text_share": "1",
    **dict.fromkeys(("both_pass", "only_a", "only_b", "neither", "flips"), "task"),
    "p_mcnemar": "1",
    "compared_prompts": "task",
    "first_difference_token": "token",
}
ANSWER_COUNTS = {
    "same_text_share": "compared_prompts",
    "first_difference_token": "differing_answers",
}
KIND_METRICS = (
    *("energy_j_per_token", "energy_j_per_task", "tokens_per_s", "power_w", "generated_tokens"),
)
PHASE_UNITS = {
    "prefill_j_per_token": ("J/token", ("prefill_low", "prefill_high"), "runs"),
    "decode_j_per_token": ("J/token", ("decode_low", "decode_high"), "runs"),
    "overhead_j_per_task": ("J", None, "runs"),
    "prefill_share": ("1", None, "runs"),
    "direct_prefill_j_per_token": ("J/token", None, "direct_tasks"),
    "direct_decode_j_per_token": ("J/token", None, "direct_tasks"),
    "direct_tasks": ("task", None, None),
}
BREAK_EVEN_UNITS = {
    **dict.fromkeys(("load_a_j", "load_b_j", "task_a_j", "task_b_j"), "J"),
    "break_even_tasks": "1",
    "note": "",
}


def _plain(value: Any) -> int | float | str | None:
    """Return a table's cell as JSON takes it; NaN becomes None, whole floats stay floats."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def _number(value: Any) -> float | None:
    found = _plain(value)
    return None if isinstance(found, str) else found


def _claim(
    row: pd.Series,
    column: str,
    unit: str,
    source: str,
    *,
    interval: tuple[str, str] | None = None,
    n: str | None = None,
    tier: str | None = None,
) -> Claim:
    low, high = interval or ("", "")
    count = _plain(row.get(n)) if n else None
    value = _plain(row.get(column))
    if value is not None and not isinstance(value, str):
        value = int(value) if unit in ("task", "block", "") else float(value)
    return Claim(
        value=value,
        unit=unit,
        low=_number(row.get(low)),
        high=_number(row.get(high)),
        n=None if count is None else int(count),
        tier=tier,
        source=source,
    )


def _source(table: str, row: pd.Series, *keys: str) -> str:
    return " ".join([f"statistics/{table}.csv", *(f"{key}={row[key]}" for key in keys)])


def _tier_of(cells: pd.DataFrame) -> str:
    """Return the tier of the study; `tabulate` lets no two tiers into one."""
    return str(cells["tier"].iloc[0])


def cell_claims(cells: pd.DataFrame, phases: pd.DataFrame) -> dict[str, Claim]:
    """Return `cell.{model}.{runtime}.X` (kind `task`) and `kind.{kind}.{model}.{runtime}.X`."""
    found: dict[str, Claim] = {}
    for _, row in cells.iterrows():
        source = _source("cells", row, "model", "runtime", "kind")
        tier = str(row["tier"])
        means = {
            metric: _claim(
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
        found[f"{name}.cv"] = _claim(
            row, "cv", "1", source, interval=("cv_low", "cv_high"), n="n", tier=tier
        )
        found[f"{name}.pass_at_1"] = _claim(
            row, "pass_at_1", "1", source, interval=("pass_low", "pass_high"), n="graded"
        )
        found[f"{name}.energy_j_per_correct"] = _claim(
            row, "energy_j_per_correct", "J", source, n="n", tier=tier
        )
        for column, unit in CELL_COUNTS.items():
            found[f"{name}.{column}"] = _claim(row, column, unit, source)
    for _, row in phases.iterrows():
        source = _source("phases", row, "model", "runtime")
        for column, (unit, interval, n) in PHASE_UNITS.items():
            found[f"cell.{row['model']}.{row['runtime']}.{column}"] = _claim(
                row, column, unit, source, interval=interval, n=n, tier=_tier_of(cells)
            )
    return found


def pair_claims(
    comparisons: pd.DataFrame, quality: pd.DataFrame, permitted: bool
) -> dict[str, Claim]:
    """Return `pair.{model}.{a}.{b}.X`, `fixed.{model}.{a}.{b}.X` and `control.{model}.X`.

    Claims on the energy of a pair carry `claimable`: whether the article may state them as a
    finding. A ratio is that of `runtime_a` over `runtime_b`.
    """
    found: dict[str, Claim] = {}
    tested = comparisons[comparisons["p_value"].notna()].groupby("kind").size()
    for _, row in comparisons.iterrows():
        model, a, b, kind = (row[key] for key in ("model", "runtime_a", "runtime_b", "kind"))
        control = kind == "control"
        name = f"{'pair' if kind == 'task' else kind}.{model}" + ("" if control else f".{a}.{b}")
        source = _source("comparisons", row, "model", "runtime_a", "runtime_b", "kind")
        claim = partial(_claim, row, source=source, n="n_blocks", tier=str(row["tier"]))
        own = {"ratio": claim("ratio", "1", interval=("ratio_low", "ratio_high"))}
        for column, unit in (CONTROL_UNITS if control else PAIR_UNITS).items():
            own[column] = claim(column, unit)
        if not control:
            claimable = permitted and can_differ(int(row["n_blocks"]), int(tested.get(kind, 0)))
            own = {
                column: msgspec.structs.replace(each, claimable=claimable)
                for column, each in own.items()
            }
        found |= {f"{name}.{column}": each for column, each in own.items()}
        if kind == "task":
            found[f"omnibus.{model}.p_friedman"] = claim("p_friedman", "1")
    for _, row in quality.iterrows():
        source = _source("quality", row, "model", "runtime_a", "runtime_b")
        for column, unit in ANSWER_UNITS.items():
            name = f"pair.{row['model']}.{row['runtime_a']}.{row['runtime_b']}.{column}"
            found[name] = _claim(row, column, unit, source, n=ANSWER_COUNTS.get(column))
    return found


def further_claims(tables: Mapping[str, pd.DataFrame]) -> dict[str, Claim]:
    """Return the claims of break-even, sensitivity, ranking and contested problems.

    Ids: `break_even.{model}.{a}.{b}.X`, `sensitivity.{model}.{a}.{b}.{method}.X`,
    `rank.{model}.{runtime}.X`, `contested.{model}.{runtime}.X`.
    """
    found: dict[str, Claim] = {}
    tier = _tier_of(tables["cells"])
    for _, row in tables["break_even"].iterrows():
        source = _source("break_even", row, "model", "runtime_a", "runtime_b")
        name = f"break_even.{row['model']}.{row['runtime_a']}.{row['runtime_b']}"
        for column, unit in BREAK_EVEN_UNITS.items():
            found[f"{name}.{column}"] = _claim(row, column, unit, source, tier=tier)
    for _, row in tables["sensitivity"].iterrows():
        source = _source("sensitivity", row, "model", "runtime_a", "runtime_b", "method")
        pair = f"{row['model']}.{row['runtime_a']}.{row['runtime_b']}"
        name = f"sensitivity.{pair}.{row['method']}"
        found[f"{name}.ratio"] = _claim(
            row, "ratio", "1", source, interval=("low", "high"), n="n", tier=tier
        )
        found[f"{name}.p_value"] = _claim(row, "p", "1", source, n="n", tier=tier)
        found[f"{name}.note"] = _claim(row, "note", "", source)
    for _, row in tables["ranking"].iterrows():
        source = _source("ranking", row, "model", "runtime")
        name = f"{row['model']}.{row['runtime']}"
        found[f"rank.{name}.rank"] = _claim(row, "rank", "", source, tier=tier)
        found[f"rank.{name}.ratio_to_best"] = _claim(
            row, "ratio_to_best", "1", source, interval=("low", "high"), tier=tier
        )
        tied = _claim(row, "tied_with", "", source)
        found[f"rank.{name}.tied_with"] = msgspec.structs.replace(tied, value=tied.value or "")
    for _, row in tables["contested"].iterrows():
        source = _source("contested", row, "model", "runtime")
        name = f"{row['model']}.{row['runtime']}"
        for end in ("", "_without"):
            found[f"contested.{name}.pass_at_1{end}"] = _claim(
                row,
                f"pass_at_1{end}",
                "1",
                source,
                interval=(f"low{end}", f"high{end}"),
                n=f"graded{end}",
            )
            for column in ("passed", "graded"):
                found[f"contested.{name}.{column}{end}"] = _claim(
                    row, f"{column}{end}", "task", source
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
    return _claim(row, "value", unit, source, n="n", tier=tier)


def study_claims(tables: Mapping[str, pd.DataFrame]) -> dict[str, Claim]:
    """Return how large the noise is: `noise.X` over all cells and pairs, `drift.X` over all runs.

    `noise.minimum_ratio` is the largest of the pairs' smallest detectable ratios, and
    `noise.n_for_margin` the most blocks that one of them needs for a difference of the margin.
    """
    cells, comparisons, drift = (tables[name] for name in ("cells", "comparisons", "drift"))
    tier = _tier_of(cells)
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
        found[f"drift.{column}"] = _claim(row, column, "1", source, interval=ends, n="n", tier=tier)
    return found
