"""What all statistics share: the level, the margin, the metric, and the types of their rows."""

from typing import Any

import numpy as np
import pandas as pd

from joules.core.inference import Scalar

ALPHA = 0.05
MARGIN = 0.05  # of equivalence: CodeCarbon's ratios err by 3 % (1 SD) against a wall meter
METRIC = "energy_j_per_token"
BETWEEN_RUNTIMES = ("task", "fixed")  # kinds of runs in which runtimes are compared

Values = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, Scalar]  # of a table: the value in each of its columns


def runtime_order(runs: pd.DataFrame) -> list[str]:
    """Return the runtimes, the one that the null control repeats first, then by name."""
    control = set(runs.loc[runs["kind"] == "control", "runtime"])
    return sorted(set(runs["runtime"]), key=lambda name: (name not in control, name))
