"""The random-effects mean: a published example, known truth, and what it must not do."""

import math

import numpy as np
import pytest
from benchmarks.bench_compare import coverage
from statsmodels.stats.meta_analysis import combine_effects

from joules.analyse.pooling import between_variance, pooled

# Trials of the BCG vaccine: cases and others, vaccinated and not (Colditz et al., JAMA 271, 1994).
BCG = np.array(
    [
        *[(4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619)],
        *[(33, 5036, 47, 5761), (180, 1361, 372, 1079), (8, 2537, 10, 619)],
        *[(505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600)],
        *[(186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)],
    ],
    dtype=float,
).T


def log_risk_ratios():
    cases, others, cases_without, others_without = BCG
    treated, untreated = cases + others, cases_without + others_without
    effects = np.log(cases / treated) - np.log(cases_without / untreated)
    return effects, 1 / cases - 1 / treated + 1 / cases_without - 1 / untreated


def test_a_published_example_gives_the_published_numbers():
    effects, variances = log_risk_ratios()
    found = pooled(effects, variances)
    assert found.tau**2 == pytest.approx(0.3181, abs=5e-5)  # metafor 4, method "PM"
    assert found.i_squared == pytest.approx(0.9212, abs=5e-5)  # 1 - 12 / 152.233
    assert math.log(found.ratio) == pytest.approx(-0.715, abs=5e-4)
    assert found.machines == 13 and not found.approximate
    assert found.prediction_low < found.low < found.ratio < found.high < found.prediction_high


def test_tau_solves_the_equation_of_paule_and_mandel():
    effects, variances = log_risk_ratios()
    weights = 1 / (variances + between_variance(effects, variances))
    mean = np.average(effects, weights=weights)
    assert weights @ (effects - mean) ** 2 == pytest.approx(len(effects) - 1, rel=1e-9)


def test_every_solution_is_found_where_that_of_statsmodels_is_lost_by_rounding():
    rng = np.random.default_rng(1)
    lost = 0
    for _ in range(200):
        effects, variances = rng.normal(0, 0.1, 7), rng.uniform(2e-5, 5e-5, 7)
        assert between_variance(effects, variances) > 0
        lost += combine_effects(effects, variances, atol=1e-9, maxiter=500).tau2 == 0
    assert lost, "then ours is not needed any more"


def test_machines_that_agree_by_luck_do_not_narrow_the_interval():
    variances = np.full(5, 1e-4)
    found = pooled(np.full(5, 0.1), variances)
    plain = 2.776445 * math.sqrt(1e-4 / 5)  # t with 4 degrees of freedom
    assert math.log(found.high / found.ratio) == pytest.approx(plain, rel=1e-6)
    assert found.tau == 0 and found.i_squared == 0


def test_two_machines_give_no_mean_and_three_an_approximate_one():
    with pytest.raises(ValueError, match="2 log ratios"):
        pooled([0.1, 0.2], [1e-4, 1e-4])
    with pytest.raises(ValueError, match="variance above zero"):
        pooled([0.1, 0.2, 0.3], [1e-4, 0.0, 1e-4])
    three = pooled([0.1, 0.2, 0.3], [1e-4] * 3)
    assert three.approximate
    reach = 12.7062 * math.hypot(three.tau, 0.1 / math.sqrt(3))  # t with one degree of freedom
    assert math.log(three.prediction_high / three.ratio) == pytest.approx(reach, rel=1e-4)


@pytest.mark.parametrize("tau", [0.02, 0.10])
def test_intervals_cover_what_they_promise_with_ten_machines(tau):
    predicted, covered = coverage(machines=10, tau=tau, studies=1000)
    assert 0.90 <= predicted <= 0.98
    assert 0.90 <= covered <= 0.98
