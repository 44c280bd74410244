"""Ratios with their intervals, one row each, and what lies behind them: margin and noise floor."""

import itertools
import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from joules.draw.panels import Mark, ratio_ticks
from joules.draw.style import BAND, FOREST, INK, NOISE, PAPER, UNCLAIMED

THICK, THIN = 2.0, 0.7  # points, of the pointwise and of the simultaneous interval
MOST_TIMES = 3  # an interval that reaches further than this times all points ends in an arrow
DASHES = (0, (1.5, 1.0))  # of a ratio that is not claimed

Interval = tuple[float, float]


def noise_floors(comparisons: pd.DataFrame) -> dict[str, Interval]:
    """Return model -> interval of the null control's ratio, where there is one."""
    controls = comparisons[comparisons["kind"] == "control"]
    ends = controls[["model", "ratio_low", "ratio_high"]].dropna()
    return {str(model): (low, high) for model, low, high in ends.itertuples(index=False)}


def draw_forest(
    axes: Axes,
    rows: Sequence[pd.Series | None],
    floors: Mapping[str, Interval],
    margin: float,
    *,
    numbers: bool,
) -> None:
    """Draw one ratio per row with its intervals; a row without values is a heading or a gap.

    The thick line is the pointwise interval, the thin one the simultaneous. What is not claimed is
    grey, hollow and dashed. `floors` has the null control's interval by model; it is one of task
    runs, so it does not lie behind runs of fixed length. With `numbers` the values are written on
    the right.
    """
    axes.axvspan(1 / (1 + margin), 1 + margin, color=BAND, linewidth=0, zorder=0)
    _draw_floors(axes, rows, floors, 0.2 if numbers else 0.0)
    axes.axvline(1, color=INK, linewidth=0.6)
    reach = reach_of([row for row in rows if row is not None], margin)
    edge = math.exp(1.1 * reach)
    for place, row in enumerate(rows):
        if row is not None:
            draw_ratio(axes, place, row, edge, 4 if numbers else 3)
            if numbers:
                color = INK if row["claimable"] else UNCLAIMED
                beside = axes.get_yaxis_transform()
                axes.text(1.01, place, _said(row), transform=beside, va="center", color=color)
    if not numbers:
        axes.grid(True, axis="y")
    axes.set_xscale("log")
    axes.set_xlim(1 / edge, edge)
    ratio_ticks(axes, math.exp(reach), 2 if numbers else 1)


def _draw_floors(
    axes: Axes, rows: Sequence[pd.Series | None], floors: Mapping[str, Interval], between: float
) -> None:
    """Draw the noise floor behind each row, in one piece where neighbours share it."""
    of_rows = [
        None if row is None or row["kind"] == "fixed" else floors.get(row["model"]) for row in rows
    ]
    first = 0
    for floor, same in itertools.groupby(of_rows):
        last = first + len(list(same))
        if floor is not None:
            corner, high = (floor[0], first - 0.5 + between / 2), last - first - between
            axes.add_patch(Rectangle(corner, floor[1] - floor[0], high, color=NOISE, linewidth=0))
        first = last


def reach_of(rows: Sequence[pd.Series], margin: float) -> float:
    """Return the largest distance from 1 that is shown, as a logarithm."""

    def distances(*keys: str) -> list[float]:
        values = [float(row[key]) for row in rows for key in keys]
        return [abs(math.log(value)) for value in values if 0 < value < math.inf]

    points = max([1.3 * math.log1p(margin), *distances("ratio")])
    ends = distances("ratio_low", "ratio_high", "simultaneous_low", "simultaneous_high")
    return min(max([points, *ends]), MOST_TIMES * points)


def draw_ratio(axes: Axes, place: float, row: pd.Series, edge: float, size: float) -> None:
    """Draw one ratio and its intervals, as far as they lie within 1 / `edge` to `edge`."""
    color, marker, _ = FOREST[row["family"]]
    hollow = row["family"] == "control" or not row["claimable"]
    color = color if row["claimable"] else UNCLAIMED
    line = "-" if row["claimable"] else DASHES
    for name, width in (("simultaneous", THIN), ("ratio", THICK)):
        low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
        seen = [max(low, 1 / edge), min(high, edge)]
        if math.isfinite(seen[0]) and math.isfinite(seen[1]):
            axes.plot(seen, [place] * 2, color=color, linewidth=width, linestyle=line)
            for outside, end, arrow in ((low < seen[0], 0, "<"), (high > seen[1], 1, ">")):
                if outside:
                    axes.plot(seen[end], place, arrow, color=color, markersize=3, clip_on=False)
    fill = PAPER if hollow else color
    axes.plot(row["ratio"], place, marker, color=color, markerfacecolor=fill, markersize=size)


def _said(row: pd.Series) -> str:
    """Return the ratio in words, as it stands beside its row."""
    if not row["n_blocks"]:
        return "no whole block"
    ratio, low, high = (float(row[key]) for key in ("ratio", "ratio_low", "ratio_high"))
    text = f"{ratio:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(low) else f"{ratio:.3f}"
    return f"{text}, n = {row['n_blocks']}" + ("" if row["claimable"] else ": no claim")


def marks_of_forest(comparisons: pd.DataFrame, margin: float) -> list[Mark]:
    """Return what the legend names of `comparisons`, and nothing that is not there."""
    claimed = comparisons[comparisons["claimable"]]
    marks: list[Mark] = []
    for family, (color, marker, label) in FOREST.items():
        if (claimed["family"] == family).any():
            fill = PAPER if family == "control" else color
            marks += [_line(label, color, marker=marker, markerfacecolor=fill, linestyle="none")]
    if not comparisons["claimable"].all():
        look = {"marker": "o", "markerfacecolor": PAPER, "linestyle": DASHES, "linewidth": THICK}
        marks += [_line("no claim", UNCLAIMED, **look)]
    if comparisons["ratio_low"].notna().any():
        marks += [_line("95 % interval", INK, linewidth=THICK)]
    if comparisons["simultaneous_low"].notna().any():
        marks += [_line("95 %, whole family", INK, linewidth=THIN)]
    marks += [Patch(facecolor=BAND, label=f"within {100 * margin:g} %")]
    if noise_floors(comparisons):
        marks += [Patch(facecolor=NOISE, label="noise floor")]
    return marks


def _line(label: str, color: str, **look: object) -> Line2D:
    return Line2D([], [], color=color, label=label, **look)  # type: ignore[arg-type]
