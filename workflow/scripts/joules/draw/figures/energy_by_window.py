"""Energy of a run by window of the protocol."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks
from joules.draw.panels import grid_of_panels, marks_of_windows
from joules.draw.selection import models_of, of_valid_runs
from joules.draw.style import INK, WINDOWS

TABLES: tuple[str, ...] = (
    "windows",
    "runs",
)


def draw(windows: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per run, stacked by window in the order of the protocol; means over valid runs."""
    means = of_valid_runs(windows, runs).groupby(["model", "runtime", "window"])["energy_j"].mean()
    used = [name for name in WINDOWS if name in set(windows["window"])]
    runtimes = looks(runs)
    models = models_of(runs)
    labels = [look.label for look in runtimes.values()]
    legend = marks_of_windows(used)
    figure, panels = grid_of_panels(models, labels, "Energy per run (J)", note, legend=legend)
    for axes, model in zip(panels, models, strict=True):
        left = np.zeros(len(runtimes))
        for window in used:
            color, hatch = WINDOWS[window]
            widths = np.array([means.get((model, name, window), 0.0) for name in runtimes], float)
            axes.barh(
                range(len(runtimes)),
                np.nan_to_num(widths),
                left=left,
                height=0.62,
                color=color,
                hatch=hatch,
                edgecolor=INK,
                linewidth=0.4,
                label=window.replace("_", " "),
            )
            left += np.nan_to_num(widths)
    return figure
