"""How every figure looks and how it is written: one palette, one set of sizes, equal bytes."""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from joules.files import write_atomic
from joules.statistics import runtime_order

SINGLE_COLUMN = 3.5  # inches, the column of a two-column journal page
DOUBLE_COLUMN = 7.0  # inches, both columns
LETTER_WIDTH = 0.064  # inches, the mean of a label's letters
LINE_HEIGHT = 0.19  # inches, of a line of text outside the panels
FORMATS = ("svg", "pdf", "png")
INK = "#222222"
FAINT = "#bbbbbb"

# Okabe and Ito (2008), "Color Universal Design": told apart with any colour vision. Their yellow is
# too light for a white page, so grey, the ninth of R's palette.colors("Okabe-Ito"), stands for it.
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#999999",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # of similar area, distinct without colour
FOREST = {  # by kind of run: colour and marker of a ratio; the control's is hollow
    "task": (PALETTE[0], "o"),
    "fixed": (PALETTE[1], "s"),
    "control": (INK, "o"),
}
WINDOWS = {  # in the order of the protocol: colour and hatch, told apart in grey as well
    "idle_cold": ("#d9d9d9", ""),
    "load": ("#E69F00", "////"),
    "idle_resident": ("#969696", "...."),
    "settle": ("#56B4E9", "\\\\\\\\"),
    "tasks": ("#0072B2", ""),
    "idle_after": ("#f0f0f0", "||||"),
}

STYLE: Any = {  # over seaborn's style `ticks`
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "figure.dpi": 300,
    "font.family": "DejaVu Sans",  # bundled with matplotlib, so the same on every machine
    "font.size": 8,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.4,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
    "path.simplify": False,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "path",  # looks the same without the font
    "svg.hashsalt": "joules",  # element ids are random without it
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": 8,
    "ytick.major.width": 0.6,
}
# Dates and versions in a file would make two renderings of the same data differ.
METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@contextmanager
def style() -> Iterator[None]:
    """Draw under the style of this module, whatever matplotlibrc the machine has."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(seaborn.axes_style("ticks") | STYLE)
        yield


@dataclass(frozen=True)
class Look:
    """How one runtime is drawn: told apart by colour, and by marker without it."""

    label: str
    color: str
    marker: str


def looks(frame: pd.DataFrame) -> dict[str, Look]:
    """Return runtime -> Look for a table with columns `runtime`, `runtime_label` and `kind`.

    The order is that of `runtime_order`, so that a runtime looks the same in every figure.
    """
    labels = dict(zip(frame["runtime"], frame["runtime_label"], strict=True))
    return {
        runtime: Look(
            label=str(labels[runtime]),
            color=PALETTE[index % len(PALETTE)],
            # Past the end of the palette colours return with other markers.
            marker=MARKERS[(index + index // len(MARKERS)) % len(MARKERS)],
        )
        for index, runtime in enumerate(runtime_order(frame))
    }


def tier_note(tier: str, demonstration: bool) -> str:
    """Return what every figure has to say of its numbers; empty when there is nothing to warn of.

    `tier` is the energy tier: `measured`, `sampled`, `estimated` or `unstated`.
    """
    words = {"estimated": "energy modelled, not measured", "unstated": "energy tier unstated"}
    energy = words.get(tier, "")
    if not demonstration:
        return energy
    return f"{energy} (demonstration study)" if energy else "demonstration study"


def new_figure(
    width: float, height: float, note: str = "", x_label: str = "", legend: bool = False
) -> Figure:
    """Return an empty figure of `width` x `height` inches.

    `x_label` stands below all panels, `note` below that on the right; the height grows by what
    they and a legend on top need.
    """
    below = LINE_HEIGHT * (bool(note) + bool(x_label))
    height += below + LINE_HEIGHT * legend
    figure = Figure(figsize=(width, height), layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, below / height, 1, 1 - below / height), w_pad=0.05)
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
    legend: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel per title, all with the same labelled rows; inches.

    It is one column wide where there is one panel and its labels leave half of that to it.
    """
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    label_width = 0.2 + LETTER_WIDTH * max(map(len, row_labels))
    narrow = columns == 1 and label_width < SINGLE_COLUMN / 2
    width = SINGLE_COLUMN if narrow else DOUBLE_COLUMN
    size = 9 if columns <= 2 else 8
    headings = [wrapped(title, size, (width - label_width) / columns - 0.1) for title in titles]
    lines = 1 + max(heading.count("\n") for heading in headings)
    panel_height = max(len(row_labels) * row_height, 0.75)
    height = rows * (panel_height + lines * LINE_HEIGHT * 0.8 + 0.3)
    figure = new_figure(width, height, note, x_label, legend)
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


