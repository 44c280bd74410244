"""The figures of the study: the tables in, one figure out."""

from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.figure import Figure

from joules.errors import UserError
from joules.plots_of_energy import (
    cover,
    energy_against_quality,
    energy_by_window,
    energy_per_correct,
    energy_per_task,
    energy_per_token,
)
from joules.plots_of_runs import null_control, order, power_over_time, ratios
from joules.style import style, tier_note

TABLES = ("runs", "tasks", "windows", "trace", "cells", "comparisons")

FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "energy_per_token": (energy_per_token, ("runs", "cells")),
    "energy_per_task": (energy_per_task, ("tasks", "runs")),
    "energy_by_window": (energy_by_window, ("windows", "runs")),
    "energy_against_quality": (energy_against_quality, ("cells",)),
    "energy_per_correct": (energy_per_correct, ("cells",)),
    "ratios": (ratios, ("comparisons", "runs")),
    "null_control": (null_control, ("comparisons", "runs")),
    "order": (order, ("runs",)),
    "power_over_time": (power_over_time, ("trace", "windows", "runs")),
    "cover": (cover, ("tasks", "runs")),
}


def draw(name: str, tables: Mapping[str, pd.DataFrame], demonstration: bool) -> Figure:
    """Return the figure called `name`, drawn from the tables it needs (see FIGURES).

    The note below it says whether the study is a demonstration and its energy modelled. Raises
    UserError when there is no such figure or the tables have no run.
    """
    if name not in FIGURES:
        raise UserError(
            f"There is no figure {name!r}. Expected one of: {', '.join(FIGURES)}. Correct the name."
        )
    function, needs = FIGURES[name]
    if tables["runs"].empty:
        raise UserError("tables/runs.parquet has no run; a figure needs one. Measure first.")
    note = tier_note(str(tables["runs"]["tier"].iloc[0]), demonstration)
    with style():
        return function(*(tables[need] for need in needs), note=note)
