"""What the runs of each cell (model, runtime, kind) were like: means with their intervals.

Tables in and out are pandas frames, energies in joule, times in second. A number that the data
cannot give is NaN or None.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from joules.analyse.conventions import METRIC, Row, Values
from joules.analyse.derived_columns import with_columns_of_cells
from joules.analyse.estimates import mean_interval, numeric, wilson
from joules.analyse.problems import per_correct_intervals

CELL_METRICS = (
    *("energy_j_per_token", "energy_j_per_task", "tokens_per_s", "power_w", "duration_s"),
    *("energy_j", "net_energy_j_per_token", "energy_delay_js", "generated_tokens"),
    *("gross_energy_j_per_token", "seconds_per_token", "idle_share"),
    *("load_energy_j", "load_duration_s", "idle_power_w", "resident_power_w"),
    *("residency_power_w", "dram_share", "gap_share", "gco2e_per_1000_tasks"),
)


def cells(
    runs: pd.DataFrame,
    tasks: pd.DataFrame | None = None,
    metrics: Sequence[str] = CELL_METRICS,
) -> pd.DataFrame:
    """Return one row per model, runtime and kind: means of its valid runs with 95 % t intervals.

    `sd` and `cv` are of energy per token; the interval of `cv` is the chi-square interval of the
    SD over the mean. Every run answers the same problems, so pass@1 is that of one run (the first
    valid one) with Wilson's interval over problems; where the study has kind `quality`, that run
    counts for kind `task` too. The shares of answers that were cut at the limit, and that the
    runtime ended, are of all valid runs of the kind that pass@1 is of. `energy_j_per_correct` =
    energy per task / pass@1; its interval, of kind `task` and where the table of tasks is given,
    is over blocks and problems (`joules.analyse.problems`).
    """
    derived = with_columns_of_cells(runs)
    per_correct = {} if tasks is None else per_correct_intervals(tasks, runs)
    rows: list[Row] = []
    for (model, runtime, label, kind), group in derived.groupby(
        ["model", "runtime", "runtime_label", "kind"]
    ):
        valid = group[group["valid"]].sort_values("block")
        row: Row = {
            "model": model,
            "runtime": runtime,
            "runtime_label": label,
            "kind": kind,
            "tier": group["tier"].iloc[0],
            "runs": len(group),
            "n": len(valid),
        }
        for metric in metrics:
            row[f"mean_{metric}"] = valid[metric].mean()
            row[f"low_{metric}"], row[f"high_{metric}"] = mean_interval(valid[metric].to_numpy())
        row |= _spread(valid[METRIC].to_numpy())
        graded = _quality_run(derived, model, runtime, kind, valid)
        row |= _pass_rate(graded, valid["energy_j_per_task"].mean())
        ends = per_correct.get((model, runtime), (None, None)) if kind == "task" else (None, None)
        row["low_energy_j_per_correct"], row["high_energy_j_per_correct"] = ends
        for name in ("truncated", "aborted"):
            row[f"{name}_share"] = (
                graded[name].sum(min_count=1) / graded["tasks"].sum() if len(graded) else None
            )
        rows.append(row)
    return numeric(pd.DataFrame(rows))


def _spread(values: Values) -> dict[str, float | None]:
    n = len(values)
    if n < 2:
        return dict.fromkeys(("sd", "cv", "cv_low", "cv_high"))
    sd = float(np.std(values, ddof=1))
    cv = sd / float(np.mean(values))
    low, high = (math.sqrt((n - 1) / stats.chi2.ppf(q, n - 1)) for q in (0.975, 0.025))
    return {"sd": sd, "cv": cv, "cv_low": cv * low, "cv_high": cv * high}


def _quality_run(
    runs: pd.DataFrame, model: str, runtime: str, kind: str, valid: pd.DataFrame
) -> pd.DataFrame:
    """Return the rows whose first one tells the cell's pass@1, and how answers ended."""
    if kind != "task":
        return valid
    own = runs[(runs["model"] == model) & (runs["runtime"] == runtime)]
    quality = own[(own["kind"] == "quality") & own["valid"]]
    return quality if len(quality) else valid


def _pass_rate(graded: pd.DataFrame, energy_j_per_task: float) -> dict[str, float | None]:
    names = ("passed", "graded", "pass_at_1", "pass_low", "pass_high", "energy_j_per_correct")
    known = graded.dropna(subset=["passed", "graded"])
    if not len(known) or not known["graded"].iloc[0]:
        return dict.fromkeys(names)
    passed, total = int(known["passed"].iloc[0]), int(known["graded"].iloc[0])
    low, high = wilson(passed, total)
    per_correct = energy_j_per_task * total / passed if passed else None
    return dict(zip(names, (passed, total, passed / total, low, high, per_correct), strict=True))
