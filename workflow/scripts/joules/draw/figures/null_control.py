"""The null control in each block."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.analyse.conventions import MARGIN
from joules.analyse.pairs import control_blocks
from joules.draw.looks import looks, mark_runs, marks_of_runtimes, word
from joules.draw.panels import grid_of_panels, message_instead, ratio_ticks
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import INK, NOISE

MOST_ROWS = 60  # more blocks than these share rows, so that the figure fits a page

TABLES: tuple[str, ...] = (
    "comparisons",
    "runs",
)


def draw(comparisons: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw the control's ratio in each block, and its geometric mean with the 95 % t interval.

    The ratio is J per token of the task run over that of the control run of one runtime in the same
    block; its true value is 1. Markers show the runtime whose turn it was. The band is the interval
    of the mean, from `comparisons`: the noise floor.
    """
    controls = where(comparisons, kind="control")
    controls = controls[controls["n_blocks"] > 0]
    if controls.empty:
        return message_instead(f"No block holds two valid runs of one {word()}.", note)
    in_turn = set(runs.loc[runs["kind"] == "control", "runtime"])
    turns = {runtime: look for runtime, look in looks(runs).items() if runtime in in_turn}
    marks = marks_of_runtimes(turns.values(), "control")
    models = models_of(controls)
    blocks = sorted(set(runs["block"]))
    rows = min(len(blocks), MOST_ROWS)
    names = [f"block {blocks[row * len(blocks) // rows]}" for row in range(rows)] + ["mean"]
    x_label = (
        f"{'An' if word() == 'arm' else 'A'} {word()} against itself: ratio of energy per token"
    )
    figure, panels = grid_of_panels(
        models, names, x_label, note, row_height=0.19, columns=4, legend=marks
    )
    reach = math.log1p(MARGIN) / 2  # chance looks no larger than it is
    for axes, row in zip(panels, rows_of(controls), strict=True):
        ends = [row.ratio, row.ratio_low, row.ratio_high]
        if math.isfinite(row.ratio_low):
            axes.axvspan(row.ratio_low, row.ratio_high, color=NOISE, linewidth=0, zorder=0)
        axes.axvline(1, color=INK, linewidth=0.6)
        pairs = control_blocks(runs, row.model)
        heights = np.searchsorted(blocks, pairs.blocks) * (rows / len(blocks))
        for runtime, look in turns.items():
            own = np.array(pairs.runtimes) == runtime
            places = list(zip((pairs.a / pairs.b)[own], heights[own], strict=True))
            mark_runs(axes, places, look, "control")
        ends += list(pairs.a / pairs.b)
        axes.plot([row.ratio_low, row.ratio_high], [rows] * 2, color=INK, linewidth=1.6)
        axes.plot(row.ratio, rows, "D", color=INK, markersize=4.5)
        reach = max([reach, *(abs(math.log(end)) for end in ends if math.isfinite(end))])
        axes.grid(True, axis="y")
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(math.exp(-1.1 * reach), math.exp(1.1 * reach))
        ratio_ticks(axes, math.exp(reach), 1 if len(models) > 2 else 2)
    return figure
