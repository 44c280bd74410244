"""Ratios with their intervals, one row each."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from joules.draw.panels import ratio_ticks
from joules.draw.style import BAND, FOREST, INK, PAPER


def draw_forest(
    axes: Axes, rows: Sequence[pd.Series | None], margin: float, *, numbers: bool
) -> None:
    """Draw one ratio per row with its interval; a row without values is a heading or a gap.

    With `numbers` the values are written on the right.
    """
    axes.axvspan(1 / (1 + margin), 1 + margin, color=BAND, zorder=0)
    axes.axvline(1, color=INK, linewidth=0.6)
    reach = 1.3 * math.log1p(margin)
    for row, values in enumerate(rows):
        if values is None:
            continue
        color, marker = FOREST[values["kind"]]
        ratio, low, high = (float(values[key]) for key in ("ratio", "ratio_low", "ratio_high"))
        axes.plot([low, high], [row, row], color=color, linewidth=1.4)
        fill = PAPER if values["kind"] == "control" else color
        axes.plot(
            ratio, row, marker, color=color, markerfacecolor=fill, markersize=4 if numbers else 3
        )
        reach = max([reach, *(abs(math.log(x)) for x in (ratio, low, high) if math.isfinite(x))])
        if numbers:
            text = f"{ratio:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(low) else f"{ratio:.3f}"
            text = f"{text}, n = {values['n_blocks']}" if values["n_blocks"] else "no whole block"
            axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), va="center")
    if not numbers:
        axes.grid(True, axis="y")
    axes.set_xscale("log")
    axes.set_xlim(math.exp(-1.1 * reach), math.exp(1.1 * reach))
    ratio_ticks(axes, math.exp(reach), 2 if numbers else 1)
