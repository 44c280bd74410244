"""The title picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joules.draw.looks import looks
from joules.draw.selection import mean_of_tasks, models_of, of_runs
from joules.draw.style import COVER_DPI, COVER_SIZE, COVER_TEXT_SIZE

WIDEST = 0.45  # share of the width that the longest label may take

TABLES: tuple[str, ...] = (
    "tasks",
    "runs",
)


def draw(tasks: pd.DataFrame, runs: pd.DataFrame, note: str = "") -> Figure:
    """Draw the title picture, 1200 x 630 pixels: one skyline per model and runtime.

    From left to right the tasks by rising energy, in one order per model; the height is the task's
    mean energy relative to the largest of its model. Where the energy of single tasks is not known,
    the runs take their place, by blocks.
    """
    of_tasks = bool(tasks["energy_j"].notna().any())
    means = mean_of_tasks(tasks, runs) if of_tasks else of_runs(runs)
    runtimes = looks(runs)
    figure = Figure(figsize=COVER_SIZE, dpi=COVER_DPI)
    size = min(15.0, 320 / (1 + len(means)))
    longest = max((len(look.label) for look in runtimes.values()), default=0)
    wide = longest * size * 0.0078 / 12  # a letter's mean width, inches per point
    left = max(0.2, 0.03 + min(wide, WIDEST))
    label_size = size * min(1, WIDEST / max(wide, WIDEST))
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
            axes.text(-0.015, row, look.label, color=look.color, ha="right", fontsize=label_size)
    axes.set(xlim=(0, 1), ylim=(row + 0.02, 0))
    said = "energy of each task" if of_tasks else "energy of each run"
    figure.text(left, 0.04, said, fontsize=COVER_TEXT_SIZE)
    figure.text(0.95, 0.04, note, ha="right", fontsize=COVER_TEXT_SIZE, style="italic")
    return figure
