"""Whether the machine drifted: the trend of the runs over the order in which they were measured."""

import math

import numpy as np
import pandas as pd

from joules.analyse.conventions import ALPHA, METRIC
from joules.analyse.estimates import number_or_none, numeric

DRIFT_COLUMNS = [
    *("model", "runtime", "kind", "quantity", "n", "kendall_tau", "p_kendall", "slope_per_run"),
    *("slope_low", "slope_high", "durbin_watson", "p_ljungbox"),
]
LEAST_FOR_TREND = 4
MOST_FOR_SLOPE = 2_000  # runs; the slope takes all pairs, so its memory grows with their square


def deviations(runs: pd.DataFrame, quantity: str = METRIC) -> pd.DataFrame:
    """Return the valid runs in the order of measuring, with the column `deviation`.

    It is the run's value over the mean of its arm, less 1. A control repeats a task run, so both
    have one mean. Runs of kind `quality` follow after the blocks and are none of them; a run
    without that value has no row.
    """
    valid = runs[runs["valid"] & (runs["kind"] != "quality")].sort_values("position_actual")
    arm = [valid["model"], valid["runtime"], valid["kind"].replace("control", "task")]
    deviation = valid[quantity] / valid.groupby(arm)[quantity].transform("mean") - 1
    placed = valid.assign(deviation=deviation.replace([np.inf, -np.inf], np.nan))
    return placed.dropna(subset=["deviation"])


def drift(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trend of energy per token and of idle power over the order of the valid runs.

    It is the trend of the `deviations`. One row per cell, and one with model, runtime and kind
    `all` over the whole study. `slope_per_run`: Theil-Sen, relative change per place in the order,
    with 95 % interval (of more than 2,000 runs, every second, third and so on is taken); Kendall's
    tau for a trend; Durbin-Watson (2: no autocorrelation) and Ljung-Box at lag 1. Diagnostics:
    blocks are what protects from drift.
    """
    cell = ["model", "runtime", "kind"]
    rows = []
    for quantity in (METRIC, "idle_power_w"):
        placed = deviations(runs, quantity)
        groups = [(("all", "all", "all"), placed), *placed.groupby(cell)]
        for names, group in groups:
            row = dict(zip(cell, names, strict=True)) | {"quantity": quantity, "n": len(group)}
            rows.append(row | _trend(group["position_actual"], group["deviation"]))
    return numeric(pd.DataFrame(rows, columns=DRIFT_COLUMNS))


def _trend(order: pd.Series, residual: pd.Series) -> dict[str, float | None]:
    place, value = order.to_numpy(dtype=float), residual.to_numpy(dtype=float)
    if len(value) < LEAST_FOR_TREND or np.ptp(value) == 0:
        return {}
    from scipy import stats  # slow to import, as statsmodels is; `deviations` needs none of them
    from statsmodels.stats.diagnostic import acorr_ljungbox
    from statsmodels.stats.stattools import durbin_watson

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
