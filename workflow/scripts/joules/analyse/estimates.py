"""Estimates and intervals that stay None where the data cannot give them.

scipy and statsmodels are slow to import, and figures and claims need none of them.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import SupportsFloat

import numpy as np
import pandas as pd

from joules.analyse.conventions import ALPHA, Values


def number_or_none(compute: Callable[[], SupportsFloat]) -> float | None:
    """Return what `compute` gives as a float, or None where the data cannot give it."""
    # Its import, which statsmodels puts off until first use, resets the filters of warnings.
    from statsmodels.tools import sm_exceptions  # noqa: F401

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            value = float(compute())
        except (ValueError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError):
            return None
    return value if math.isfinite(value) else None


def mean_interval(values: Sequence[float] | Values) -> tuple[float | None, float | None]:
    """Return the 95 % t interval of the mean; (None, None) for fewer than two values."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2 or not np.isfinite(array).all():
        return None, None
    if np.ptp(array) == 0:
        return float(array[0]), float(array[0])
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of near-identical values
        interval = stats.ttest_1samp(array, 0.0).confidence_interval(1 - ALPHA)
    return float(interval.low), float(interval.high)


def wilson(passed: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion (J. Am. Stat. Assoc. 22, 1927)."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(passed, total, alpha=ALPHA, method="wilson")
    return float(low), float(high)


def numeric(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns of numbers and None are columns of floats with NaN."""
    for name in frame.columns:
        values = frame[name]
        texts = any(isinstance(value, str) for value in values)
        if pd.api.types.is_object_dtype(values) and not texts:
            frame[name] = values.astype(float)
    return frame
