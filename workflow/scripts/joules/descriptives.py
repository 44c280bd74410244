"""What the runs were like, without a test of runtimes: cells and drift.

Tables in and out are pandas frames, energies in joule, times in second. A number that the data
cannot give is NaN or None.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.stattools import durbin_watson

from joules.statistics import (
    ALPHA,
    METRIC,
    Values,
    mean_interval,
    number_or_none,
    numeric,
)

CELL_METRICS = (
    *("energy_j_per_token", "energy_j_per_task", "tokens_per_s", "power_w", "duration_s"),
    *("energy_j", "net_energy_j_per_token", "energy_delay_js", "generated_tokens"),
    *("load_energy_j", "load_duration_s", "idle_power_w", "resident_power_w"),
    *("residency_power_w", "dram_share", "gap_share", "gco2e_per_1000_tasks"),
)


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model, runtime and kind: means of its valid runs with 95 % t intervals.

    `sd` and `cv` are of energy per token; the interval of `cv` is the chi-square interval of the
    SD over the mean. Every run answers the same problems, so pass@1 is that of one run (the first
    valid one) with Wilson's interval over problems; where the study has kind `quality`, that run
    counts for kind `task` too. `energy_j_per_correct` = energy per task / pass@1.
    """
    derived = runs.assign(
        net_energy_j_per_token=runs["net_energy_j"] / runs["generated_tokens"],
        energy_delay_js=runs["energy_j"] * runs["duration_s"],
        dram_share=runs["dram_energy_j"] / runs["energy_j"],
        gco2e_per_1000_tasks=runs["gco2e"] / runs["tasks"] * 1000.0,
    )
    rows = []
    for (model, runtime, label, kind), group in derived.groupby(
        ["model", "runtime", "runtime_label", "kind"]
    ):
        valid = group[group["valid"]].sort_values("block")
        row: dict[str, Any] = {
            "model": model,
            "runtime": runtime,
            "runtime_label": label,
            "kind": kind,
            "tier": group["tier"].iloc[0],
            "runs": len(group),
            "n": len(valid),
        }
        for metric in CELL_METRICS:
            row[f"mean_{metric}"] = valid[metric].mean()
            row[f"low_{metric}"], row[f"high_{metric}"] = mean_interval(valid[metric].to_numpy())
        row |= _spread(valid[METRIC].to_numpy())
        graded = _quality_run(derived, model, runtime, kind, valid)
        row |= _pass_rate(graded, row["mean_energy_j_per_task"])
        for name in ("truncated", "aborted"):
            row[f"{name}_share"] = (
                valid[name].sum(min_count=1) / valid["tasks"].sum() if len(valid) else None
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
    runs: pd.DataFrame, model: Any, runtime: Any, kind: Any, valid: pd.DataFrame
) -> pd.DataFrame:
    """Return the rows whose first one tells the cell's pass@1."""
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


def wilson(passed: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion (J. Am. Stat. Assoc. 22, 1927)."""
    low, high = proportion_confint(passed, total, alpha=ALPHA, method="wilson")
    return float(low), float(high)


DRIFT_COLUMNS = [
    *("model", "runtime", "kind", "quantity", "n", "kendall_tau", "p_kendall", "slope_per_run"),
    *("slope_low", "slope_high", "durbin_watson", "p_ljungbox"),
]
LEAST_FOR_TREND = 4
MOST_FOR_SLOPE = 2_000  # runs; the slope takes all pairs, so its memory grows with their square


def drift(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trend of energy per token and of idle power over the order of the valid runs.

    The residual is a run's value over its cell's mean, less 1. One row per cell, and one with
    model, runtime and kind `all` over the whole study. `slope_per_run`: Theil-Sen, relative change
    per place in the order, with 95 % interval (of more than 2,000 runs, every second, third and so
    on is taken); Kendall's tau for a trend; Durbin-Watson (2: no autocorrelation) and Ljung-Box at
    lag 1. Diagnostics: blocks are what protects from drift.
    """
    cell = ["model", "runtime", "kind"]
    valid = runs[runs["valid"] & (runs["kind"] != "quality")].sort_values("position_actual")
    rows = []
    for quantity in (METRIC, "idle_power_w"):
        residual = valid[quantity] / valid.groupby(cell)[quantity].transform("mean") - 1
        placed = valid.assign(residual=residual).replace([np.inf, -np.inf], np.nan)
        placed = placed.dropna(subset=["residual"])
        groups = [(("all", "all", "all"), placed), *placed.groupby(cell)]
        for names, group in groups:
            row = dict(zip(cell, names, strict=True)) | {"quantity": quantity, "n": len(group)}
            rows.append(row | _trend(group["position_actual"], group["residual"]))
    return numeric(pd.DataFrame(rows, columns=DRIFT_COLUMNS))


def _trend(order: pd.Series, residual: pd.Series) -> dict[str, float | None]:
    place, value = order.to_numpy(dtype=float), residual.to_numpy(dtype=float)
    if len(value) < LEAST_FOR_TREND or np.ptp(value) == 0:
        return {}
    tau = stats.kendalltau(place, value)
    thin = slice(None, None, math.ceil(len(value) / MOST_FOR_SLOPE))
    slope = stats.theilslopes(value[thin], place[thin], alpha=1 - ALPHA)
    return {
        "kendall_tau": float(tau.statistic),
        "p_kendall": float(tau.pvalue),
        "slope_per_run": float(slope.slope),
        "slope_low": float(slope.low_slope),
        "slope_high": float(slope.high_slope),
        "durbin_watson": float(durbin_watson(value)),
        "p_ljungbox": number_or_none(lambda: acorr_ljungbox(value, lags=[1])["lb_pvalue"].iloc[0]),
    }
