"""Rows of the study's tables, as the figures need them."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from joules.analyse.derived_columns import shared_out

RUN = ["model", "runtime", "kind", "block"]


def where(frame: pd.DataFrame, **values: str) -> pd.DataFrame:
    """Return the rows whose columns have these values."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows as named tuples, without the index."""
    return iter(frame.itertuples(index=False))


def models_of(frame: pd.DataFrame) -> list[str]:
    """Return the models of a table in the order of its rows."""
    return list(dict.fromkeys(frame["model"]))


def of_valid_runs(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `frame` that belong to valid runs of kind task."""
    return frame.merge(runs.loc[runs["valid"] & (runs["kind"] == "task"), RUN], on=RUN)


def of_runs(runs: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """Return (model, runtime) -> J of each valid run of kind task, by its block."""
    own = where(runs[runs["valid"]], kind="task")
    return {
        (str(model), str(runtime)): group.set_index("block")["energy_j"]
        for (model, runtime), group in own.groupby(["model", "runtime"])
    }


def mean_of_tasks(tasks: pd.DataFrame, runs: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """Return (model, runtime) -> mean J of each task over valid runs.

    The tasks of a run add up to its headline, as everywhere in the tables.
    """
    used = of_valid_runs(tasks, runs)
    used = used.assign(energy_j=shared_out(used, runs))
    means = used.groupby(["model", "runtime", "task_id"])["energy_j"].mean()
    return {
        (str(model), str(runtime)): energies.droplevel([0, 1])
        for (model, runtime), energies in means.groupby(level=[0, 1])
    }
