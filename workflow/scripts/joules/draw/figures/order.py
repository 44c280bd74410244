"""Drift: the runs in the order in which they were measured."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.analyse.conventions import METRIC
from joules.analyse.drift import deviations
from joules.draw.looks import looks, mark_runs, marks_of_kinds, marks_of_runtimes
from joules.draw.panels import legend_above, legend_lines, message_instead, new_figure
from joules.draw.selection import where
from joules.draw.style import DOUBLE_COLUMN, FAINT, INK, TEXT_SIZE

TABLES: tuple[str, ...] = ("runs", "drift")


def draw(runs: pd.DataFrame, drift: pd.DataFrame, note: str = "") -> Figure:
    """Draw each valid run's deviation from its arm's mean against its place in the order of runs.

    Drift of the machine is a slope. The deviations are those of which `drift` is the trend; slope,
    interval and test are its own, over the whole study. The dashed line has the slope, the fan its
    interval; they meet at no deviation in the middle of the order.
    """
    runtimes = looks(runs)
    runs = deviations(runs)
    if runs.empty:
        return message_instead("No run is valid.", note)
    runs = runs.assign(deviation=100 * runs["deviation"])
    marks = marks_of_runtimes(runtimes.values()) + marks_of_kinds(runs)
    figure = new_figure(DOUBLE_COLUMN, 2.5, note, lines_above=legend_lines(marks, DOUBLE_COLUMN))
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=0.6)
    size = 4 if len(runs) <= 100 else 2.8
    for (runtime, kind), own in runs.groupby(["runtime", "kind"]):
        places = list(zip(own["position_actual"], own["deviation"], strict=True))
        mark_runs(axes, places, runtimes[str(runtime)], str(kind), size=size)
    trend = where(drift, model="all", runtime="all", kind="all", quantity=METRIC).iloc[0]
    slope, low, high = (100 * trend[f"slope_{name}"] for name in ("per_run", "low", "high"))
    if math.isfinite(slope):
        ends = np.array([runs["position_actual"].min(), runs["position_actual"].max()], float)
        along = ends - ends.mean()
        axes.fill_between(ends, low * along, high * along, color=FAINT, linewidth=0, zorder=0.5)
        axes.plot(ends, slope * along, color=INK, linewidth=1.4, linestyle="--", zorder=4)
        axes.set_title(_said(trend), fontweight="normal", fontsize=TEXT_SIZE, loc="right")
    axes.grid(True, axis="y")
    axes.set(xlabel="Place in the order of runs", ylabel="Energy per token,\ndeviation (%)")
    legend_above(figure, marks)
    return figure


def _said(trend: pd.Series) -> str:
    slope, low, high = (100 * trend[f"slope_{name}"] for name in ("per_run", "low", "high"))
    tau = f"Kendall's tau {trend['kendall_tau']:.2f}"
    return f"Theil-Sen slope {slope:+.2g} [{low:+.2g}, {high:+.2g}] % per run; {tau}"
