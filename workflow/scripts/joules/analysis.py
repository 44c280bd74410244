"""All statistics of a study's tables, under the names of their files in `statistics/`."""

from collections.abc import Sequence

import pandas as pd

from joules.answers import contested, quality, rule_counts, verdict_counts
from joules.descriptives import cells, drift
from joules.humaneval import CONTESTED
from joules.phases import break_even, phases
from joules.ranking import ranking
from joules.sensitivity import sensitivity
from joules.statistics import compare


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
