"""The sign-flip test with many blocks, and the smallest p that a number of blocks can give."""

import numpy as np
import pytest
from scipy import stats

from joules.analyse import sign_flip
from joules.analyse.power import RESAMPLES, smallest_p
from joules.analyse.sign_flip import MOST_OF_LIBRARY, sign_flip_p

TWICE_FOUR_ERRORS = 2 * 4 * 2**0.5  # of a difference of two p's that are each twice a share


def differences(blocks: int, mean: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.02, blocks)


@pytest.mark.parametrize("mean", [0.0, 0.001, 0.002])
@pytest.mark.parametrize("blocks", [200, 203, 501])
def test_drawn_flips_give_the_p_of_the_library_within_their_own_error(blocks, mean):
    d = differences(blocks, mean)
    library = stats.permutation_test(
        (d,),
        lambda values, axis: np.mean(values, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        rng=np.random.default_rng(7),
    ).pvalue
    p = sign_flip._drawn_p(d)
    error = TWICE_FOUR_ERRORS * np.sqrt(max(p, 1e-3) * (1 - p / 2) / 9_999)
    assert p == pytest.approx(float(library), abs=error)


@pytest.mark.parametrize("blocks", [17, 40, 222, MOST_OF_LIBRARY])
@pytest.mark.parametrize("share", [0.0, 1.0, -2.5])
def test_up_to_500_blocks_the_flips_are_those_that_the_library_draws(monkeypatch, blocks, share):
    monkeypatch.setattr(sign_flip, "BATCH", 30_000)  # neither draws in one batch
    d = differences(blocks, share * 0.02 / blocks**0.5)
    library = stats.permutation_test(
        (d,),
        lambda values, axis: np.mean(values, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=4_000,
        rng=np.random.default_rng(0),
    ).pvalue
    sign_flip._flips_of_library.cache_clear()
    assert sign_flip_p(d) == library


@pytest.mark.parametrize("mean", [0.0, 0.0003, -0.0006])
def test_thousands_of_blocks_give_the_p_of_a_t_test_which_is_exact_there(mean):
    d = differences(6_000, mean)
    p = float(stats.ttest_1samp(d, 0.0).pvalue)
    assert sign_flip_p(d) == pytest.approx(p, abs=5 * np.sqrt(p / RESAMPLES) + 1e-3)


def test_a_difference_in_every_block_gives_the_smallest_p_there_is():
    for blocks in (40, MOST_OF_LIBRARY, MOST_OF_LIBRARY + 1, 2_000):
        d = np.abs(differences(blocks, 0.0)) + 0.01
        assert sign_flip_p(d) == sign_flip_p(-d) == smallest_p(blocks)


def test_blocks_that_all_agree_or_have_no_difference_at_all_have_their_p():
    assert sign_flip_p(np.zeros(1_000)) == 1.0
    alternating = np.tile([0.01, -0.01], 500)
    assert sign_flip_p(alternating) == 1.0


def test_the_p_does_not_depend_on_the_size_of_a_batch(monkeypatch):
    d = differences(1_001, 0.001)
    whole = sign_flip_p(d)
    monkeypatch.setattr(sign_flip, "BATCH", 50_000)
    assert sign_flip_p(d) == whole


def test_many_studies_at_once_have_the_p_of_each(monkeypatch):
    monkeypatch.setattr(sign_flip, "BATCH", 1_000)
    for blocks in (1, 2, 9, 20, 600):
        d = np.stack([differences(blocks, 0.01, seed) for seed in range(3)])
        assert sign_flip_p(d).tolist() == [float(sign_flip_p(own)) for own in d]