def wrapped(title: str, size: float, inches: float) -> str:
    """Return a bold title of `size` points in lines that fit `inches`."""
    letters = int(inches / (0.009 * size))  # the mean width of a bold letter, per point
    return "\n".join(textwrap.wrap(title, max(8, letters))) or title


def name_runtimes(figure: Figure, runtimes: Iterable[Look]) -> None:
    """Name the runtimes' markers above the axes."""
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="none", label=look.label)
        for look in runtimes
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))


def name_windows(
    figure: Figure,
    windows: Sequence[str],
    alpha: float = 1.0,
    lines: Mapping[str, tuple[str, str]] | None = None,
) -> None:
    """Name the windows of the protocol above the axes, and lines by their colour and dashes."""
    handles: list[Any] = [
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
    handles += [
        Line2D([], [], color=color, linestyle=dashes, label=label)  # type: ignore[arg-type]
        for label, (color, dashes) in (lines or {}).items()
    ]
    wide = figure.get_figwidth() == DOUBLE_COLUMN
    columns = min(len(handles), (6 if len(handles) <= 6 else 5) if wide else 3)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.2)


def stack_of_panels(
    titles: Sequence[str], y_label: str, x_label: str, note: str = ""
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel above the other, all on the same axes, for lines over time."""
    height = len(titles) * 0.85 + 0.35
    figure = new_figure(DOUBLE_COLUMN, height + 2 * LINE_HEIGHT, note, x_label)
    panels = list(figure.subplots(len(titles), 1, sharex=True, sharey=True, squeeze=False).flat)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.grid(True, axis="y")
        axes.grid(False, axis="x")
        axes.margins(x=0.01)
    figure.supylabel(y_label, fontsize=8)
    return figure, panels


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


def point_of_run(look: Look, kind: str, valid: bool) -> dict[str, Any]:
    """Return how one run is marked: filled, hollow for the control, a cross when invalid."""
    return {
        "marker": look.marker if valid else "x",
        "markerfacecolor": look.color if kind == "task" else "white",
        "markeredgecolor": look.color,
        "linestyle": "none",
    }


def draw_forest(
    axes: Axes, rows: Sequence[pd.Series | None], margin: float, *, numbers: bool
) -> None:
    """Draw one ratio per row with its interval; a row without values is a heading or a gap.

    With `numbers` the values are written on the right.
    """
    axes.axvspan(1 / (1 + margin), 1 + margin, color="#dde7f0", zorder=0)
    axes.axvline(1, color=INK, linewidth=0.6)
    reach = 1.3 * math.log1p(margin)
    for row, values in enumerate(rows):
        if values is None:
            continue
        color, marker = FOREST[values["kind"]]
        ratio, low, high = (float(values[key]) for key in ("ratio", "ratio_low", "ratio_high"))
        axes.plot([low, high], [row, row], color=color, linewidth=1.4)
        fill = "white" if values["kind"] == "control" else color
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


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Write `figure` as <stem>.svg, .pdf and .png, each whole or not at all; return the paths.

    The same figure gives the same bytes with the same version of matplotlib. Raises UserError
    when the disk is full.
    """
    paths = []
    for suffix in FORMATS:
        content = io.BytesIO()
        with style():
            figure.savefig(content, format=suffix, dpi=figure.dpi, metadata=METADATA[suffix])
        paths.append(Path(f"{stem}.{suffix}"))
        write_atomic(paths[-1], content.getvalue())
    return paths
