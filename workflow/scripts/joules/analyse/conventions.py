"""What all statistics share: the level, the margin, the metric, and the types of their rows."""

from typing import Any

import numpy as np
import pandas as pd

from joules.core.analysis import ALPHA as ALPHA
from joules.core.analysis import MARGIN as MARGIN
from joules.core.analysis import METRIC as METRIC
from joules.core.inference import Scalar

BETWEEN_RUNTIMES = ("task", "fixed")  # kinds of runs in which runtimes are compared

Values = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, Scalar]  # of a table: the value in each of its columns


def runtime_order(runs: pd.DataFrame) -> list[str]:
    """Return the runtimes by name; where the null control repeats a single one, that one first."""
    control = set(runs.loc[runs["kind"] == "control", "runtime"])
    first = control if len(control) == 1 else set()
    return sorted(set(runs["runtime"]), key=lambda name: (name not in first, name))
