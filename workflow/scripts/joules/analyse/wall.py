"""The whole machine beside its processor: by how much they differ, and whether they rank alike.

Both energies are of the whole tasks window of a run. What matters of their ratio is whether it is
the same on every runtime: only then do the processor's numbers rank them as the wall does. Ratios
are of geometric means with 95 % t intervals over runs or blocks.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from joules.analyse.conventions import Row, Values, runtime_order
from joules.analyse.estimates import mean_interval, numeric
from joules.analyse.pairs import paired_blocks

WALL_J, PROCESSOR_J = "energy_wall_j", "energy_processor_j"
WALL_COLUMNS = [
    *("model", "runtime", "runtime_label", "n", "ratio", "low", "high", "idle_share"),
    *("wall_j_per_token", "processor_j_per_token", "idle_power_w", "gap_time_share"),
    *("wall_tier", "processor_tier"),
]
WALL_PAIR_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "n_blocks", "wall", "wall_low", "wall_high"),
    *("processor", "processor_low", "processor_high", "change", "change_low", "change_high"),
    "same_order",
]
YES, NO, OPEN = "yes", "no", "open"


def has_wall(runs: pd.DataFrame) -> bool:
    """Return whether the runs have an energy of the whole machine beside that of the processor."""
    return {WALL_J, PROCESSOR_J} <= set(runs.columns)


def is_emulated(runs: pd.DataFrame) -> bool:
    """Return whether the headline is told by a meter that says itself that it is no real one."""
    if not {"headline", "meter_emulated"} <= set(runs.columns):
        return False
    return bool((runs["headline"].eq("wall") & runs["meter_emulated"].eq(True)).any())


def wall(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model and runtime, over its valid runs of kind `task`.

    `ratio`: the whole machine over its processor. `idle_share`: what the idle machine takes in the
    time of the tasks window, as a share of the energy at the wall. `gap_time_share`: of the time of
    that window, what lies between the tasks; None where the table does not tell.
    """
    rows: list[Row] = []
    own = runs[(runs["kind"] == "task") & runs["valid"]]
    for (model, runtime, label), group in own.groupby(["model", "runtime", "runtime_label"]):
        row: Row = {"model": model, "runtime": runtime, "runtime_label": label, "n": len(group)}
        row |= _ratio("ratio", "", _logs(group, WALL_J) - _logs(group, PROCESSOR_J))
        row |= {
            "idle_share": _mean(group, "wall_idle_share"),
            "wall_j_per_token": _per_token(group, WALL_J),
            "processor_j_per_token": _per_token(group, PROCESSOR_J),
            "idle_power_w": _mean(group, "wall_idle_power_w"),
            "gap_time_share": _gaps(group),
            "wall_tier": _first(group, "wall_tier"),
            "processor_tier": _first(group, "processor_tier"),
        }
        rows.append(row)
    return numeric(pd.DataFrame(rows, columns=WALL_COLUMNS))


def wall_pairs(runs: pd.DataFrame, runtimes: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row per model and pair of runtimes (kind `task`), over their blocks.

    `wall` and `processor` are the ratios of energy per token, the first runtime over the second, by
    each; `change` is the former over the latter. `same_order` is `yes` where both intervals lie on
    one side of 1, `no` where they lie on two, and `open` where one of them holds 1.
    """
    rows: list[Row] = []
    order = list(runtimes or runtime_order(runs))
    for model in sorted(set(runs["model"])):
        own = runs[runs["model"].eq(model) & runs["kind"].eq("task")]
        present = [runtime for runtime in order if runtime in set(own["runtime"])]
        for a, b in itertools.combinations(present, 2):
            blocks = paired_blocks(runs, model, a, b).blocks
            arms = [own[own["runtime"].eq(name)].set_index("block").loc[blocks] for name in (a, b)]
            by_wall, by_processor = (
                _logs(arms[0], column, "generated_tokens")
                - _logs(arms[1], column, "generated_tokens")
                for column in (WALL_J, PROCESSOR_J)
            )
            row: Row = {"model": model, "runtime_a": a, "runtime_b": b, "n_blocks": len(blocks)}
            row |= _ratio("wall", "wall_", by_wall) | _ratio(
                "processor", "processor_", by_processor
            )
            row |= _ratio("change", "change_", by_wall - by_processor)
            rows.append(row | {"same_order": _same_order(row)})
    return numeric(pd.DataFrame(rows, columns=WALL_PAIR_COLUMNS))


def _logs(group: pd.DataFrame, column: str, per: str | None = None) -> Values:
    values = group[column].to_numpy(dtype=float)
    if per is not None:
        values = values / group[per].to_numpy(dtype=float)
    return np.log(np.where(values > 0, values, np.nan))


def _ratio(name: str, ends: str, logs: Values) -> Row:
    """Return a ratio with its interval; None where a run lacks one of the energies."""
    row: Row = {name: None, f"{ends}low": None, f"{ends}high": None}
    if not len(logs) or not np.isfinite(logs).all():
        return row
    low, high = mean_interval(logs)
    return {
        name: math.exp(logs.mean()),
        f"{ends}low": None if low is None else math.exp(low),
        f"{ends}high": None if high is None else math.exp(high),
    }


def _same_order(row: Row) -> str:
    sides = []
    for name in ("wall", "processor"):
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        if not isinstance(low, float) or not isinstance(high, float) or low <= 1 <= high:
            return OPEN
        sides.append(low > 1)
    return YES if sides[0] == sides[1] else NO


def _mean(group: pd.DataFrame, column: str) -> float | None:
    return float(group[column].mean()) if column in group else None


def _per_token(group: pd.DataFrame, column: str) -> float:
    return float((group[column] / group["generated_tokens"]).mean())


def _gaps(group: pd.DataFrame) -> float | None:
    if not {"headline", "gap_share"} <= set(group.columns) or len(group) == 0:
        return None
    # By the processor it is a share of the energy.
    return _mean(group, "gap_share") if group["headline"].eq("wall").all() else None


def _first(group: pd.DataFrame, column: str) -> str | None:
    found = group[column].dropna() if column in group else pd.Series(dtype=object)
    return str(found.iloc[0]) if len(found) else None
