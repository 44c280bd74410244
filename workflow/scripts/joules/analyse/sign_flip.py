"""The sign-flip test: whether the mean of the blocks' differences is zero.

Fisher's randomisation test of pairs (The Design of Experiments, 1935): under the null hypothesis
the two runs of a block could have changed places, so every difference could have had either sign.
"""

import itertools
from typing import Any

import numpy as np
from scipy import stats

from joules.analyse.conventions import Values
from joules.analyse.power import EXACT_BLOCKS, RESAMPLES

BATCH = 2_000_000  # numbers that a resampling test holds at a time: bounds its memory
MOST_FOR_SCIPY = 500  # blocks; its time per flip and block is thirty times that of `_drawn_p`
BYTE = 8  # blocks whose signs are one random byte
DRAWN_TOGETHER = 32  # the generator throws away what a batch leaves of a word of so many bits
EQUAL = 1e-12  # two sums that differ by this share are the same one, added up in another order


def sign_flip_p(d: Values) -> Values:
    """Return the two-sided p of the mean of `d` over its last axis, the blocks.

    Exact up to 16 blocks, as `scipy.stats.permutation_test` counts; beyond, of drawn flips.
    """
    studies = d.reshape(-1, d.shape[-1])
    if d.shape[-1] <= EXACT_BLOCKS:
        found = _exact_p(studies)
    elif d.shape[-1] <= MOST_FOR_SCIPY:
        found = np.array([_scipy_p(study) for study in studies])
    else:
        found = np.array([_drawn_p(study) for study in studies])
    return found.reshape(d.shape[:-1])


def _exact_p(studies: Values) -> Values:
    """Return the share of all flips whose sum is at least as far from 0 as the one seen.

    A flip and its opposite are as far, so the first sign is left as it is. Each flip is one of the
    first half of the blocks with one of the second: of the sorted sums of the second half, those
    that bring a sum of the first beyond the one seen are counted together.
    """
    half = max(1, studies.shape[1] // 2)
    first, second = studies[:, :half], studies[:, half:]
    left = first @ _signs(half)[: 2 ** (half - 1)].T
    right = np.sort(second @ _signs(second.shape[1]).T, axis=1)
    limits = np.abs(studies.sum(axis=1)) - EQUAL * np.abs(studies).sum(axis=1)
    found = np.empty(len(studies))
    for place, (sums, added, limit) in enumerate(zip(left, right, limits, strict=True)):
        above = len(added) - np.searchsorted(added, limit - sums, side="left")
        below = np.searchsorted(added, -limit - sums, side="right")
        found[place] = (above.sum() + below.sum()) / (len(sums) * len(added))
    return np.minimum(1.0, found)


def _signs(blocks: int) -> Values:
    """Return all flips of so many blocks, one a row, those that leave the first as it is first."""
    return np.array(list(itertools.product((1.0, -1.0), repeat=blocks)))


def _scipy_p(d: Values) -> float:
    return float(
        stats.permutation_test(
            (d,),
            _mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, BATCH // len(d)),
            rng=np.random.default_rng(0),
        ).pvalue
    )


def _mean(values: Values, axis: int = -1) -> Any:
    return np.mean(values, axis=axis)


def _drawn_p(d: Values) -> float:
    """Return the p of as many drawn flips, as `scipy.stats.permutation_test` counts them.

    One random byte is the signs of eight values; what they then add up to is looked up.
    """
    groups = np.pad(d, (0, -len(d) % DRAWN_TOGETHER)).reshape(-1, BYTE)
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1.0
    sums = groups @ signs.T  # of each group, under each byte
    places = np.arange(len(sums)) * 256
    generator = np.random.default_rng(0)
    seen, near = float(np.sum(d)), EQUAL * float(np.sum(np.abs(d)))
    below = above = 0
    for first in range(0, RESAMPLES, step := max(1, BATCH // len(sums))):
        count = min(step, RESAMPLES - first)
        drawn = generator.integers(0, 256, (count, len(sums)), dtype=np.uint8)
        flipped = sums.ravel().take(places + drawn).sum(axis=1)
        below += int((flipped <= seen + near).sum())
        above += int((flipped >= seen - near).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (RESAMPLES + 1))
