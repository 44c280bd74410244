"""How a runtime and its runs are marked, the same in every figure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from joules.analyse.conventions import runtime_order
from joules.draw.style import MARKERS, PALETTE, PAPER


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


def mark_runs(
    axes: Axes,
    places: Sequence[tuple[float, float]],
    look: Look,
    kind: str,
    *,
    valid: bool = True,
    size: float | None = None,
) -> None:
    """Mark runs of one look: filled, hollow for the control, a cross when invalid.

    All in one line of matplotlib: a study may have thousands. `size` is in points.
    """
    if not places:
        return
    axes.plot(
        *zip(*places, strict=True),
        zorder=3,
        marker=look.marker if valid else "x",
        markerfacecolor=look.color if kind == "task" else PAPER,
        markeredgecolor=look.color,
        linestyle="none",
        markersize=size,
    )


def name_runtimes(figure: Figure, runtimes: Iterable[Look]) -> None:
    """Name the runtimes' markers above the axes."""
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="none", label=look.label)
        for look in runtimes
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
