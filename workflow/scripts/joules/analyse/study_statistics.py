"""All statistics of a study's tables, under the names of their files in `statistics/`."""

from collections.abc import Collection, Sequence

import pandas as pd

from joules.analyse.broken_rules import broken_rules
from joules.analyse.cells import cells
from joules.analyse.comparison import compare
from joules.analyse.drift import drift
from joules.analyse.explanations import explanations
from joules.analyse.phases import break_even, phases
from joules.analyse.problems import problems
from joules.analyse.quality import contested, quality, rule_counts, verdict_counts
from joules.analyse.ranking import ranking
from joules.analyse.sensitivity import sensitivity
from joules.analyse.texts import texts
from joules.analyse.wall import has_wall, wall, wall_pairs
from joules.inputs.humaneval import CONTESTED


def statistics(
    runs: pd.DataFrame,
    tasks: pd.DataFrame,
    runtimes: Sequence[str] | None = None,
    contrasts: Collection[Sequence[str]] | None = None,
) -> dict[str, pd.DataFrame]:
    """Return name -> table. `runtimes`: the order in which pairs are named.

    `contrasts`: the pairs of runtimes that are primary; all of them where none is named.
    """
    comparisons, of_cells = compare(runs, runtimes, contrasts), cells(runs, tasks)
    return {
        "cells": of_cells,
        "comparisons": comparisons,
        "quality": quality(tasks, runs, runtimes),
        "phases": phases(tasks, runs),
        "break_even": break_even(of_cells, comparisons, runtimes),
        "sensitivity": sensitivity(tasks, runs, comparisons),
        "ranking": ranking(runs, comparisons, runtimes),
        "verdicts": verdict_counts(tasks, runs, runtimes),
        "rules": rule_counts(tasks, runs, runtimes),
        "contested": contested(tasks, runs, CONTESTED, runtimes),
        "drift": drift(runs),
        "problems": problems(tasks, runs, comparisons),
        "explanations": explanations(tasks, runs, runtimes),
        "texts": texts(tasks, runs, runtimes),
        "broken_rules": broken_rules(runs),
        **beside(runs, runtimes),
    }


def beside(runs: pd.DataFrame, runtimes: Sequence[str] | None) -> dict[str, pd.DataFrame]:
    """Return the tables of the whole machine beside its processor; none without such a meter."""
    if not has_wall(runs):
        return {}
    return {"wall": wall(runs), "wall_pairs": wall_pairs(runs, runtimes)}
