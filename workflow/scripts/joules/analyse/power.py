"""What a number of blocks can show: the smallest p, the smallest ratio, the blocks of a margin."""

import itertools
import math

import numpy as np
from statsmodels.stats.power import TTestPower

from joules.analyse.conventions import ALPHA, MARGIN
from joules.analyse.estimates import number_or_none

POWER = 0.90
RESAMPLES = 99_999  # sign flips that are drawn where they are too many to enumerate


def smallest_p(blocks: int) -> float:
    """Return the smallest two-sided p that a sign-flip test of `blocks` pairs can give.

    All 2^n flips are enumerated up to `RESAMPLES`, so up to 16 blocks; beyond, so many are drawn,
    and the data as they are count as one more.
    """
    fewer = math.ldexp(1.0, -min(blocks, RESAMPLES.bit_length()))  # 2^-n, without an overflow
    return min(1.0, 2.0 * max(fewer, 1 / (RESAMPLES + 1)))


LEAST_BLOCKS = next(n for n in itertools.count(1) if smallest_p(n) < ALPHA)  # 6


def smallest_effect(n: int, alpha: float = ALPHA) -> float | None:
    """Return the least mean over SD of n differences that a paired t test finds with `POWER`.

    The solver finds the root below zero for some n, which is as good: the test has two sides.
    """
    solve = TTestPower().solve_power
    options = {"alpha": alpha, "power": POWER, "alternative": "two-sided"}
    return number_or_none(lambda: abs(np.squeeze(solve(effect_size=None, nobs=n, **options))))


def power_facts(spread: float, n: int, margin: float = MARGIN) -> dict[str, float | None]:
    """Return what n blocks can show and how many `margin` needs, from the SD of d (paired t)."""
    solve = TTestPower().solve_power
    options = {"alpha": ALPHA, "power": POWER, "alternative": "two-sided"}
    least = needed = None
    if spread > 0:
        if n >= LEAST_BLOCKS:
            effect = smallest_effect(n)
            least = None if effect is None else math.exp(effect * spread)
        wanted = math.log1p(margin) / spread
        blocks = number_or_none(lambda: np.squeeze(solve(effect_size=wanted, nobs=None, **options)))
        # The solver gives nothing where fewer than 3 would do; the sign-flip test needs 6.
        needed = max(LEAST_BLOCKS, math.ceil(blocks or 0))
    return {"minimum_ratio": least, "n_for_margin": needed}
