"""Figures with panels, their axes and legends."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from joules.draw.style import (
    DOUBLE_COLUMN,
    INK,
    LEGEND_MARK,
    LETTER_WIDTH,
    LINE_HEIGHT,
    ROW_LETTERS,
    ROW_LINE,
    SINGLE_COLUMN,
    TEXT_SIZE,
    TITLE_SIZE,
    WINDOWS,
)

Mark = Line2D | Patch  # of a legend


def new_figure(
    width: float, height: float, note: str = "", x_label: str = "", lines_above: int = 0
) -> Figure:
    """Return an empty figure of `width` x `height` inches.

    `x_label` stands below all panels, `note` below that on the right; the height grows by what
    they and a legend of `lines_above` on top need.
    """
    below = LINE_HEIGHT * (bool(note) + bool(x_label))
    height += below + LINE_HEIGHT * lines_above
    figure = Figure(figsize=(width, height))
    rect = (0, below / height, 1, 1 - below / height)
    figure.set_layout_engine("constrained", rect=rect, w_pad=0.05)
    if note:
        figure.text(0.995, 0.04 / height, note, ha="right", va="bottom", style="italic")
    if x_label:
        y = (below - LINE_HEIGHT + 0.04) / height
        figure.text(0.5, y, x_label, ha="center", va="bottom")
    return figure


def message_instead(text: str, note: str = "") -> Figure:
    """Return a figure that says why there is nothing to see."""
    figure = new_figure(DOUBLE_COLUMN, 1.0, note)
    figure.text(0.5, 0.6, text, ha="center", va="center")
    return figure


def grid_of_panels(
    titles: Sequence[str],
    row_labels: Sequence[str],
    x_label: str,
    note: str = "",
    *,
    row_height: float = 0.3,
    columns: int = 2,
    legend: Sequence[Mark] = (),
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel per title, all with the same labelled rows; inches.

    It is one column wide where there is one panel and its labels leave half of that to it. `legend`
    names its marks above the panels.
    """
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    row_labels = [label if "\n" in label else in_lines(label) for label in row_labels]
    label_lines = [line for label in row_labels for line in label.split("\n")]
    label_width = 0.2 + LETTER_WIDTH * max(map(len, label_lines))
    most = 1 + max(label.count("\n") for label in row_labels)
    row_height = max(row_height, most * ROW_LINE + 0.05 if most > 1 else 0)
    narrow = columns == 1 and label_width < SINGLE_COLUMN / 2
    width = SINGLE_COLUMN if narrow else DOUBLE_COLUMN
    size = TITLE_SIZE if columns <= 2 else TEXT_SIZE
    headings = [wrapped(title, size, (width - label_width) / columns - 0.1) for title in titles]
    lines = 1 + max(heading.count("\n") for heading in headings)
    panel_height = max(len(row_labels) * row_height, 0.75)
    height = rows * (panel_height + lines * LINE_HEIGHT * 0.8 + 0.3)
    figure = new_figure(width, height, note, x_label, legend_lines(legend, width))
    if legend:
        legend_above(figure, legend)
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for spare in panels[len(titles) :]:
        spare.remove()
    for axes, heading in zip(panels, headings, strict=False):
        axes.set_title(heading, fontsize=size)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        label_rows(axes, row_labels)
    return figure, panels[: len(titles)]


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Write one label per row on the y axis; the first row is on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def in_lines(label: str, letters: int = ROW_LETTERS) -> str:
    """Return an arm's label in lines of so many letters, broken after commas where it can be.

    A label without a comma, as that of a runtime, stays in one line.
    """
    lines: list[str] = []
    if len(label) <= letters or ", " not in label:
        return label
    parts = label.split(", ")
    ended = [f"{part}," for part in parts[:-1]] + parts[-1:]
    for piece in (piece for part in ended for piece in textwrap.wrap(part, letters)):
        if lines and len(f"{lines[-1]} {piece}") <= letters and lines[-1].endswith(","):
            lines[-1] = f"{lines[-1]} {piece}"
        else:
            lines.append(piece)
    return "\n".join(lines)


