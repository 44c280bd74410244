"""What the runs were like, without a test of runtimes: cells, answers, phases, drift.

Tables in and out are pandas frames, energies in joule, times in second. A number that the data
cannot give is NaN or None.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
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
    runtime_order,
)

CELL_METRICS = (
    *("energy_j_per_token", "energy_j_per_task", "tokens_per_s", "power_w", "duration_s"),
    *("energy_j", "net_energy_j_per_token", "energy_delay_js", "generated_tokens"),
    *("load_energy_j", "load_duration_s", "idle_power_w", "resident_power_w", "dram_share"),
    *("gap_share", "gco2e_per_1000_tasks"),
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
            row[f"{name}_share"] = valid[name].sum() / valid["tasks"].sum() if len(valid) else None
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


QUALITY_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "kind", "both_pass", "only_a", "only_b", "neither"),
    *("p_mcnemar", "same_text_share", "compared_prompts"),
]


def quality(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    agreements: Iterable[Mapping[str, Any]] = (),
    runtimes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return per model and pair of runtimes how their verdicts differ on the same problems.

    The verdicts are those of the first valid run, of kind `quality` where there is one, else of
    kind `task`. `p_mcnemar` is exact (binomial over the problems that turn over).
    `same_text_share` is that of the agreement files: prompts with the same answer, character by
    character, of `compared_prompts`.
    """
    order = list(runtimes or runtime_order(runs))
    shares = {
        (found["model"], frozenset((pair["runtime_a"], pair["runtime_b"]))): pair
        for found in agreements
        for pair in found["pairs"]
    }
    rows = []
    for model in sorted(set(runs["model"])):
        valid = runs[(runs["model"] == model) & runs["valid"]]
        kind = "quality" if (valid["kind"] == "quality").any() else "task"
        passed = {}
        for runtime in order:
            blocks = valid.loc[(valid["runtime"] == runtime) & (valid["kind"] == kind), "block"]
            if len(blocks):
                chosen = (tasks["model"] == model) & (tasks["runtime"] == runtime)
                chosen &= (tasks["kind"] == kind) & (tasks["block"] == blocks.min())
                own = tasks[chosen].set_index("task_id")
                passed[runtime] = own["verdict"].eq("passed")
        for a, b in itertools.combinations(passed, 2):
            both = pd.concat({"a": passed[a], "b": passed[b]}, axis=1, join="inner")
            table = pd.crosstab(both["a"], both["b"]).reindex(
                index=[True, False], columns=[True, False], fill_value=0
            )
            counts = table.to_numpy()
            pair = shares.get((model, frozenset((a, b))), {})
            values = (model, a, b, kind, *counts.ravel().tolist())
            shared = (pair.get("same_text_share"), pair.get("prompts"))
            p = float(mcnemar(counts, exact=True).pvalue)
            rows.append(dict(zip(QUALITY_COLUMNS, (*values, p, *shared), strict=True)))
    return numeric(pd.DataFrame(rows, columns=QUALITY_COLUMNS))


PHASE_COLUMNS = [
    *("model", "runtime", "runtime_label", "runs", "tasks", "prefill_j_per_token", "prefill_low"),
    *("prefill_high", "decode_j_per_token", "decode_low", "decode_high", "overhead_j_per_task"),
    *("prefill_share", "r2"),
]


def phases(tasks: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return per model and runtime what a prompt token and a generated token cost.

    Ordinary least squares over the tasks of the valid runs of kind `task`: energy_j = overhead +
    prefill * prompt_tokens + decode * generated_tokens, standard errors clustered by run.
    `prefill_share` is the prefill term's part of the energy of all tasks. None where the tasks
    cannot tell the terms apart, as when all answers reach the limit.
    """
    rows = []
    valid = runs.loc[(runs["kind"] == "task") & runs["valid"], ["model", "runtime", "block"]]
    used = tasks[tasks["kind"] == "task"].merge(valid, on=["model", "runtime", "block"])
    for (model, runtime, label), group in used.groupby(["model", "runtime", "runtime_label"]):
        row: dict[str, Any] = dict.fromkeys(PHASE_COLUMNS)
        row |= {"model": model, "runtime": runtime, "runtime_label": label}
        row |= {"runs": group["block"].nunique(), "tasks": len(group)}
        design = np.column_stack(
            [np.ones(len(group)), group["prompt_tokens"], group["generated_tokens"]]
        )
        if np.linalg.matrix_rank(design) == 3 and len(group) > 3:
            row |= _regression(design, group)
        rows.append(row)
    return numeric(pd.DataFrame(rows, columns=PHASE_COLUMNS))


def _regression(design: Values, group: pd.DataFrame) -> dict[str, Any]:
    model = sm.OLS(group["energy_j"].to_numpy(), design)
    if group["block"].nunique() > 1:
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": group["block"].to_numpy()})
    else:
        fit = model.fit()
    overhead, prefill, decode = fit.params
    (_, _), (prefill_low, prefill_high), (decode_low, decode_high) = fit.conf_int(ALPHA)
    return {
        "prefill_j_per_token": prefill,
        "prefill_low": prefill_low,
        "prefill_high": prefill_high,
        "decode_j_per_token": decode,
        "decode_low": decode_low,
        "decode_high": decode_high,
        "overhead_j_per_task": overhead,
        "prefill_share": prefill * group["prompt_tokens"].sum() / group["energy_j"].sum(),
        "r2": fit.rsquared,
    }


DRIFT_COLUMNS = [
    *("model", "runtime", "kind", "quantity", "n", "kendall_tau", "p_kendall", "slope_per_run"),
    *("slope_low", "slope_high", "durbin_watson", "p_ljungbox"),
]
LEAST_FOR_TREND = 4


def drift(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trend of energy per token and of idle power over the order of the valid runs.

    The residual is a run's value over its cell's mean, less 1. One row per cell, and one with
    model, runtime and kind `all` over the whole study. `slope_per_run`: Theil-Sen, relative change
    per place in the order, with 95 % interval; Kendall's tau for a trend; Durbin-Watson (2: no
    autocorrelation) and Ljung-Box at lag 1. Diagnostics: blocks are what protects from drift.
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
    slope = stats.theilslopes(value, place, alpha=1 - ALPHA)
    return {
        "kendall_tau": float(tau.statistic),
        "p_kendall": float(tau.pvalue),
        "slope_per_run": float(slope.slope),
        "slope_low": float(slope.low_slope),
        "slope_high": float(slope.high_slope),
        "durbin_watson": float(durbin_watson(value)),
        "p_ljungbox": number_or_none(lambda: acorr_ljungbox(value, lags=[1])["lb_pvalue"].iloc[0]),
    }
