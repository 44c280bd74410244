"""What a number of blocks can show, by the test that is in use.

That test is the sign-flip test after Holm's correction. Its strictest step, alpha over the number
of tests of the family, is taken: what is found there is found whatever the other tests give.
"Effect" is the mean over the SD of d, the log ratio of the two runs of a block, taken as normal.
That SD is of the ratio and not of a run: two independent runs of coefficient of variation c give
about sqrt(2) c.

scipy and statsmodels are slow to import; the limits alone, which figures and claims need, do
without them.
"""

import functools
import itertools
import math

import numpy as np

from joules.analyse.conventions import ALPHA, MARGIN, Values
from joules.analyse.estimates import number_or_none

POWER = 0.90
RESAMPLES = 99_999  # sign flips that are drawn where they are too many to enumerate
EXACT_BLOCKS = RESAMPLES.bit_length() - 1  # 16: the most whose flips are enumerated
# Studies that are simulated, and sets of blocks looked at in all of them: the standard error of a
# power of 0.9 is 0.004, and 0.009 with 16 blocks.
SIMULATED, SETS = 5_000, 80_000_000
SETS_TOGETHER = 4_000_000  # held at a time
# With so many outcomes in the tail, the t test of the same level has the sign-flip test's power to
# within 0.02 (compared with simulations of 9 to 16 blocks and families of 1 to 112).
MANY = 40


def smallest_p(blocks: int) -> float:
    """Return the smallest two-sided p that a sign-flip test of `blocks` pairs can give.

    All 2^n flips are enumerated up to `RESAMPLES`, so up to 16 blocks; beyond, so many are drawn,
    and the data as they are count as one more.
    """
    fewer = math.ldexp(1.0, -min(blocks, RESAMPLES.bit_length()))  # 2^-n, without an overflow
    return min(1.0, 2.0 * max(fewer, 1 / (RESAMPLES + 1)))


LEAST_BLOCKS = next(n for n in itertools.count(1) if smallest_p(n) < ALPHA)  # 6


def can_differ(blocks: int, family: int) -> bool:
    """Return whether a pair of so many blocks can differ after Holm over `family` tests."""
    return smallest_p(blocks) < ALPHA / max(1, family)


def _outcomes(blocks: int, family: int) -> int:
    """Return how many of the 2^n flips, one side, may be as extreme as the data at the level."""
    return math.ceil(ALPHA / max(1, family) / smallest_p(blocks)) - 1


@functools.lru_cache(maxsize=256)
def _thresholds(blocks: int, outcomes: int) -> Values:
    """Return the sorted effects from which on each of many simulated studies is found.

    Flipping the signs of a set A of blocks gives a sum at least as large as the one seen where the
    mean of d over A is not above zero. So a study z + effect is found from that effect on at which
    fewer than `outcomes` sets have such a mean: the `outcomes`-th largest of -mean(z over A).
    """
    generator = np.random.default_rng(0)
    found = []
    studies, most = min(SIMULATED, SETS >> blocks), SETS_TOGETHER >> blocks
    for first in range(0, studies, most):
        noise = generator.standard_normal((min(most, studies - first), blocks))
        sums, sizes = np.zeros((len(noise), 1)), np.zeros(1)
        for block in range(blocks):  # each set of the blocks so far, without and with this one
            sums = np.concatenate([sums, sums + noise[:, [block]]], axis=1)
            sizes = np.concatenate([sizes, sizes + 1])
        means = sums[:, 1:] / sizes[1:]
        found.append(-np.partition(means, outcomes - 1, axis=1)[:, outcomes - 1])
    return np.sort(np.concatenate(found))


