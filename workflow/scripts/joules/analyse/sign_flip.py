"""The sign-flip test: whether the mean of the blocks' differences is zero.

Fisher's randomisation test of pairs (The Design of Experiments, 1935): under the null hypothesis
the two runs of a block could have changed places, so every difference could have had either sign.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from joules.analyse.conventions import Values
from joules.analyse.power import EXACT_BLOCKS, RESAMPLES

BATCH = 2_000_000  # numbers that a resampling test holds at a time: bounds its memory
MOST_OF_LIBRARY = 500  # blocks; beyond, its one draw of 32 bits per flip and block takes too long
BYTE = 8  # blocks whose signs are one random byte
DRAWN_TOGETHER = 32  # the generator throws away what a batch leaves of a word of so many bits
EQUAL = 1e-12  # two sums that differ by this share are the same one, added up in another order
Flips = np.ndarray[Any, np.dtype[np.uint8]]  # one a row, a bit per block: 1 leaves it as it is


def sign_flip_p(d: Values) -> Values:
    """Return the two-sided p of the mean of `d` over its last axis, the blocks.

    Exact up to 16 blocks, as `scipy.stats.permutation_test` counts; beyond, of drawn flips.
    """
    studies = d.reshape(-1, d.shape[-1])
    test = _exact_p if d.shape[-1] <= EXACT_BLOCKS else _drawn_ps
    return test(studies).reshape(d.shape[:-1])


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


def _drawn_ps(studies: Values) -> Values:
    return np.array([_drawn_p(study) for study in studies])


def _drawn_p(d: Values) -> float:
    """Return the p of as many drawn flips, as `scipy.stats.permutation_test` counts them.

    One byte is the signs of eight values; what they then add up to is looked up.
    """
    groups = np.pad(d, (0, -len(d) % DRAWN_TOGETHER)).reshape(-1, BYTE)
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1.0
    sums = groups @ signs.T  # of each group, under each byte
    seen, near = float(np.sum(d)), EQUAL * float(np.sum(np.abs(d)))
    below = above = 0
    for drawn in [_flips_of_library(len(d))] if len(d) <= MOST_OF_LIBRARY else _flips(len(sums)):
        flipped = np.zeros(len(drawn))
        for place in range(drawn.shape[1]):
            flipped += sums[place].take(drawn[:, place])
        below += int((flipped <= seen + near).sum())
        above += int((flipped >= seen - near).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (RESAMPLES + 1))


@functools.lru_cache(maxsize=8)  # all comparisons of a study have about as many blocks
def _flips_of_library(blocks: int) -> Flips:
    """Return the flips that `scipy.stats.permutation_test` draws with the seed 0.

    It shuffles each value with its negative: the last bit of 32 leaves them as they are.
    """
    generator = np.random.default_rng(0)
    flips = np.empty((RESAMPLES, -(-blocks // BYTE)), dtype=np.uint8, order="F")
    for first in range(0, RESAMPLES, step := max(1, BATCH // blocks)):
        count = min(step, RESAMPLES - first)
        drawn = generator.integers(0, 2**32, (count, blocks), dtype=np.uint32)
        flips[first : first + count] = np.packbits((drawn & 1).astype(np.uint8), axis=1)
    return flips


def _flips(groups: int) -> Iterator[Flips]:
    """Yield flips of so many groups of blocks, all bits of a byte drawn at once."""
    generator = np.random.default_rng(0)
    for first in range(0, RESAMPLES, step := max(1, BATCH // groups)):
        count = min(step, RESAMPLES - first)
        yield generator.integers(0, 256, (count, groups), dtype=np.uint8)
