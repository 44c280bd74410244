"""Power over one run of each runtime."""

import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks
from joules.draw.panels import legend_above, marks_of_windows, message_instead, stack_of_panels
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import INK, PALETTE, WINDOWS

NO_TRACE = "The records of this campaign hold no power over time."
PARTS = {  # of the power over time: name in the legend, colour, line
    "cpu_power_w": ("CPU", PALETTE[0], "-"),
    "gpu_power_w": ("GPU", PALETTE[1], "--"),
    "dram_power_w": ("memory", PALETTE[2], ":"),
    "wall_power_w": ("whole machine", PALETTE[3], "-."),
}

TABLES: tuple[str, ...] = (
    "trace",
    "windows",
    "runs",
)


def draw(trace: pd.DataFrame, windows: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw the power of one run of each runtime over its windows, for the first model.

    The run is the first valid one of kind task; `trace` holds one row per second. Lines are CPU,
    GPU, memory and the whole machine, where there is a source. A line says so where the records
    hold no trace.
    """
    models = [model for model in models_of(runs) if model in set(trace["model"])]
    own = where(trace, kind="task", model=models[0]) if models else trace
    if own.empty:
        return message_instead(NO_TRACE, note)
    runtimes = {name: look for name, look in looks(runs).items() if name in set(own["runtime"])}
    titles = [look.label for look in runtimes.values()]
    x_label = f"Time since the start of the run (s), {models[0]}"
    figure, panels = stack_of_panels(titles, "Power (W)", x_label, note)
    parts = [part for part in PARTS if part in own and own[part].notna().any()]
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
    legend_above(figure, marks_of_windows(used, alpha=0.28, lines=lines))
    return figure