def power(effect: float, blocks: int, family: int = 1) -> float:
    """Return the share of studies in which the sign-flip test finds a difference of this effect.

    Exact where all blocks must agree; simulated where few outcomes are extreme enough; else that
    of a t test at the level which the sign-flip test really has.
    """
    if not can_differ(blocks, family):
        return 0.0
    from scipy import stats

    outcomes, size = _outcomes(blocks, family), abs(effect)
    if blocks > EXACT_BLOCKS or outcomes >= MANY:
        level = min(ALPHA / max(1, family), outcomes * smallest_p(blocks))
        shift, edge = size * math.sqrt(blocks), stats.t.isf(level / 2, blocks - 1)
        if shift > edge + 40:  # where scipy's tail is not a number
            return 1.0
        other_side = stats.nct.cdf(-edge, blocks - 1, shift) if shift < 3 else 0.0
        return float(stats.nct.sf(edge, blocks - 1, shift) + other_side)
    if outcomes == 1:
        return float(stats.norm.cdf(size) ** blocks + stats.norm.cdf(-size) ** blocks)
    thresholds = _thresholds(blocks, outcomes)
    return float(np.searchsorted(thresholds, [size, -size]).sum() / len(thresholds))


@functools.lru_cache(maxsize=1024)
def smallest_effect(blocks: int, family: int = 1) -> float | None:
    """Return the least effect that so many blocks find with `POWER`; None where they find none."""
    if not can_differ(blocks, family):
        return None
    from scipy import stats
    from statsmodels.stats.power import TTestPower

    outcomes = _outcomes(blocks, family)
    if blocks <= EXACT_BLOCKS and outcomes == 1:
        return float(stats.norm.ppf(POWER ** (1 / blocks)))
    if blocks <= EXACT_BLOCKS and outcomes < MANY:
        return float(np.quantile(_thresholds(blocks, outcomes), POWER))
    level = min(ALPHA / max(1, family), outcomes * smallest_p(blocks))
    solve = TTestPower().solve_power
    options = {"alpha": level, "power": POWER, "alternative": "two-sided"}
    # The solver finds the root below zero for some n, which is as good: the test has two sides.
    return number_or_none(lambda: abs(np.squeeze(solve(effect_size=None, nobs=blocks, **options))))


@functools.lru_cache(maxsize=1024)
def blocks_needed(effect: float, family: int = 1) -> int:
    """Return the fewest blocks that find this effect with `POWER`."""
    for blocks in range(LEAST_BLOCKS, EXACT_BLOCKS + 1):
        least = smallest_effect(blocks, family)
        if least is not None and least <= abs(effect):
            return blocks
    from statsmodels.stats.power import TTestPower

    solve = TTestPower().solve_power
    options = {"alpha": ALPHA / max(1, family), "power": POWER, "alternative": "two-sided"}
    wanted = number_or_none(
        lambda: np.squeeze(solve(effect_size=abs(effect), nobs=None, **options))
    )
    return max(EXACT_BLOCKS + 1, math.ceil(wanted or 0))


def spread_interval(spread: float, blocks: int) -> tuple[float, float]:
    """Return the 95 % interval of an SD that so many normal values have given (chi square)."""
    from scipy import stats

    scale = spread * math.sqrt(blocks - 1)
    ends = stats.chi2.ppf([1 - ALPHA / 2, ALPHA / 2], blocks - 1)
    low, high = (scale / math.sqrt(end) for end in ends)
    return low, high


def power_facts(
    spread: float, blocks: int, family: int = 1, margin: float = MARGIN
) -> dict[str, float | None]:
    """Return what so many blocks can show where d has this SD, in a family of so many tests.

    `minimum_ratio`: the smallest ratio above 1 that is found with `POWER`, with the interval that
    the uncertainty of the SD gives it; `n_for_margin`: the blocks that find 1 + margin;
    `power_for_margin`: how often these blocks find it. None where d has no spread, or where no
    difference can be found.
    """
    names = ("minimum_ratio", "minimum_ratio_low", "minimum_ratio_high")
    facts: dict[str, float | None] = dict.fromkeys((*names, "n_for_margin", "power_for_margin"))
    if not spread > 0:
        return facts
    effect = smallest_effect(blocks, family)
    if effect is not None:
        for name, each in zip(names, (spread, *spread_interval(spread, blocks)), strict=True):
            facts[name] = math.exp(effect * each)
    facts["n_for_margin"] = blocks_needed(math.log1p(margin) / spread, family)
    facts["power_for_margin"] = power(math.log1p(margin) / spread, blocks, family)
    return facts
