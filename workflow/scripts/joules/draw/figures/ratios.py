"""Ratios of energy per token, the null control last."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from joules.analyse.conventions import MARGIN
from joules.core.wording import number_of
from joules.draw.forest import draw_forest, marks_of_forest, noise_floors
from joules.draw.looks import looks, word
from joules.draw.panels import (
    grid_of_panels,
    in_lines,
    label_rows,
    legend_above,
    legend_lines,
    message_instead,
    new_figure,
)
from joules.draw.selection import models_of, rows_of, where
from joules.draw.style import DOUBLE_COLUMN, ROW_LETTERS

FIXED = " (fixed length)"
FEW_ROWS = 16  # so many ratios fit one panel beside their numbers
MOST_PAIRS = 12  # of more pairs the secondary ones are in the tables alone, so that a page holds it
LETTERS = 44  # of a pair's label in one line, where there are few panels

TABLES: tuple[str, ...] = (
    "comparisons",
    "runs",
)


def draw(
    comparisons: pd.DataFrame, runs: pd.DataFrame, note: str = "", margin: float = MARGIN
) -> Figure:
    """Draw the ratio of J per token of each pair with its 95 % intervals, the null control below.

    Thick lines are pointwise intervals, thin ones simultaneous. The light band is the margin of
    equivalence, 1 / (1 + margin) to 1 + margin; the darker one is the noise floor, the interval of
    the null control of the same model. What is not claimed is grey. Few ratios share one panel and
    have their numbers beside them; many are drawn in one panel per model. Primary pairs come first;
    where there are more than `MOST_PAIRS`, a note says how many secondary ones are left out.
    """
    if comparisons.empty:
        return message_instead(f"One {word()}, no control: there is no ratio to show.", note)
    labels = {runtime: look.label for runtime, look in looks(runs).items()}
    kinds = ("task", "fixed", "control")
    secondary = comparisons["family"] == "secondary"
    shown = comparisons[["runtime_a", "runtime_b", "kind"]].drop_duplicates()
    if len(shown) > MOST_PAIRS and secondary.any():
        left_out = len(comparisons.loc[secondary, ["runtime_a", "runtime_b"]].drop_duplicates())
        said = f"{number_of(left_out, 'secondary pair')}: in the tables"
        note = f"{note}; {said}" if note else said
        comparisons = comparisons[~secondary]
    models = models_of(comparisons)
    letters = LETTERS if len(models) < 3 else ROW_LETTERS
    names = [_name(row, labels, letters) for row in rows_of(comparisons)]
    comparisons = comparisons.assign(pair=names)
    comparisons = comparisons.sort_values(
        "family", key=lambda family: family == "secondary", kind="stable"
    )
    floors, marks = noise_floors(comparisons), marks_of_forest(comparisons, margin)
    comparisons = comparisons.sort_values(
        "kind", key=lambda kind: kind.map(kinds.index), kind="stable"
    )
    pairs = list(dict.fromkeys(comparisons["pair"]))
    x_label = "Ratio of energy per token (logarithmic)"
    if len(comparisons) > FEW_ROWS:
        counts = comparisons.groupby("model")["n_blocks"].agg(["min", "max"]).loc[models]
        numbers = [str(a) if a == b else f"{a} to {b}" for a, b in counts.itertuples(index=False)]
        titles = [  # in one line: no break within the brackets
            f"{model} " + f"(n = {number})".replace(" ", "\u00a0")
            for model, number in zip(models, numbers, strict=True)
        ]
        figure, panels = grid_of_panels(
            titles, pairs, x_label, note, row_height=0.17, columns=4, legend=marks
        )
        for axes, model in zip(panels, models, strict=True):
            of_model = [where(comparisons, model=model, pair=pair) for pair in pairs]
            rows = [None if found.empty else found.iloc[0] for found in of_model]
            draw_forest(axes, rows, floors, margin, numbers=False)
        return figure
    lines: list[tuple[str, pd.Series | None]] = []
    for pair in pairs:
        lines += [(line, None) for line in pair.split("\n")]
        lines += [(row["model"], row) for _, row in where(comparisons, pair=pair).iterrows()]
    above = legend_lines(marks, DOUBLE_COLUMN)
    figure = new_figure(DOUBLE_COLUMN, len(lines) * 0.22 + 0.3, note, x_label, above)
    legend_above(figure, marks)
    axes = figure.subplots()
    draw_forest(axes, [row for _, row in lines], floors, margin, numbers=True)
    label_rows(axes, [name for name, _ in lines])
    for text, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if row is None else "normal")
    return figure


def _name(row: Any, labels: Mapping[str, str], letters: int) -> str:
    """Return what a row of comparisons compares; a control may be that of every runtime in turn.

    Long labels of arms are broken into lines of so many letters.
    """
    if row.kind == "control":
        return f"{labels.get(row.runtime_a, 'each')} / itself (null control)"
    a, b = labels[row.runtime_a], labels[row.runtime_b]
    said = FIXED * (row.kind == "fixed")
    if ", " not in a + b or len(f"{a} / {b}{said}") <= letters:
        return f"{a} / {b}{said}"
    return "\n".join(in_lines(part, letters) for part in (f"{a} /", f"{b}{said}"))
