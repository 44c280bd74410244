"""Figures of runs: ratios of runtimes, the null control, the order of runs, power over time.

Columns are those of `joules.tables` and `joules.statistics.compare`; power is in watt. `note` is a
line below the axes (see `joules.style.tier_note`).
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.descriptives import drift
from joules.selection import RUN, models_of, rows_of, where
from joules.statistics import MARGIN, paired_blocks
from joules.style import (
    DOUBLE_COLUMN,
    INK,
    PALETTE,
    WINDOWS,
    draw_forest,
    grid_of_panels,
    label_rows,
    looks,
    message_instead,
    name_runtimes,
    name_windows,
    new_figure,
    point_of_run,
    ratio_ticks,
    stack_of_panels,
)

FEW_ROWS = 16  # so many ratios fit one panel beside their numbers
CONTROL_MARGIN = 0.02  # the null control is to stay within 1 / (1 + this) and 1 + this
NO_TRACE = "The records of this campaign hold no power over time."
PARTS = {  # of the power over time: name in the legend, colour, line
    "cpu_power_w": ("CPU", PALETTE[0], "-"),
    "gpu_power_w": ("GPU", PALETTE[1], "--"),
    "dram_power_w": ("memory", PALETTE[2], ":"),
}


def ratios(
    comparisons: pd.DataFrame, runs: pd.DataFrame, note: str = "", margin: float = MARGIN
) -> Figure:
    """Draw the ratio of J per token of each pair with its 95 % interval, the null control below.

    The band is the margin of equivalence, 1 / (1 + margin) to 1 + margin. Few ratios share one
    panel and have their numbers beside them; many are drawn in one panel per model.
    """
    if comparisons.empty:
        return message_instead("One runtime, no control: there is no ratio to show.", note)
    labels = {runtime: look.label for runtime, look in looks(runs).items()}
    kinds = ("task", "fixed", "control")
    names = [
        f"{labels[row.runtime_a]} / "
        + ("itself (null control)" if row.kind == "control" else labels[row.runtime_b])
        + " (fixed length)" * (row.kind == "fixed")
        for row in rows_of(comparisons)
    ]
    comparisons = comparisons.assign(pair=names)
    comparisons = comparisons.sort_values(
        "kind", key=lambda kind: kind.map(kinds.index), kind="stable"
    )
    pairs = list(dict.fromkeys(comparisons["pair"]))
    models = models_of(comparisons)
    x_label = "Ratio of energy per token (logarithmic)"
    if len(comparisons) > FEW_ROWS:
        counts = comparisons.groupby("model")["n_blocks"].agg(["min", "max"]).loc[models]
        numbers = [str(a) if a == b else f"{a} to {b}" for a, b in counts.itertuples(index=False)]
        titles = [  # in one line: no break within the brackets
            f"{model} " + f"(n = {number})".replace(" ", "\u00a0")
            for model, number in zip(models, numbers, strict=True)
        ]
        figure, panels = grid_of_panels(titles, pairs, x_label, note, row_height=0.17, columns=4)
        for axes, model in zip(panels, models, strict=True):
            of_model = [where(comparisons, model=model, pair=pair) for pair in pairs]
            rows = [None if found.empty else found.iloc[0] for found in of_model]
            draw_forest(axes, rows, margin, numbers=False)
        return figure
    lines: list[tuple[str, pd.Series | None]] = []
    for pair in pairs:
        lines += [(pair, None)]
        lines += [(row["model"], row) for _, row in where(comparisons, pair=pair).iterrows()]
    figure = new_figure(DOUBLE_COLUMN, len(lines) * 0.22 + 0.3, note, x_label)
    axes = figure.subplots()
    draw_forest(axes, [row for _, row in lines], margin, numbers=True)
    label_rows(axes, [name for name, _ in lines])
    for text, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if row is None else "normal")
    return figure


def order(runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw each run's deviation from its cell's mean against its place in the order of runs.

    Drift of the machine is a slope. The dashed line and the test are those of
    `joules.descriptives.drift` over all valid runs: Theil and Sen's slope and Kendall's tau.
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
    for run in rows_of(runs):
        point = point_of_run(runtimes[run.runtime], run.kind, True) | {"markersize": size}
        axes.plot(run.position_actual, run.deviation, zorder=3, **point)
    trend = drift(runs).iloc[0]
    slope = 100 * trend["slope_per_run"]
    if math.isfinite(slope):
        places = runs["position_actual"]
        ends = np.array([places.min(), places.max()], float)
        line = runs["deviation"].median() + slope * (ends - places.median())
        axes.plot(ends, line, color=INK, linewidth=1.4, linestyle="--")
        test = f"Kendall's tau {trend['kendall_tau']:.2f}, p = {trend['p_kendall']:.2g}"
        text = f"Theil-Sen slope {slope:+.2g} % per run; {test}"
        axes.set_title(text, fontweight="normal", fontsize=8, loc="right")
    axes.grid(True, axis="y")
    axes.set(xlabel="Place in the order of runs", ylabel="Energy per token,\ndeviation (%)")
    name_runtimes(figure, runtimes.values())
    return figure


def null_control(comparisons: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
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
    names = [f"block {block}" for block in blocks] + ["mean"]
    x_label = f"{labels[controls['runtime_a'].iloc[0]]} against itself: ratio of energy per token"
    figure, panels = grid_of_panels(models, names, x_label, note, row_height=0.19, columns=4)
    reach = math.log1p(CONTROL_MARGIN) * 1.4
    for axes, row in zip(panels, rows_of(controls), strict=True):
        pairs = paired_blocks(runs, row.model, row.runtime_a, row.runtime_b, kind_b="control")
        ratios_of_blocks = pairs.a / pairs.b
        axes.axvspan(1 / (1 + CONTROL_MARGIN), 1 + CONTROL_MARGIN, color="#dde7f0", zorder=0)
        axes.axvline(1, color=INK, linewidth=0.6)
        places = [blocks.index(block) for block in pairs.blocks]
        hollow: Any = {"markerfacecolor": "white", "markersize": 4, "linestyle": "none"}
        axes.plot(ratios_of_blocks, places, "o", color=PALETTE[0], **hollow)
        axes.plot([row.ratio_low, row.ratio_high], [len(blocks)] * 2, color=INK, linewidth=1.6)
        axes.plot(row.ratio, len(blocks), "D", color=INK, markersize=4.5)
        ends = [*ratios_of_blocks, row.ratio_low, row.ratio_high]
        reach = max([reach, *(abs(math.log(end)) for end in ends if math.isfinite(end))])
        axes.grid(True, axis="y")
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(math.exp(-1.1 * reach), math.exp(1.1 * reach))
        ratio_ticks(axes, math.exp(reach), 1 if len(models) > 2 else 2)
    return figure


def power_over_time(
    trace: pd.DataFrame, windows: pd.DataFrame, runs: pd.DataFrame, note: str = ""
) -> Figure:
    """Draw the power of one run of each runtime over its windows, for the first model.

    The run is the first valid one of kind task; `trace` holds one row per second. Lines are CPU,
    GPU and memory, where there is a source. A line says so where the records hold no trace.
    """
    models = [model for model in models_of(runs) if model in set(trace["model"])]
    own = where(trace, kind="task", model=models[0]) if models else trace
    if own.empty:
        return message_instead(NO_TRACE, note)
    runtimes = {name: look for name, look in looks(runs).items() if name in set(own["runtime"])}
    titles = [look.label for look in runtimes.values()]
    x_label = f"Time since the start of the run (s), {models[0]}"
    figure, panels = stack_of_panels(titles, "Power (W)", x_label, note)
    parts = [part for part in PARTS if own[part].notna().any()]
    for axes, runtime in zip(panels, runtimes, strict=True):
        seen = where(own, runtime=runtime).sort_values("time_s")
        run = where(windows, model=models[0], runtime=runtime, kind="task")
        run = run[run["block"] == seen["block"].iloc[0]]
        begin = run.loc[run["window"] == "idle_cold", "start_monotonic_s"].min()
        for window in rows_of(run):
            color, hatch = WINDOWS[window.window]
            start = window.start_monotonic_s - begin
            axes.axvspan(
                start,
                start + window.duration_s,
                facecolor=color,
                edgecolor=INK,
                hatch=hatch,
                linewidth=0,
                alpha=0.28,
                zorder=0,
            )
            axes.axvline(start, color=INK, linewidth=0.4, zorder=1)
        for part in parts:
            _, color, line = PARTS[part]
            axes.plot(seen["time_s"], seen[part], color=color, linestyle=line, linewidth=1.1)
    panels[0].set_ylim(0, 1.05 * own[parts].max().max())  # the panels share it
    used = [name for name in WINDOWS if name in set(windows["window"])]
    lines = {PARTS[part][0]: PARTS[part][1:] for part in parts}
    name_windows(figure, used, alpha=0.28, lines=lines)
    return figure
