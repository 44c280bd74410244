"""Energy per token of every run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks, mark_runs
from joules.draw.panels import grid_of_panels
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import FAINT, INK

MOST_JOINED = 200  # blocks; the lines of more than these would be one grey area

TABLES: tuple[str, ...] = (
    "runs",
    "cells",
)


def draw(runs: pd.DataFrame, cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per token of every run, lines joining the runs of one block, and the cells' means.

    Bars are 95 % t intervals of the mean over runs. Control runs are hollow; invalid runs are
    crosses and in no mean. The runs of more than `MOST_JOINED` blocks are not joined.
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
            places: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for run in rows_of(where(runs, model=model, runtime=runtime, kind=kind)):
                place = (run.energy_j_per_token, row + offsets[run.block])
                places[bool(run.valid)].append(place)
                if run.valid and kind == "task":
                    paths[run.block].append(place)
            for valid, of_runs in places.items():
                mark_runs(axes, of_runs, look, kind, valid=valid)
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
        for path in filter(None, paths.values() if len(blocks) <= MOST_JOINED else ()):
            axes.plot(*zip(*path, strict=True), color=FAINT, linewidth=0.6, zorder=1)
    return figure