def wrapped(title: str, size: float, inches: float) -> str:
    """Return a bold title of `size` points in lines that fit `inches`."""
    letters = int(inches / (0.009 * size))  # the mean width of a bold letter, per point
    return "\n".join(textwrap.wrap(title, max(8, letters))) or title


def legend_columns(marks: Sequence[Mark], width: float) -> int:
    """Return in how many columns a legend fits `width` inches."""
    lengths = [len(str(mark.get_label())) for mark in marks]
    for columns in range(len(marks), 1, -1):
        shares = np.array_split(lengths, columns)  # as matplotlib does
        if sum(LEGEND_MARK + LETTER_WIDTH * max(share) for share in shares) <= width:
            return columns
    return 1


def legend_lines(marks: Sequence[Mark], width: float) -> int:
    """Return how many lines a legend has at `width` inches."""
    return -(-len(marks) // legend_columns(marks, width))  # none for no marks


def legend_above(figure: Figure, marks: Sequence[Mark]) -> None:
    """Write a legend above all panels, in as many columns as fit."""
    columns = legend_columns(marks, figure.get_figwidth())
    figure.legend(handles=marks, loc="outside upper center", ncols=columns, columnspacing=1.2)


def stack_of_panels(
    titles: Sequence[str], y_label: str, x_label: str, note: str = ""
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel above the other, all on the same axes, for lines over time."""
    height = len(titles) * 0.85 + 0.35
    figure = new_figure(DOUBLE_COLUMN, height + 2 * LINE_HEIGHT, note, x_label)
    panels = list(figure.subplots(len(titles), 1, sharex=True, sharey=True, squeeze=False).flat)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=TEXT_SIZE)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.grid(True, axis="y")
        axes.grid(False, axis="x")
        axes.margins(x=0.01)
    figure.supylabel(y_label, fontsize=TEXT_SIZE)
    return figure, panels


def marks_of_windows(
    windows: Sequence[str],
    alpha: float = 1.0,
    lines: Mapping[str, tuple[str, str]] | None = None,
) -> list[Mark]:
    """Return what a legend names of the protocol's windows, and of lines by colour and dashes."""
    marks: list[Mark] = [
        Patch(
            facecolor=WINDOWS[name][0],
            hatch=WINDOWS[name][1],
            edgecolor=INK,
            linewidth=0.4,
            alpha=alpha,
            label=name.replace("_", " "),
        )
        for name in windows
    ]
    marks += [
        Line2D([], [], color=color, linestyle=dashes, label=label)  # type: ignore[arg-type]
        for label, (color, dashes) in (lines or {}).items()
    ]
    return marks


def name_models(axes: Axes, points: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Join each model's points and write its name on the right of the axes, where no point is.

    The y axis goes from 0 to 1. Names that would meet are moved up.
    """
    taken = -1.0
    for model, place in sorted(points.items(), key=lambda item: max(item[1])[1]):
        axes.plot(*zip(*sorted(place), strict=True), color=INK, linewidth=0.6, zorder=1)
        x, y = max(place)
        taken = max(y, taken + 0.055)
        line = {"arrowstyle": "-", "color": INK, "linewidth": 0.4, "linestyle": ":"}
        axes.annotate(
            model,
            (x, y),
            xytext=(1.02, taken),
            textcoords="axes fraction",
            va="center",
            arrowprops=line,
            annotation_clip=False,
        )


def plain_log_ticks(axes: Axes) -> None:
    """Label a logarithmic x axis with plain numbers, more of them where it spans little."""
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 200 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def ratio_ticks(axes: Axes, reach: float, each_side: int) -> None:
    """Label ratios evenly around 1, at most `each_side` below and above, up to about `reach`."""
    steps = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
    step = next((step for step in steps if (reach - 1) / step < each_side + 1), reach - 1)
    ups = [1 + step * k for k in range(1, each_side + 1) if 1 + step * k <= reach]
    ticks = [*(1 / up for up in reversed(ups)), 1.0, *ups]
    axes.set_xticks(ticks, [f"{tick:.2f}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
