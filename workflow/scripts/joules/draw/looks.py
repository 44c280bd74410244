"""How a runtime and its runs are marked, the same in every figure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from joules.analyse.conventions import runtime_order
from joules.draw.style import INK, MARKERS, PALETTE, PAPER

FILLS = {  # of a run's marker by its kind, where it is not plainly filled
    "control": {"markerfacecolor": PAPER},
    "fixed": {"fillstyle": "left", "markerfacecoloralt": PAPER},
}


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
    """Mark runs of one look: hollow for the control, half for a fixed length, a cross if invalid.

    All in one line of matplotlib: a study may have thousands. `size` is in points.
    """
    if not places:
        return
    axes.plot(
        *zip(*places, strict=True),
        zorder=3,
        marker=look.marker if valid else "x",
        color=look.color,
        linestyle="none",
        markersize=size,
        **FILLS.get(kind, {}),  # type: ignore[arg-type]
    )


def marks_of_runtimes(runtimes: Iterable[Look], kind: str = "task") -> list[Line2D]:
    """Return what a legend names of the runtimes, marked as runs of `kind`."""
    return [
        Line2D(
            *([], []),
            color=look.color,
            marker=look.marker,
            linestyle="none",
            label=look.label,
            **FILLS.get(kind, {}),  # type: ignore[arg-type]
        )
        for look in runtimes
    ]


def marks_of_kinds(runs: pd.DataFrame) -> list[Line2D]:
    """Return what a legend names of the kinds of `runs` that are not plainly filled."""
    names = {"control": "control run", "fixed": "run of fixed length"}
    marks = [
        Line2D([], [], color=INK, marker="o", linestyle="none", label=name, **FILLS[kind])  # type: ignore[arg-type]
        for kind, name in names.items()
        if (runs["kind"] == kind).any()
    ]
    if not runs["valid"].all():
        marks += [Line2D([], [], color=INK, marker="x", linestyle="none", label="invalid run")]
    return marks
