"""The forest plot of campaigns: each campaign's ratio, and below them what they say together."""

import dataclasses
import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from joules.analyse.conventions import MARGIN
from joules.analyse.side_by_side import CONTRAST, SideBySide
from joules.core.wording import number_of
from joules.draw.forest import DASHES, THICK, THIN, draw_ratio, reach_of
from joules.draw.panels import (
    Mark,
    legend_above,
    legend_lines,
    message_instead,
    new_figure,
    ratio_ticks,
)
from joules.draw.style import (
    BAND,
    DOUBLE_COLUMN,
    FOREST,
    INK,
    PALETTE,
    PAPER,
    TEXT_SIZE,
    UNCLAIMED,
    style,
)

LINE = 0.22  # inches, of a row with its name and numbers
DENSE = 0.3  # of a line, a row where there are too many to name
MOST_NAMED = 30  # campaigns of a group whose names stand beside their ratios
MOST_LINES = 200  # of the figure; what does not fit is in the tables
HALF_DIAMOND = 0.28  # of a line
MEAN = PALETTE[1]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the figure: its place in lines from the top, and what stands on its left.

    It shows a ratio, a mean, or where `further` is true the prediction interval of the mean; a row
    without either is a heading.
    """

    place: float
    name: str
    ratio: pd.Series | None = None
    mean: pd.Series | None = None
    further: bool = False
    numbers: bool = True


def draw_side_by_side(tables: SideBySide) -> Figure:
    """Return the forest plot of all ratios, group by group of one contrast and protocol.

    Thick lines are pointwise 95 % intervals, thin ones those of a campaign's whole family. What a
    campaign does not claim is grey, hollow and dashed. A diamond is a random-effects mean with its
    interval, the line below it the prediction interval. Groups with more campaigns come first;
    in a large group the ratios stand in their order and without names.
    """
    with style():
        rows, lines, left_out = _rows(tables)
        if not rows:
            return message_instead("No campaign compares two runtimes: there is no ratio to show.")
        note = f"{number_of(left_out, 'further group')}: in the tables" if left_out else ""
        marks = _marks(tables, rows)
        label = "Ratio of energy per token (logarithmic)"
        above = legend_lines(marks, DOUBLE_COLUMN)
        figure = new_figure(DOUBLE_COLUMN, lines * LINE + 0.3, note, label, above)
        legend_above(figure, marks)
        _draw(figure.subplots(), rows, lines)
    return figure


def _rows(tables: SideBySide) -> tuple[list[Row], float, int]:
    """Return the rows, how many lines they take, and how many groups found no room."""
    labels = dict(zip(tables.energy["runtime"], tables.energy["runtime_label"], strict=True))
    means = tables.means.sort_values(
        ["campaigns", *CONTRAST, "protocol"],
        ascending=[False, *[True] * (len(CONTRAST) + 1)],
        kind="stable",
    )
    of_contrast = means.groupby(CONTRAST)["protocol"].transform("size")
    groups = dict(list(tables.ratios.groupby([*CONTRAST, "protocol"])))
    rows: list[Row] = []
    place, left_out = 0.0, 0
    for (_, mean), protocols in zip(means.iterrows(), of_contrast[means.index], strict=True):
        group = groups[(*mean[CONTRAST], mean["protocol"])].sort_values(["ratio", "campaign"])
        named = len(group) <= MOST_NAMED
        needed = 3.5 + len(group) * (1 if named else DENSE)
        if rows and place + needed > MOST_LINES:
            left_out += 1
            continue
        rows.append(Row(place, _heading(mean, labels, protocols)))
        place += 1
        if not named:
            place -= 0.5 * (1 - DENSE)
        for _, ratio in group.iterrows():
            rows.append(Row(place, ratio["campaign"] if named else "", ratio, numbers=named))
            place += 1 if named else DENSE
        if math.isfinite(mean["ratio"]):
            place += 0 if named else 0.5 * (1 - DENSE)
            rows.append(Row(place, f"mean of {mean['machines']:.0f} campaigns", mean=mean))
            rows.append(Row(place + 1, "a further machine", mean=mean, further=True))
            place += 2
        place += 0.5
    return rows, place, left_out


def _heading(mean: pd.Series, labels: dict[str, str], protocols: int) -> str:
    pair = " / ".join(labels.get(mean[side], mean[side]) for side in ("runtime_a", "runtime_b"))
    fixed = " (fixed length)" * (mean["kind"] == "fixed")
    several = f", protocol {mean['protocol']:.0f} of {protocols}" if protocols > 1 else ""
    return f"{mean['model']}: {pair}{fixed}{several}"


def _draw(axes: Axes, rows: list[Row], lines: float) -> None:
    axes.axvspan(1 / (1 + MARGIN), 1 + MARGIN, color=BAND, linewidth=0, zorder=0)
    axes.axvline(1, color=INK, linewidth=0.6)
    reach = reach_of([row.ratio for row in rows if row.ratio is not None], MARGIN)
    edge = math.exp(1.1 * reach)
    beside = axes.get_yaxis_transform()
    for row in rows:
        color = INK
        if row.ratio is not None:
            draw_ratio(axes, row.place, row.ratio, edge, 4 if row.numbers else 2)
            color = INK if row.ratio["claimable"] else UNCLAIMED
        elif row.mean is not None:
            (_draw_prediction if row.further else _draw_mean)(axes, row.place, row.mean, edge)
        text = _numbers(row)
        if text:
            axes.text(1.01, row.place, text, transform=beside, va="center", color=color)
    axes.set_xscale("log")
    axes.set_xlim(1 / edge, edge)
    ratio_ticks(axes, math.exp(reach), 2)
    named = [row for row in rows if row.name]
    axes.set_yticks([row.place for row in named], [row.name for row in named])
    axes.set_ylim(lines - 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label, row in zip(axes.get_yticklabels(), named, strict=True):
        heading = row.ratio is None and row.mean is None
        if heading:  # from the left edge of the panel on, where nothing else stands in its line
            label.set_visible(False)
            axes.text(
                0, row.place, row.name, transform=beside, va="center", fontweight="bold",
                fontsize=TEXT_SIZE, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip


def _draw_mean(axes: Axes, place: float, mean: pd.Series, edge: float) -> None:
    """Draw a mean as a diamond as wide as its interval."""
    low, middle, high = (float(mean[key]) for key in ("ratio_low", "ratio", "ratio_high"))
    low, high = max(low, 1 / edge), min(high, edge)
    corners = [(low, place), (middle, place - HALF_DIAMOND), (high, place)]
    corners.append((middle, place + HALF_DIAMOND))
    axes.add_patch(Polygon(corners, facecolor=MEAN, edgecolor=MEAN, linewidth=0.5, zorder=3))


def _draw_prediction(axes: Axes, place: float, mean: pd.Series, edge: float) -> None:
    """Draw the prediction interval of a mean; an end beyond the axis has no stroke there."""
    low, high = (float(mean[f"prediction_{end}"]) for end in ("low", "high"))
    axes.plot([max(low, 1 / edge), min(high, edge)], [place] * 2, color=MEAN, linewidth=THICK)
    ends = [end for end in (low, high) if 1 / edge <= end <= edge]
    axes.plot(ends, [place] * len(ends), "|", color=MEAN, markersize=6)


def _numbers(row: Row) -> str:
    """Return the numbers on the right of a row."""
    if row.mean is not None and row.further:
        low, high = (float(row.mean[f"prediction_{end}"]) for end in ("low", "high"))
        about = "about " * (row.mean["approximate"] == "yes")
        return f"{about}{low:.3f} to {high:.3f}"
    told = row.ratio if row.ratio is not None else row.mean
    if told is None or not row.numbers:
        return ""
    ratio, low, high = (float(told[key]) for key in ("ratio", "ratio_low", "ratio_high"))
    text = f"{ratio:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(low) else f"{ratio:.3f}"
    if row.mean is not None:
        return text
    aside = "no claim" if not told["claimable"] else "not averaged" if told["left_out"] else ""
    return f"{text}, n = {told['n_blocks']}" + (f": {aside}" if aside else "")


def _marks(tables: SideBySide, rows: list[Row]) -> list[Mark]:
    """Return what the legend names of what is drawn."""
    shown = [row.ratio for row in rows if row.ratio is not None]
    families = {str(ratio["family"]) for ratio in shown if ratio["claimable"]}
    marks: list[Mark] = [
        Line2D([], [], color=color, marker=marker, linestyle="none", label=label)
        for family, (color, marker, label) in FOREST.items()
        if family in families
    ]
    if not all(ratio["claimable"] for ratio in shown):
        marks.append(
            Line2D([], [], color=UNCLAIMED, marker="o", markerfacecolor=PAPER, linewidth=THICK,
                   linestyle=DASHES, label="no claim")
        )  # fmt: skip
    marks.append(Line2D([], [], color=INK, linewidth=THICK, label="95 % interval"))
    marks.append(Line2D([], [], color=INK, linewidth=THIN, label="95 %, whole family"))
    if any(row.mean is not None for row in rows):
        marks.append(
            Line2D([], [], color=MEAN, marker="D", linestyle="none", label="random-effects mean")
        )
        marks.append(Line2D([], [], color=MEAN, linewidth=THICK, label="95 % prediction interval"))
    marks.append(Patch(facecolor=BAND, label=f"within {100 * MARGIN:g} %"))
    return marks
