"""What a number of blocks can show: the smallest p, the smallest ratio, the blocks of a margin."""

import itertools
import math

import numpy as np
from statsmodels.stats.power import TTestPower

from joules.analyse.conventions import ALPHA, MARGIN
from joules.analyse.estimates import number_or_none

POWER = 0.90


def smallest_p(blocks: int) -> float:
    """Return the smallest two-sided p that a sign-flip test of `blocks` pairs can give."""
    return min(1.0, 2.0 / 2.0**blocks)


LEAST_BLOCKS = next(n for n in itertools.count(1) if smallest_p(n) < ALPHA)  # 6


def power_facts(spread: float, n: int, margin: float = MARGIN) -> dict[str, float | None]:
    """Return what n blocks can show and how many `margin` needs, from the SD of d (paired t)."""
    solve = TTestPower().solve_power
    options = {"alpha": ALPHA, "power": POWER, "alternative": "two-sided"}
    least = needed = None
    if spread > 0:
        if n >= LEAST_BLOCKS:
            effect = number_or_none(lambda: solve(effect_size=None, nobs=n, **options))
            least = None if effect is None else math.exp(effect * spread)
        wanted = math.log1p(margin) / spread
        blocks = number_or_none(lambda: np.squeeze(solve(effect_size=wanted, nobs=None, **options)))
        # The solver gives nothing where fewer than 3 would do; the sign-flip test needs 6.
        needed = max(LEAST_BLOCKS, math.ceil(blocks or 0))
    return {"minimum_ratio": least, "n_for_margin": needed}
