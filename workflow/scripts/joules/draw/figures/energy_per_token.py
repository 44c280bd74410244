"""Energy per token of every run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks, mark_run
from joules.draw.panels import grid_of_panels
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import FAINT, INK

TABLES: tuple[str, ...] = (
    "runs",
    "cells",
)


def draw(runs: pd.DataFrame, cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per token of every run, lines joining the runs of one block, and the cells' means.

    Bars are 95 % t intervals of the mean over runs. Control runs are hollow; invalid runs are
    crosses and in no mean.
    """
    runs = runs[runs["kind"].isin(["task", "control"])]
    rows = [
        (runtime, kind, look)
        for kind in ("task", "control")
        for runtime, look in looks(runs).items()
        if not where(runs, runtime=runtime, kind=kind).empty
    ]
    labels = [look.label + " (control)" * (kind == "control") for _, kind, look in rows]
    models = models_of(runs)
    figure, panels = grid_of_panels(models, labels, "Energy per generated token (J)", note)
    blocks = sorted(set(runs["block"]))
    offsets = dict(zip(blocks, np.linspace(-0.28, 0.28, len(blocks) + 2)[1:-1], strict=True))
    for axes, model in zip(panels, models, strict=True):
        paths: dict[int, list[tuple[float, float]]] = {block: [] for block in blocks}
        for row, (runtime, kind, look) in enumerate(rows):
            for run in rows_of(where(runs, model=model, runtime=runtime, kind=kind)):
                y = row + offsets[run.block]
                mark_run(axes, (run.energy_j_per_token, y), look, kind, valid=run.valid)
                if run.valid and kind == "task":
                    paths[run.block].append((run.energy_j_per_token, y))
            for cell in rows_of(where(cells, model=model, runtime=runtime, kind=kind)):
                ends = [cell.low_energy_j_per_token, cell.high_energy_j_per_token]
                axes.plot(ends, [row + 0.4, row + 0.4], color=INK, linewidth=1.4)
                axes.plot(
                    cell.mean_energy_j_per_token,
                    row + 0.4,
                    marker="|",
                    markersize=5,
                    markeredgewidth=1.4,
                    color=INK,
                )
        for path in filter(None, paths.values()):
            axes.plot(*zip(*path, strict=True), color=FAINT, linewidth=0.6, zorder=1)
    return figure
