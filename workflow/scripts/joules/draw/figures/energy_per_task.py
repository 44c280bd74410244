"""Distribution of energy per task."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks
from joules.draw.panels import grid_of_panels, plain_log_ticks
from joules.draw.selection import mean_of_tasks, models_of
from joules.draw.style import INK

TABLES: tuple[str, ...] = (
    "tasks",
    "runs",
)


def draw(tasks: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw the distribution of J per task over tasks; each task is its mean over valid runs.

    Boxes are quartiles with the median, whiskers the 5th and 95th percentile; every task is a dot.
    """
    means = mean_of_tasks(tasks, runs)
    runtimes = looks(runs)
    models = models_of(runs)
    labels = [look.label for look in runtimes.values()]
    figure, panels = grid_of_panels(models, labels, "Energy per task (J, logarithmic)", note)
    lines: dict[str, str | float] = {"color": INK, "linewidth": 0.8}
    for axes, model in zip(panels, models, strict=True):
        axes.set_xscale("log")
        for row, (runtime, look) in enumerate(runtimes.items()):
            if (model, runtime) not in means:
                continue
            energies = means[model, runtime].to_numpy()
            scatter = (np.arange(energies.size) * 0.618034 % 1 - 0.5) * 0.6  # even, without chance
            axes.plot(
                energies,
                row + scatter,
                "o",
                color=look.color,
                markersize=1.6,
                markeredgewidth=0,
                alpha=0.5,
            )
            axes.boxplot(
                energies,
                positions=[row],
                orientation="horizontal",
                widths=0.5,
                whis=(5, 95),
                showfliers=False,
                manage_ticks=False,
                medianprops=lines | {"linewidth": 1.6},
                boxprops=lines,
                whiskerprops=lines,
                capprops=lines,
            )
        plain_log_ticks(axes)
    return figure
