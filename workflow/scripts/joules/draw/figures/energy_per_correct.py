"""Energy per correct answer."""

import math

import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks
from joules.draw.panels import grid_of_panels
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import INK

TABLES: tuple[str, ...] = ("cells",)


def draw(cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per correct answer: J per task by pass@1; lines are Wilson's 95 % interval.

    The interval is carried over from pass@1; the spread of energy between runs is not in it.
    """
    runtimes = looks(cells)
    cells = where(cells, kind="task")
    models = models_of(cells)
    labels = [look.label for look in runtimes.values()]
    figure, panels = grid_of_panels(models, labels, "Energy per correct answer (J)", note)
    for axes, model in zip(panels, models, strict=True):
        own = where(cells, model=model)
        answered = own[own["passed"] > 0]
        reach = (answered["mean_energy_j_per_task"] / answered["pass_low"]).max()
        reach = reach if math.isfinite(reach) else 1.0
        for cell in rows_of(own):
            row, look = list(runtimes).index(cell.runtime), runtimes[cell.runtime]
            right, text = 0.0, "no correct answer"
            if cell.passed > 0:
                value, energy = cell.energy_j_per_correct, cell.mean_energy_j_per_task
                left, right = energy / cell.pass_high, energy / cell.pass_low
                text = f"{value:#.3g}".rstrip(".")
                axes.barh(row, value, height=0.62, color=look.color, alpha=0.55)
                axes.plot([left, right], [row, row], color=INK, linewidth=0.9)
                axes.plot(value, row, look.marker, color=look.color, markeredgecolor=INK)
            axes.text(right + 0.02 * reach, row, text, va="center")
        axes.set_xlim(0, reach * 1.22)
    return figure
