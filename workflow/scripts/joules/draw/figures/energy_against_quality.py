"""Energy per task against the quality of the answers."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from joules.draw.looks import looks, marks_of_runtimes
from joules.draw.panels import (
    legend_above,
    legend_lines,
    message_instead,
    name_models,
    new_figure,
    plain_log_ticks,
)
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import DOUBLE_COLUMN, FAINT, PAPER

TABLES: tuple[str, ...] = ("cells",)


def draw(cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per task against pass@1 with Wilson's 95 % interval; curves are equal J per correct.

    A curve of c J per correct answer is pass@1 = (J per task) / c, so it meets pass@1 = 1 at c.
    """
    runtimes = looks(cells)
    cells = where(cells, kind="task").dropna(subset=["mean_energy_j_per_task", "pass_at_1"])
    if cells.empty:
        return message_instead("No valid run was graded.", note)
    marks = marks_of_runtimes(runtimes.values())
    figure = new_figure(DOUBLE_COLUMN, 3.7, note, lines_above=legend_lines(marks, DOUBLE_COLUMN))
    axes = figure.subplots()
    energy = cells["mean_energy_j_per_task"]
    # The curve through the costliest answer ends in sight, unless nearly no answer is correct.
    low = energy.min() / 1.6
    high = max(
        energy.max() * 1.6, min(energy.max() * 20, 1.2 * cells["energy_j_per_correct"].max())
    )
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 1))
    ticks = LogLocator(subs=(1, 2, 5), numticks=20).tick_values(low, high)
    costs = [cost for cost in ticks if low <= cost <= high]
    across = np.geomspace(low, high, 200)
    for cost in costs:
        axes.plot(across, across / cost, color=FAINT, linewidth=0.6, zorder=1)
    line_width = 0.8 if len(runtimes) <= 4 else 0.5
    for cell in rows_of(cells):
        look = runtimes[cell.runtime]
        axes.errorbar(
            cell.mean_energy_j_per_task,
            cell.pass_at_1,
            yerr=[[cell.pass_at_1 - cell.pass_low], [cell.pass_high - cell.pass_at_1]],
            fmt=look.marker,
            color=look.color,
            elinewidth=line_width,
            markeredgecolor=PAPER,
            markeredgewidth=0.5,
            markersize=6,
            clip_on=False,
        )
    places = {
        model: where(cells, model=model)[["mean_energy_j_per_task", "pass_at_1"]]
        for model in models_of(cells)
    }
    name_models(axes, {model: list(rows_of(place)) for model, place in places.items()})
    plain_log_ticks(axes)
    axes.grid(False)
    axes.set(xlabel="Energy per task (J, logarithmic)", ylabel="pass@1")
    top = axes.secondary_xaxis("top")
    top.set_xticks(costs, [f"{cost:g}" for cost in costs])
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel("Energy per correct answer along a grey curve (J)")
    legend_above(figure, marks)
    return figure
