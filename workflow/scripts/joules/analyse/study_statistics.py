"""All statistics of a study's tables, under the names of their files in `statistics/`."""

from collections.abc import Sequence

import pandas as pd

from joules.analyse.cells import cells
from joules.analyse.comparison import compare
from joules.analyse.drift import drift
from joules.analyse.phases import break_even, phases
from joules.analyse.quality import contested, quality, rule_counts, verdict_counts
from joules.analyse.ranking import ranking
from joules.analyse.sensitivity import sensitivity
from joules.inputs.humaneval import CONTESTED


def statistics(
    runs: pd.DataFrame, tasks: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> dict[str, pd.DataFrame]:
    """Return name -> table. `runtimes`: the order in which pairs are named."""
    comparisons, of_cells = compare(runs, runtimes), cells(runs)
    return {
        "cells": of_cells,
        "comparisons": comparisons,
        "quality": quality(tasks, runs, runtimes),
        "phases": phases(tasks, runs),
        "break_even": break_even(of_cells, runtimes),
        "sensitivity": sensitivity(tasks, runs, comparisons),
        "ranking": ranking(runs, comparisons, runtimes),
        "verdicts": verdict_counts(tasks, runs, runtimes),
        "rules": rule_counts(tasks, runs, runtimes),
        "contested": contested(tasks, runs, CONTESTED, runtimes),
        "drift": drift(runs),
    }
