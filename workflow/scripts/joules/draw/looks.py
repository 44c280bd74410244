"""How an arm and its runs are marked, the same in every figure.

The tables have arms in the columns `runtime` and `runtime_label`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from joules.analyse.conventions import runtime_order
from joules.draw.style import DARKER, INK, MARKERS, PALETTE, PAPER

FILLS = {  # of a run's marker by its kind, where it is not plainly filled
    "control": {"markerfacecolor": PAPER},
    "fixed": {"fillstyle": "left", "markerfacecoloralt": PAPER},
}


# The runtime of each arm that the study names, in its order; of the figure that is being drawn.
_NAMED: ContextVar[Mapping[str, str]] = ContextVar("_NAMED", default={})  # noqa: B039 (never changed)


@contextmanager
def arms_in_order(arms: Mapping[str, str]) -> Iterator[None]:
    """Draw with these arms, each with its runtime, in their order; without any, by their names."""
    token = _NAMED.set(arms)
    try:
        yield
    finally:
        _NAMED.reset(token)


def word() -> str:
    """Return what is compared in the figure that is being drawn: `arm` or `runtime`."""
    return "arm" if _NAMED.get() else "runtime"


@dataclass(frozen=True)
class Look:
    """How one arm is drawn: told apart by colour, and by marker without it."""

    label: str
    color: str
    marker: str


def looks(frame: pd.DataFrame) -> dict[str, Look]:
    """Return arm -> Look for a table with columns `runtime`, `runtime_label` and `kind`.

    The order is that of the study where it names arms, else that of `runtime_order`, so that an arm
    looks the same in every figure.
    """
    labels = dict(zip(frame["runtime"], frame["runtime_label"], strict=True))
    arms = _NAMED.get() or {runtime: runtime for runtime in runtime_order(frame)}
    colors = _colors(arms)
    return {
        arm: Look(
            label=str(labels[arm]),
            color=colors[arm],
            # Past the end of the palette colours return with other markers.
            marker=MARKERS[(index + index // len(MARKERS)) % len(MARKERS)],
        )
        for index, arm in enumerate(arms)
        if arm in labels
    }


def _colors(arms: Mapping[str, str]) -> dict[str, str]:
    """Return the colour of each arm: two of one runtime share a hue, the second is darker."""
    colors: dict[str, str] = {}
    alone: dict[str, int] = {}  # the place of a runtime's hue that one arm has so far
    hues = 0
    for arm, runtime in arms.items():
        if runtime in alone:
            colors[arm] = DARKER[alone.pop(runtime)]
            continue
        alone[runtime] = hues % len(PALETTE)
        colors[arm] = PALETTE[alone[runtime]]
        hues += 1
    return colors


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
