"""Drift: the runs in the order in which they were measured."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.analyse.drift import drift
from joules.draw.looks import looks, mark_runs, name_runtimes
from joules.draw.panels import message_instead, new_figure
from joules.draw.selection import RUN
from joules.draw.style import DOUBLE_COLUMN, INK, TEXT_SIZE

TABLES: tuple[str, ...] = ("runs",)


def draw(runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw each run's deviation from its cell's mean against its place in the order of runs.

    Drift of the machine is a slope. The dashed line and the test are those of
    `joules.analyse.drift.drift` over all valid runs: Theil and Sen's slope and Kendall's tau.
    """
    runtimes = looks(runs)
    runs = runs[runs["valid"] & runs["kind"].isin(["task", "control"])]
    if runs.empty:
        return message_instead("No run is valid.", note)
    energy = runs["energy_j_per_token"]
    mean = energy.groupby([runs[key] for key in RUN[:3]]).transform("mean")
    runs = runs.assign(deviation=100 * (energy / mean - 1)).sort_values("position_actual")
    figure = new_figure(DOUBLE_COLUMN, 2.7, note)
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=0.6)
    size = 4 if len(runs) <= 100 else 2.8
    for (runtime, kind), own in runs.groupby(["runtime", "kind"]):
        places = list(zip(own["position_actual"], own["deviation"], strict=True))
        mark_runs(axes, places, runtimes[str(runtime)], str(kind), size=size)
    trend = drift(runs).iloc[0]
    slope = 100 * trend["slope_per_run"]
    if math.isfinite(slope):
        places = runs["position_actual"]
        ends = np.array([places.min(), places.max()], float)
        line = runs["deviation"].median() + slope * (ends - places.median())
        axes.plot(ends, line, color=INK, linewidth=1.4, linestyle="--")
        test = f"Kendall's tau {trend['kendall_tau']:.2f}, p = {trend['p_kendall']:.2g}"
        text = f"Theil-Sen slope {slope:+.2g} % per run; {test}"
        axes.set_title(text, fontweight="normal", fontsize=TEXT_SIZE, loc="right")
    axes.grid(True, axis="y")
    axes.set(xlabel="Place in the order of runs", ylabel="Energy per token,\ndeviation (%)")
    name_runtimes(figure, runtimes.values())
    return figure
