"""The null control in each block."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.analyse.pairs import paired_blocks
from joules.draw.looks import looks
from joules.draw.panels import grid_of_panels, message_instead, ratio_ticks
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import BAND, INK, PALETTE, PAPER

MOST_ROWS = 60  # more blocks than these share rows, so that the figure fits a page
CONTROL_MARGIN = 0.02  # the null control is to stay within 1 / (1 + this) and 1 + this

TABLES: tuple[str, ...] = (
    "comparisons",
    "runs",
)


def draw(comparisons: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw the control's ratio in each block, and its geometric mean with the 95 % t interval.

    The ratio is J per token of the runtime's first run over that of its second in the same block;
    its true value is 1. The band is 1 / 1.02 to 1.02.
    """
    controls = where(comparisons, kind="control")
    controls = controls[controls["n_blocks"] > 0]
    if controls.empty:
        return message_instead("No block holds two valid runs of one runtime.", note)
    labels = {runtime: look.label for runtime, look in looks(runs).items()}
    models = models_of(controls)
    blocks = sorted(set(runs["block"]))
    rows = min(len(blocks), MOST_ROWS)
    names = [f"block {blocks[row * len(blocks) // rows]}" for row in range(rows)] + ["mean"]
    x_label = f"{labels[controls['runtime_a'].iloc[0]]} against itself: ratio of energy per token"
    figure, panels = grid_of_panels(models, names, x_label, note, row_height=0.19, columns=4)
    reach = math.log1p(CONTROL_MARGIN) * 1.4
    for axes, row in zip(panels, rows_of(controls), strict=True):
        pairs = paired_blocks(runs, row.model, row.runtime_a, row.runtime_b, kind_b="control")
        ratios_of_blocks = pairs.a / pairs.b
        axes.axvspan(1 / (1 + CONTROL_MARGIN), 1 + CONTROL_MARGIN, color=BAND, zorder=0)
        axes.axvline(1, color=INK, linewidth=0.6)
        places = np.searchsorted(blocks, pairs.blocks) * (rows / len(blocks))
        axes.plot(
            ratios_of_blocks,
            places,
            "o",
            color=PALETTE[0],
            markerfacecolor=PAPER,
            markersize=4,
            linestyle="none",
        )
        axes.plot([row.ratio_low, row.ratio_high], [rows] * 2, color=INK, linewidth=1.6)
        axes.plot(row.ratio, rows, "D", color=INK, markersize=4.5)
        ends = [*ratios_of_blocks, row.ratio_low, row.ratio_high]
        reach = max([reach, *(abs(math.log(end)) for end in ends if math.isfinite(end))])
        axes.grid(True, axis="y")
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(math.exp(-1.1 * reach), math.exp(1.1 * reach))
        ratio_ticks(axes, math.exp(reach), 1 if len(models) > 2 else 2)
    return figure
