"""What blocks can show: the power of the sign-flip test, against simulations of it by itself."""

import itertools
import math
import re

import numpy as np
import pytest
from scipy import stats
from small_study import CHECKOUT

from joules.analyse.power import (
    EXACT_BLOCKS,
    LEAST_BLOCKS,
    blocks_needed,
    can_differ,
    power,
    power_facts,
    smallest_effect,
    smallest_p,
    spread_interval,
)


def share_found(effect, blocks, family, studies=4_000, seed=11):
    """Return how often all 2^n flips of normal differences give a p below 0.05 / family."""
    rng = np.random.default_rng(seed)
    d = rng.normal(effect, 1.0, (studies, blocks))
    flips = np.array(list(itertools.product((1.0, -1.0), repeat=blocks)))
    p = np.array([np.mean(np.abs(flips @ own) >= abs(own.sum()) - 1e-9) for own in d])
    return float(np.mean(p < 0.05 / family))


@pytest.mark.parametrize(
    ("blocks", "family"),
    [(6, 1), (7, 1), (8, 1), (8, 4), (9, 3), (10, 1), (10, 4), (10, 12), (11, 2), (12, 28)],
)
def test_the_smallest_effect_is_found_with_power_90_percent_in_a_simulation(blocks, family):
    effect = smallest_effect(blocks, family)
    assert share_found(effect, blocks, family) == pytest.approx(0.9, abs=0.02)
    assert power(effect, blocks, family) == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize(
    ("effect", "blocks", "family"),
    [(0.3, 8, 1), (1.0, 8, 4), (1.6, 8, 4), (0.5, 9, 4), (0.7, 10, 1), (1.2, 10, 4), (1.0, 11, 4)],
)
def test_any_power_is_that_of_a_simulation(effect, blocks, family):
    simulated = share_found(effect, blocks, family)
    assert power(effect, blocks, family) == pytest.approx(simulated, abs=0.025)
    assert power(-effect, blocks, family) == power(effect, blocks, family)


@pytest.mark.parametrize(("blocks", "family"), [(30, 4), (60, 1)])
def test_the_power_of_many_blocks_is_that_of_drawn_flips(blocks, family):
    rng = np.random.default_rng(3)
    effect = smallest_effect(blocks, family)
    signs = rng.choice((-1.0, 1.0), (4_999, blocks))
    found = 0
    for own in rng.normal(effect, 1.0, (1_000, blocks)):
        beyond = np.sum(np.abs(signs @ own) >= abs(own.sum()))
        found += (beyond + 1) / 5_000 < 0.05 / family
    assert found / 1_000 == pytest.approx(0.9, abs=0.03)


def test_without_an_effect_the_power_is_the_level_that_the_flips_allow():
    # 6 blocks: of 64 flips the two extreme ones. 8: 0.05 allows 6 of 128, 0.0125 one.
    assert power(0.0, 6) == pytest.approx(2 / 64)
    assert power(0.0, 8) == pytest.approx(6 / 128, abs=0.01)
    assert power(0.0, 8, 4) == pytest.approx(1 / 128)


def test_six_blocks_must_all_agree_so_that_their_power_is_that_of_six_normal_signs():
    effect = smallest_effect(6)
    assert stats.norm.cdf(effect) ** 6 == pytest.approx(0.9)
    assert power_facts(0.02, 6)["minimum_ratio"] == pytest.approx(math.exp(0.02 * effect))


def test_five_blocks_or_a_large_family_can_show_nothing_and_say_so():
    assert (smallest_effect(5), power(100.0, 5)) == (None, 0.0)
    assert (can_differ(8, 6), can_differ(8, 7)) == (True, False)  # 2/256 against 0.05 / 7
    facts = power_facts(0.02, 6, family=4)
    assert facts["minimum_ratio"] is facts["minimum_ratio_high"] is None
    assert (facts["n_for_margin"], facts["power_for_margin"]) == (8, 0.0)  # 0.9927^8 = 0.94


@pytest.mark.parametrize("family", [1, 4])
@pytest.mark.parametrize("spread", [0.01, 0.03, 0.05, 0.10])
def test_the_blocks_for_the_margin_are_the_fewest_that_find_it(spread, family):
    needed = power_facts(spread, 10, family)["n_for_margin"]
    effect = math.log(1.05) / spread
    assert power(effect, needed, family) >= 0.895
    if needed > LEAST_BLOCKS:
        assert power(effect, needed - 1, family) < 0.905
    assert blocks_needed(effect, family) == needed


def test_the_interval_of_an_sd_covers_the_true_one():
    rng = np.random.default_rng(4)
    spreads = rng.normal(0, 0.02, (4_000, 10)).std(axis=1, ddof=1)
    ends = np.array([spread_interval(spread, 10) for spread in spreads])
    covered = (ends[:, 0] < 0.02) & (ends[:, 1] > 0.02)
    assert covered.mean() == pytest.approx(0.95, abs=0.015)
    facts = power_facts(0.02, 10)
    low, high = spread_interval(0.02, 10)
    effect = math.log(facts["minimum_ratio"]) / 0.02
    assert math.log(facts["minimum_ratio_low"]) == pytest.approx(effect * low)
    assert math.log(facts["minimum_ratio_high"]) == pytest.approx(effect * high)


def test_the_smallest_p_is_exact_for_few_blocks_and_that_of_drawn_flips_for_any_number():
    assert [smallest_p(n) for n in (0, 1, 5, 16)] == [1, 1, 0.0625, 2 / 2**16]
    assert {smallest_p(n) for n in (17, 64, 1_023, 1_024, 5_000, 10**9)} == {2 / 100_000}
    assert EXACT_BLOCKS == 16


@pytest.mark.parametrize("blocks", [1_024, 1_500, 5_000, 100_000])
def test_what_thousands_of_blocks_can_show_is_a_number(blocks):
    facts = power_facts(0.02, blocks)
    expected = 1 + (1.96 + 1.2816) * 0.02 / blocks**0.5
    assert facts["minimum_ratio"] == pytest.approx(expected, rel=1e-4)
    assert facts["power_for_margin"] == pytest.approx(1)


def test_every_number_of_blocks_has_a_smallest_ratio_above_one_and_more_blocks_a_smaller_one():
    ratios = [power_facts(0.02, blocks)["minimum_ratio"] for blocks in (*range(6, 60), 200, 399)]
    assert all(a > b > 1 for a, b in itertools.pairwise(ratios))


def test_the_comment_of_the_study_states_the_power_of_its_test():
    text = " ".join((CHECKOUT / "config/study.yaml").read_text().replace("#", " ").split())
    said = re.search(
        r"find a ratio of (1\.\d+) with power (0\.\d+) where the log ratio of two runs of a block "
        r"has an SD of (\d) % \(of independent runs: each a CV of (\d\.\d) %\), and with power "
        r"(0\.\d+) where each run has a CV of (\d) %",
        text,
    )
    ratio, of_block, sd, run_cv, of_run, cv = map(float, said.groups())
    assert re.search(r"^blocks: 12$", (CHECKOUT / "config/study.yaml").read_text(), re.MULTILINE)
    assert run_cv == pytest.approx(sd / math.sqrt(2), abs=0.05)
    for spread, printed in ((sd / 100, of_block), (math.sqrt(2) * cv / 100, of_run)):
        assert power(math.log(ratio) / spread, 12, 16) == pytest.approx(printed, abs=0.0051)
        simulated = share_found(math.log(ratio) / spread, 12, 16)
        assert simulated == pytest.approx(printed, abs=0.03)
