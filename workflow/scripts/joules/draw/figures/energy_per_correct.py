"""Energy per correct answer."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks
from joules.draw.panels import grid_of_panels
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import INK

TABLES: tuple[str, ...] = ("cells",)


def draw(cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per correct answer, J per task by pass@1, with the 95 % interval of `cells`.

    The interval is over blocks and problems. It is left out where the cell has none.
    """
    runtimes = looks(cells)
    cells = where(cells, kind="task")
    models = models_of(cells)
    labels = [look.label for look in runtimes.values()]
    figure, panels = grid_of_panels(models, labels, "Energy per correct answer (J)", note)
    for axes, model in zip(panels, models, strict=True):
        own = where(cells, model=model)
        ends = own[["energy_j_per_correct", "high_energy_j_per_correct"]].to_numpy(dtype=float)
        reach = max([*ends[np.isfinite(ends)], 0.0]) or 1.0
        for cell in rows_of(own):
            row, look = list(runtimes).index(cell.runtime), runtimes[cell.runtime]
            right, text = 0.0, "not graded" if math.isnan(cell.passed) else "no correct answer"
            if cell.passed > 0:
                value, text = cell.energy_j_per_correct, f"{cell.energy_j_per_correct:#.3g}"
                interval = [cell.low_energy_j_per_correct, cell.high_energy_j_per_correct]
                right = np.nanmax([value, *interval])
                axes.barh(row, value, height=0.62, color=look.color, alpha=0.55)
                axes.plot(interval, [row, row], color=INK, linewidth=0.9)
                axes.plot(value, row, look.marker, color=look.color, markeredgecolor=INK)
            axes.text(right + 0.02 * reach, row, text.rstrip("."), va="center")
        axes.set_xlim(0, reach * 1.22)
    return figure
