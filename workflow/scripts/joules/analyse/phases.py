"""Where the energy goes: prefill, decode, loading, residency; and when a dearer load pays.

Energies are in joule, power in watt. A number that the data cannot give is NaN or None.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import statsmodels.api as sm

from joules.analyse.conventions import ALPHA, Row, Values, runtime_order
from joules.analyse.estimates import numeric

PHASE_COLUMNS = [
    *("model", "runtime", "runtime_label", "runs", "tasks", "prefill_j_per_token", "prefill_low"),
    *("prefill_high", "decode_j_per_token", "decode_low", "decode_high", "overhead_j_per_task"),
    *("prefill_share", "r2", "direct_tasks", "direct_prefill_j_per_token"),
    *("direct_decode_j_per_token", "load_energy_j", "residency_power_w"),
]


def phases(tasks: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return per model and runtime what a prompt token and a generated token cost.

    Ordinary least squares over the tasks of the valid runs of kind `task`: energy_j = overhead +
    prefill * prompt_tokens + decode * generated_tokens, standard errors clustered by run.
    `prefill_share` is the prefill term's part of the energy of all tasks. None where the tasks
    cannot tell the terms apart, as when all answers reach the limit. The direct split takes the
    tasks whose energy to the first token was read from counters, as sums over sums.
    `load_energy_j` and `residency_power_w` (loaded and idle, less idle) are means over the runs.
    """
    rows: list[Row] = []
    own = runs[(runs["kind"] == "task") & runs["valid"]]
    of_cell = own.groupby(["model", "runtime"])[["load_energy_j", "residency_power_w"]].mean()
    used = tasks[tasks["kind"] == "task"].merge(
        own[["model", "runtime", "block"]], on=["model", "runtime", "block"]
    )
    for (model, runtime, label), group in used.groupby(["model", "runtime", "runtime_label"]):
        row: Row = dict.fromkeys(PHASE_COLUMNS)
        row |= {"model": model, "runtime": runtime, "runtime_label": label}
        row |= {"runs": group["block"].nunique(), "tasks": len(group)}
        design = np.column_stack(
            [np.ones(len(group)), group["prompt_tokens"], group["generated_tokens"]]
        )
        if np.linalg.matrix_rank(design) == 3 and len(group) > 3:
            row |= _regression(design, group)
        row |= _direct_split(group) | of_cell.loc[(model, runtime)].to_dict()
        rows.append(row)
    return numeric(pd.DataFrame(rows, columns=PHASE_COLUMNS))


def _regression(design: Values, group: pd.DataFrame) -> Row:
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


def _direct_split(group: pd.DataFrame) -> Row:
    split = group.dropna(subset=["prefill_energy_j"])
    if not len(split):
        return {"direct_tasks": 0}
    prefill_j, whole_j = split["prefill_energy_j"].sum(), split["energy_j"].sum()
    return {
        "direct_tasks": len(split),
        "direct_prefill_j_per_token": prefill_j / split["prompt_tokens"].sum(),
        "direct_decode_j_per_token": (whole_j - prefill_j) / split["generated_tokens"].sum(),
    }


BREAK_EVEN_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "load_a_j", "load_b_j", "task_a_j", "task_b_j"),
    *("break_even_tasks", "note"),
]


def break_even(cells: pd.DataFrame, runtimes: Sequence[str] | None = None) -> pd.DataFrame:
    """Return per pair of runtimes after how many tasks their total energies are equal.

    Loading the model once and answering N tasks in a row needs E(N) = E_load + N * E_task. Both
    are means over the valid runs of kind `task`. `break_even_tasks` is None where one runtime
    needs less for every N; `note` says which.
    """
    rows: list[Row] = []
    own = cells[cells["kind"] == "task"]
    order = list(runtimes or runtime_order(cells))
    for model, group in own.groupby("model"):
        found = group.set_index("runtime")
        present = [runtime for runtime in order if runtime in found.index]
        for a, b in itertools.combinations(present, 2):
            load_a, load_b = found.loc[[a, b], "mean_load_energy_j"]
            task_a, task_b = found.loc[[a, b], "mean_energy_j_per_task"]
            tasks, note = _crossing(load_a - load_b, task_b - task_a, (a, b))
            values = (model, a, b, load_a, load_b, task_a, task_b, tasks, note)
            rows.append(dict(zip(BREAK_EVEN_COLUMNS, values, strict=True)))
    return numeric(pd.DataFrame(rows, columns=BREAK_EVEN_COLUMNS))


def _crossing(
    more_load: float, less_per_task: float, names: tuple[str, str]
) -> tuple[float | None, str]:
    """Return N with more_load = N * less_per_task, and in words what it means.

    `more_load`: what the first runtime needs more to load; `less_per_task`: less per task.
    """
    a, b = names
    if not np.isfinite([more_load, less_per_task]).all():
        return None, "The load or the task energy of one runtime is not known."
    if more_load * less_per_task > 0:
        first, later = (b, a) if more_load > 0 else (a, b)
        return more_load / less_per_task, f"{first} needs less below, {later} above."
    if more_load == less_per_task == 0:
        return None, "Both need the same."
    less = a if more_load < 0 or less_per_task > 0 else b
    return None, f"{less} needs less for any number of tasks."
