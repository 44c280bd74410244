"""Figures of energy: per token, per task, by window, and against the quality of the answers.

Columns are those of `joules.tables` and `joules.descriptives.cells`; energies are in joule. `note`
is a line below the axes (see `joules.style.tier_note`).
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from joules.selection import mean_of_tasks, models_of, of_valid_runs, rows_of, where
from joules.style import (
    DOUBLE_COLUMN,
    FAINT,
    INK,
    WINDOWS,
    grid_of_panels,
    looks,
    message_instead,
    name_models,
    name_runtimes,
    name_windows,
    new_figure,
    plain_log_ticks,
    point_of_run,
)


def energy_per_token(runs: pd.DataFrame, cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per token of every run, lines joining the runs of one block, and the cells' means.

    Bars are 95 % t intervals of the mean over runs. Control runs are hollow; invalid runs are
    crosses and in no mean.
    """
    runs = runs[runs["kind"].isin(["task", "control"])]
    rows = [
        (runtime, kind, look)
        for kind in ("task", "control")
        for runtime, look in looks(runs).items()
        if not where(runs, runtime=runtime, kind=kind).empty
    ]
    labels = [look.label + " (control)" * (kind == "control") for _, kind, look in rows]
    models = models_of(runs)
    figure, panels = grid_of_panels(models, labels, "Energy per generated token (J)", note)
    blocks = sorted(set(runs["block"]))
    offsets = dict(zip(blocks, np.linspace(-0.28, 0.28, len(blocks) + 2)[1:-1], strict=True))
    for axes, model in zip(panels, models, strict=True):
        paths: dict[int, list[tuple[float, float]]] = {block: [] for block in blocks}
        for row, (runtime, kind, look) in enumerate(rows):
            for run in rows_of(where(runs, model=model, runtime=runtime, kind=kind)):
                y = row + offsets[run.block]
                axes.plot(
                    run.energy_j_per_token, y, zorder=3, **point_of_run(look, kind, run.valid)
                )
                if run.valid and kind == "task":
                    paths[run.block].append((run.energy_j_per_token, y))
            for cell in rows_of(where(cells, model=model, runtime=runtime, kind=kind)):
                ends = [cell.low_energy_j_per_token, cell.high_energy_j_per_token]
                axes.plot(ends, [row + 0.4, row + 0.4], color=INK, linewidth=1.4)
                mean: Any = {"marker": "|", "markersize": 5, "markeredgewidth": 1.4, "color": INK}
                axes.plot(cell.mean_energy_j_per_token, row + 0.4, **mean)
        for path in filter(None, paths.values()):
            axes.plot(*zip(*path, strict=True), color=FAINT, linewidth=0.6, zorder=1)
    return figure


