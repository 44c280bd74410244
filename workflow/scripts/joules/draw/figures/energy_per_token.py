"""Energy per token of every run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.analyse.conventions import METRIC
from joules.draw.looks import looks, mark_runs, marks_of_kinds
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

    Bars are 95 % t intervals of the mean over valid runs of kind task, from `cells`. Control runs
    are hollow; invalid runs are crosses and in no mean. The runs of more than `MOST_JOINED` blocks
    are not joined.
    """
    runs = runs[runs["kind"].isin(["task", "control"])]
    cells = where(cells, kind="task")
    runtimes = looks(runs)
    labels = [look.label for look in runtimes.values()]
    models = models_of(runs)
    figure, panels = grid_of_panels(
        models, labels, "Energy per generated token (J)", note, legend=marks_of_kinds(runs)
    )
    blocks = sorted(set(runs["block"]))
    offsets = dict(zip(blocks, np.linspace(-0.34, 0.22, len(blocks) + 2)[1:-1], strict=True))
    for axes, model in zip(panels, models, strict=True):
        paths: dict[int, list[tuple[float, float]]] = {block: [] for block in blocks}
        for row, (runtime, look) in enumerate(runtimes.items()):
            own = where(runs, model=model, runtime=runtime)
            for (kind, valid), group in own.groupby(["kind", "valid"], sort=False):
                heights = row + group["block"].map(offsets)
                places = list(zip(group[METRIC], heights, strict=True))
                mark_runs(axes, places, look, str(kind), valid=bool(valid))
                if valid and kind == "task":
                    for block, place in zip(group["block"], places, strict=True):
                        paths[block].append(place)
            for cell in rows_of(where(cells, model=model, runtime=runtime)):
                ends = [cell.low_energy_j_per_token, cell.high_energy_j_per_token]
                axes.plot(ends, [row + 0.36, row + 0.36], color=INK, linewidth=1.4)
                axes.plot(
                    cell.mean_energy_j_per_token,
                    row + 0.36,
                    marker="|",
                    markersize=5,
                    markeredgewidth=1.4,
                    color=INK,
                )
        for path in filter(None, paths.values() if len(blocks) <= MOST_JOINED else ()):
            axes.plot(*zip(*path, strict=True), color=FAINT, linewidth=0.6, zorder=1)
    return figure
