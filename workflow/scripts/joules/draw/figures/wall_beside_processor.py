"""The energy of the whole machine beside that of its processor."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from joules.analyse.wall import PROCESSOR_J, WALL_J, has_wall, wall
from joules.draw.looks import Look, looks, mark_runs
from joules.draw.panels import Mark, grid_of_panels, message_instead
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import INK

NO_WALL = "No meter of the whole machine was read."
TABLES: tuple[str, ...] = ("runs",)


def draw(runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per token of the whole tasks window, at the wall and by the processor.

    Wide pale bars are means at the wall over valid runs of kind task, narrow dark ones those of
    processor and GPU in the same time; points are runs. Numbers are the ratio of the two, a
    geometric mean over runs: where it differs between runtimes, the processor ranks them otherwise.
    """
    if not has_wall(runs):
        return message_instead(NO_WALL, note)
    valid = runs[runs["valid"] & runs["kind"].eq("task")]
    cells = wall(runs)
    cells = cells[cells["wall_j_per_token"].notna()]
    if cells.empty:
        return message_instead("No valid run has an energy of the whole machine.", note)
    runtimes, models = looks(runs), models_of(cells)
    labels = [look.label for look in runtimes.values()]
    figure, panels = grid_of_panels(
        models, labels, "Energy per generated token (J)", note, row_height=0.42, legend=_legend()
    )
    for axes, model in zip(panels, models, strict=True):
        own = where(cells, model=model)
        reach = own[["wall_j_per_token", "processor_j_per_token"]].max().max()
        for cell in rows_of(own):
            row, look = list(runtimes).index(cell.runtime), runtimes[cell.runtime]
            axes.barh(row, cell.wall_j_per_token, height=0.7, color=look.color, alpha=0.3)
            axes.barh(row, cell.processor_j_per_token, height=0.26, color=look.color)
            of_cell = where(valid, model=model, runtime=cell.runtime)
            for column, height in ((WALL_J, row - 0.24), (PROCESSOR_J, row)):
                per_token = of_cell[column] / of_cell["generated_tokens"]
                dot = Look(look.label, INK, look.marker)
                mark_runs(axes, [(value, height) for value in per_token], dot, "task", size=2.5)
            right = max(cell.wall_j_per_token, cell.processor_j_per_token)
            text = f"{cell.ratio:.2f}" if pd.notna(cell.ratio) else "not known"
            axes.text(right + 0.02 * reach, row + 0.05, text, va="center")
        axes.set_xlim(0, 1.2 * reach)
    return figure


def _legend() -> list[Mark]:
    return [
        Patch(color=INK, alpha=0.3, linewidth=0, label="at the wall"),
        Patch(color=INK, linewidth=0, label="processor and GPU"),
        Patch(color="none", linewidth=0, label="number: wall over processor"),
    ]
