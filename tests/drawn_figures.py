"""Figures for tests: the tables of synthetic studies, drawn, and what is read off the drawing."""

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from synthetic_tables import study_tables

from joules.analyse import cells, comparison
from joules.analyse.drift import drift
from joules.core.plan import Run
from joules.draw.drawing import draw
from joules.draw.style import style

TWO = ("alpha-1m", "beta-3m")
FOUR = ("alpha-7b-instruct", "beta-coder-6.7b-instruct", "gamma-7b-instruct-v0.3", "delta-7b")
EIGHT = (
    *("a_long_name_of_one", "b_two", "c_three", "d_four"),
    *("e_five", "f_six", "g_seven", "h_eight"),
)
INVALID = Run("alpha-1m", "two", "task", 2)


def trace_of(windows):
    """Return one value a second for the first run of each cell, from its windows' mean power."""
    rows = []
    first = windows[windows["kind"] == "task"]
    first = first[first["block"] == first.groupby(["model", "runtime"])["block"].transform("min")]
    for keys, run in first.groupby(["model", "runtime", "runtime_label", "kind", "block"]):
        begin = run["start_monotonic_s"].min()
        for second in range(int((run["start_monotonic_s"] + run["duration_s"]).max() - begin)):
            now = run[run["start_monotonic_s"] <= begin + second].iloc[-1]
            power = [now["power_w"] + second % 3, np.nan, 0.1 * now["power_w"]]
            rows.append([*keys, float(second), *power, "own_counters"])
    names = ["model", "runtime", "runtime_label", "kind", "block", "time_s"]
    parts = ["cpu_power_w", "gpu_power_w", "dram_power_w"]
    return pd.DataFrame(rows, columns=[*names, *parts, "source"])


def tables_of(folder, contrasts=None, **options):
    """Return the tables that figures are drawn from, of a synthetic study."""
    _, made = study_tables(folder, **options)
    return {
        "runs": made.runs,
        "tasks": made.tasks,
        "windows": made.windows,
        "trace": trace_of(made.windows),
        "cells": cells.cells(made.runs, made.tasks),
        "comparisons": comparison.compare(made.runs, contrasts=contrasts),
        "drift": drift(made.runs),
    }


def small_tables(folder):
    """Return two models on two runtimes in five blocks with the control; one run is invalid.

    A meter of the whole machine was read beside the processor.
    """
    options: dict = {"wall": {"energy": "processor"}} | {
        "models": TWO,
        "runtimes": ("one", "two"),
        "ratios": {"two": 1.3},
    }
    return tables_of(folder, tier="estimated", invalid=[INVALID], **options)


def large_tables(folder):
    """Return four models on eight runtimes."""
    ratios = dict(zip(EIGHT, (1, 1.5, 0.9, 1.02, 2.1, 1.3, 1.0, 1.1), strict=True))
    return tables_of(folder, models=FOUR, runtimes=EIGHT, blocks=2, problems=4, ratios=ratios)


ARMS = {  # by name: runtime, and label as the article prints it
    "server": ("server", "llama-server"),
    "lib": ("lib", "llama-cpp-python"),
    "lib_own": ("lib", "llama-cpp-python, as installed"),
    "lib_flash": ("lib", "llama-cpp-python, flash attention on"),
    "lib_q8": ("lib", "llama-cpp-python, flash attention on, KV cache q8_0"),
    "lib_stock": ("lib", "llama-cpp-python, library stock"),
    "again_own": ("again", "Ollama, as installed"),
    "again": ("again", "Ollama"),
}
CONTRASTS = [("again", "again_own"), ("lib", "lib_own"), ("lib_flash", "lib_q8")]


def tables_of_arms(folder, names, contrasts=CONTRASTS, **options):
    """Return the tables of a study of these arms, in their order, with their labels."""
    tables = tables_of(folder, runtimes=tuple(names), contrasts=contrasts, **options)
    for table in tables.values():
        if "runtime_label" in table:
            table["runtime_label"] = [ARMS[name][1] for name in table["runtime"]]
    return tables


def named(names):
    """Return the arms that a study names, as `draw` takes them."""
    return {name: ARMS[name][0] for name in names}


def drawn(name, tables, arms=None):
    """Return a figure, laid out."""
    figure = draw(name, tables, demonstration=True, arms=arms or {})
    with style():
        FigureCanvasAgg(figure).draw()
    return figure


def panel(figure, title):
    """Return the panel of a title."""
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def row_labels(figure):
    """Return the names of the rows."""
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def row_of(figure, label):
    """Return the place of a row by its name."""
    return row_labels(figure).index(label)


def markers(axes, *kinds):
    """Return x of everything drawn with one of these markers."""
    lines = [line for line in axes.lines if line.get_marker() in kinds]
    return [float(x) for line in lines for x in np.atleast_1d(line.get_xdata())]


def marked_at(axes, row):
    """Return the one marker of a row: its x, its marker, its colour and whether it is filled."""
    (line,) = (
        line
        for line in axes.lines
        if line.get_marker() not in ("None", None, "<", ">") and line.get_ydata()[0] == row
    )
    filled = to_hex(line.get_markerfacecolor()) == to_hex(line.get_color())
    return float(line.get_xdata()[0]), line.get_marker(), to_hex(line.get_color()), filled


def bars_at(axes, row):
    """Return [low, high] of the horizontal lines of a row, by their width, the thinnest first."""
    lines = [line for line in axes.lines if line.get_marker() == "None"]
    of_row = [line for line in lines if list(line.get_ydata()) == [row, row]]
    return [
        list(line.get_xdata()) for line in sorted(of_row, key=lambda each: each.get_linewidth())
    ]


def rectangles(axes, color):
    """Return (left, right, top, bottom) of the rectangles of a colour, in data coordinates."""
    boxes = [
        patch.get_window_extent().transformed(axes.transData.inverted())
        for patch in axes.patches
        if to_hex(patch.get_facecolor()) == color
    ]
    return [(box.x0, box.x1, min(box.y0, box.y1), max(box.y0, box.y1)) for box in boxes]


def legend_of(figure):
    """Return the words of the legend above a figure."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def seen_texts(figure):
    """Return the texts that are drawn: ticks outside the axes and hidden ones are not."""
    hidden = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False):
                if not min(low, high) <= place <= max(low, high) or not axes.axison:
                    hidden.add(label)
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]