def energy_per_task(tasks: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw the distribution of J per task over tasks; each task is its mean over valid runs.

    Boxes are quartiles with the median, whiskers the 5th and 95th percentile; every task is a dot.
    """
    means = mean_of_tasks(tasks, runs)
    runtimes = looks(runs)
    models = models_of(runs)
    labels = [look.label for look in runtimes.values()]
    figure, panels = grid_of_panels(models, labels, "Energy per task (J, logarithmic)", note)
    lines: Any = {"color": INK, "linewidth": 0.8}
    for axes, model in zip(panels, models, strict=True):
        axes.set_xscale("log")
        for row, (runtime, look) in enumerate(runtimes.items()):
            if (model, runtime) not in means:
                continue
            energies = means[model, runtime].to_numpy()
            scatter = (np.arange(energies.size) * 0.618034 % 1 - 0.5) * 0.6  # even, without chance
            dots: Any = {"color": look.color, "markersize": 1.6, "markeredgewidth": 0, "alpha": 0.5}
            axes.plot(energies, row + scatter, "o", **dots)
            axes.boxplot(
                energies,
                positions=[row],
                orientation="horizontal",
                widths=0.5,
                whis=(5, 95),
                showfliers=False,
                manage_ticks=False,
                medianprops=lines | {"linewidth": 1.6},
                boxprops=lines,
                whiskerprops=lines,
                capprops=lines,
            )
        plain_log_ticks(axes)
    return figure


def energy_by_window(windows: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per run, stacked by window in the order of the protocol; means over valid runs."""
    means = of_valid_runs(windows, runs).groupby(["model", "runtime", "window"])["energy_j"].mean()
    runtimes = looks(runs)
    models = models_of(runs)
    labels = [look.label for look in runtimes.values()]
    figure, panels = grid_of_panels(models, labels, "Energy per run (J)", note, legend=True)
    for axes, model in zip(panels, models, strict=True):
        left = np.zeros(len(runtimes))
        for window, (color, hatch) in WINDOWS.items():
            widths = np.array([means.get((model, name, window), 0.0) for name in runtimes], float)
            axes.barh(
                range(len(runtimes)),
                np.nan_to_num(widths),
                left=left,
                height=0.62,
                color=color,
                hatch=hatch,
                edgecolor=INK,
                linewidth=0.4,
                label=window.replace("_", " "),
            )
            left += np.nan_to_num(widths)
    name_windows(figure, list(WINDOWS))
    return figure


def energy_against_quality(cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per task against pass@1 with Wilson's 95 % interval; curves are equal J per correct.

    A curve of c J per correct answer is pass@1 = (J per task) / c, so it meets pass@1 = 1 at c.
    """
    runtimes = looks(cells)
    cells = where(cells, kind="task").dropna(subset=["mean_energy_j_per_task", "pass_at_1"])
    if cells.empty:
        return message_instead("No valid run was graded.", note)
    figure = new_figure(DOUBLE_COLUMN, 3.9, note)
    axes = figure.subplots()
    energy = cells["mean_energy_j_per_task"]
    # The curve through the costliest answer ends in sight, unless nearly no answer is correct.
    low = energy.min() / 1.6
    high = max(
        energy.max() * 1.6, min(energy.max() * 20, 1.2 * cells["energy_j_per_correct"].max())
    )
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 1))
    ticks = LogLocator(subs=(1, 2, 5), numticks=20).tick_values(low, high)
    costs = [cost for cost in ticks if low <= cost <= high]
    across = np.geomspace(low, high, 200)
    for cost in costs:
        axes.plot(across, across / cost, color=FAINT, linewidth=0.6, zorder=1)
    for cell in rows_of(cells):
        look = runtimes[cell.runtime]
        axes.errorbar(
            cell.mean_energy_j_per_task,
            cell.pass_at_1,
            yerr=[[cell.pass_at_1 - cell.pass_low], [cell.pass_high - cell.pass_at_1]],
            fmt=look.marker,
            color=look.color,
            elinewidth=0.8,
            markeredgecolor="white",
            markeredgewidth=0.5,
            markersize=6,
            clip_on=False,
        )
    places = {
        model: where(cells, model=model)[["mean_energy_j_per_task", "pass_at_1"]]
        for model in models_of(cells)
    }
    name_models(axes, {model: list(rows_of(place)) for model, place in places.items()})
    plain_log_ticks(axes)
    axes.grid(False)
    axes.set(xlabel="Energy per task (J, logarithmic)", ylabel="pass@1")
    top = axes.secondary_xaxis("top")
    top.set_xticks(costs, [f"{cost:g}" for cost in costs])
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel("Energy per correct answer along a grey curve (J)")
    name_runtimes(figure, runtimes.values())
    return figure


def energy_per_correct(cells: pd.DataFrame, note: str = "") -> Figure:
    """Draw J per correct answer: J per task by pass@1; lines are Wilson's 95 % interval.

    The interval is carried over from pass@1; the spread of energy between runs is not in it.
    """
    runtimes = looks(cells)
    cells = where(cells, kind="task")
    models = models_of(cells)
    labels = [look.label for look in runtimes.values()]
    figure, panels = grid_of_panels(models, labels, "Energy per correct answer (J)", note)
    for axes, model in zip(panels, models, strict=True):
        own = where(cells, model=model)
        answered = own[own["passed"] > 0]
        reach = (answered["mean_energy_j_per_task"] / answered["pass_low"]).max()
        reach = reach if math.isfinite(reach) else 1.0
        for cell in rows_of(own):
            row, look = list(runtimes).index(cell.runtime), runtimes[cell.runtime]
            right, text = 0.0, "no correct answer"
            if cell.passed > 0:
                value, energy = cell.energy_j_per_correct, cell.mean_energy_j_per_task
                left, right = energy / cell.pass_high, energy / cell.pass_low
                text = f"{value:#.3g}".rstrip(".")
                axes.barh(row, value, height=0.62, color=look.color, alpha=0.55)
                axes.plot([left, right], [row, row], color=INK, linewidth=0.9)
                axes.plot(value, row, look.marker, color=look.color, markeredgecolor=INK)
            axes.text(right + 0.02 * reach, row, text, va="center")
        axes.set_xlim(0, reach * 1.22)
    return figure


def cover(tasks: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw the title picture, 1200 x 630 pixels: one skyline per model and runtime.

    From left to right the tasks by rising energy, in one order per model; the height is the task's
    mean energy relative to the largest of its model.
    """
    means = mean_of_tasks(tasks, runs)
    runtimes = looks(runs)
    figure = Figure(figsize=(12, 6.3), dpi=100)
    size = min(15.0, 320 / (1 + len(means)))
    longest = max((len(look.label) for look in runtimes.values()), default=0)
    left = max(0.2, 0.03 + longest * size * 0.0078 / 12)  # a letter's mean width, inches per point
    axes = figure.add_axes((left, 0.1, 0.95 - left, 0.86))
    axes.axis("off")
    row = 0.0
    for model in models_of(runs):
        own = {name: means[model, name] for name in runtimes if (model, name) in means}
        if not own:
            continue
        energies = pd.DataFrame(own).dropna()
        energies = energies.loc[energies.mean(axis="columns").sort_values(kind="stable").index]
        row += 0.9
        axes.text(0, row, model, fontsize=size, weight="bold")
        edges = np.linspace(0, 1, len(energies) + 1)
        for runtime, look in ((name, runtimes[name]) for name in own):
            row += 1
            heights = row - 0.92 * energies[runtime].to_numpy() / energies.to_numpy().max()
            axes.stairs(heights, edges, baseline=row, fill=True, color=look.color)
            axes.text(-0.015, row, look.label, color=look.color, ha="right", fontsize=size)
    axes.set(xlim=(0, 1), ylim=(row + 0.02, 0))
    figure.text(left, 0.04, "energy of each task", fontsize=12)
    figure.text(0.95, 0.04, note, ha="right", fontsize=12, style="italic")
    return figure
