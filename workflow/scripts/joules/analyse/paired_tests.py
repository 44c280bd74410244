"""The three tests of a comparison, for any number of studies at once.

The last axis of every array is the blocks: d = log(a) - log(b) of the two runs of a block. One
study is an array of one dimension. The benchmarks of the analysis and the analysis run this code.
"""

import dataclasses

import numpy as np
from scipy import stats

from joules.analyse.conventions import ALPHA, MARGIN, Values
from joules.analyse.sign_flip import sign_flip_p


@dataclasses.dataclass(frozen=True)
class PairedTests:
    """What two or more blocks give, per study.

    Attributes:
        blocks: how many.
        mean: of d; exp of it is the ratio of geometric means.
        spread: SD of d.
        p_difference: two-sided sign-flip test of the mean.
        p_size: twice the one-sided t tail of |mean| against log(1 + margin), at most 1: below 0.05
            exactly where the 95 % t interval lies wholly outside the margin.
        p_equivalence: the larger p of two one-sided t tests against the margin (Schuirmann, J.
            Pharmacokinetics and Biopharmaceutics 15, 1987).
    """

    blocks: int
    mean: Values
    spread: Values
    p_difference: Values
    p_size: Values
    p_equivalence: Values

    def interval(self, tests: int = 1) -> tuple[Values, Values]:
        """Return the 95 % t interval of the mean; of `tests` together by Bonferroni's rule."""
        quantile = stats.t.isf(ALPHA / 2 / max(1, tests), self.blocks - 1)
        half = quantile * self.spread / np.sqrt(self.blocks)
        return self.mean - half, self.mean + half


def paired_tests(d: Values, margin: float = MARGIN) -> PairedTests:
    """Return the three tests of differences `d`, studies by blocks, two blocks or more.

    Where all blocks of a study have the same difference, the t tests have their limit: p is 0 where
    it is beyond the margin (or within it, for equivalence), else 1.
    """
    blocks = d.shape[-1]
    constant = np.ptp(d, axis=-1) == 0
    mean = np.where(constant, d[..., 0], d.mean(axis=-1))
    spread = np.where(constant, 0.0, d.std(axis=-1, ddof=1))
    beyond = np.abs(mean) - np.log1p(margin)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = beyond / (spread / np.sqrt(blocks))
    tails = np.minimum(1.0, 2 * stats.t.sf(t, blocks - 1)), stats.t.cdf(t, blocks - 1)
    size = np.where(constant, np.where(beyond > 0, 0.0, 1.0), tails[0])
    within = np.where(constant, np.where(beyond < 0, 0.0, 1.0), tails[1])
    return PairedTests(
        blocks=blocks,
        mean=mean,
        spread=spread,
        p_difference=np.asarray(sign_flip_p(d)),
        p_size=size,
        p_equivalence=within,
    )
