"""The words of a comparison, from its three tests after Holm's correction.

The order of the words matters: a noisier study can never get the stronger one, because each word
rests on a test that finds less where there is more noise.
"""

import math
from collections.abc import Iterable

import numpy as np

from joules.analyse.conventions import ALPHA, Values
from joules.core.analysis import VERDICTS

MORE, LESS, APART, EQUAL, OPEN = VERDICTS
DIFFERENT = (MORE, LESS, APART)  # of which one side needs less


def verdicts(p_difference: Values, p_size: Values, p_equivalence: Values) -> np.ndarray:
    """Return the word of each comparison from arrays of corrected p's of one shape.

    NaN is a test that could not be made, and shows nothing.
    """
    apart, by_more, equal = (p < ALPHA for p in (p_difference, p_size, p_equivalence))
    return np.select([by_more, apart & equal, apart, equal], [MORE, LESS, APART, EQUAL], OPEN)


def verdict(p_difference: float | None, p_size: float | None, p_equivalence: float | None) -> str:
    """Return the word of one comparison from its corrected p's; None shows nothing."""
    found = verdicts(*(np.array(p, dtype=float) for p in (p_difference, p_size, p_equivalence)))
    return str(found)


def holm(p_values: Iterable[float | None]) -> list[float | None]:
    """Return p-values adjusted by Holm (Scandinavian J. of Statistics 6, 1979) as one family.

    None stays None and is no member of the family. (That of statsmodels collects all of Python's
    garbage at each call.)
    """
    given = np.array(list(p_values), dtype=float)
    members = np.flatnonzero(~np.isnan(given))
    order = members[np.argsort(given[members], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    given[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [None if math.isnan(p) else float(p) for p in given]
