"""One ratio from those of several machines: a random-effects mean, and what a further one may give.

The ratio of machine i is exp(y_i), its log ratio y_i = mu + u_i + e_i: u_i, of SD tau, is what the
machine does to it, and e_i, of known variance v_i, is chance.

- tau by Paule and Mandel (J. Res. Natl. Bur. Stand. 87, 1982), as Veroniki et al. advise (Research
  Synthesis Methods 7, 2016). The mean with it: `combine_effects` of statsmodels.
- The interval of the mean by Hartung and Knapp (Statistics in Medicine 20, 2001): t with k - 1
  degrees of freedom on their variance, which is not allowed to be less than the plain one, as it
  would be where machines agree by luck (Roever, Knapp, Friede, BMC Med. Res. Methodol. 15, 2015).
- The prediction interval, in which the true ratio of one further machine lies, by Higgins, Thompson
  and Spiegelhalter (J. R. Stat. Soc. A 172, 2009), as IntHout et al. ask for it (BMJ Open 6, 2016):
  t with k - 2 degrees of freedom on tau^2 plus the variance of the mean.
- I^2 = 1 - (k - 1) / Q, not below 0 (Higgins, Thompson, Statistics in Medicine 21, 2002).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.meta_analysis import combine_effects

from joules.analyse.conventions import ALPHA, Values

LEAST_MACHINES = 3  # t with k - 2 degrees of freedom needs them
FEW_MACHINES = 10  # with fewer the prediction interval is called approximate
TINY = 1e-12  # the error of tau^2, as a share of the variance of all log ratios


@dataclasses.dataclass(frozen=True)
class Pooled:
    """A random-effects mean of log ratios.

    Attributes:
        machines: how many.
        ratio: of the mean, with the ends of its 95 % interval.
        low: see `ratio`.
        high: see `ratio`.
        prediction_low: lower end of the 95 % prediction interval of a further machine's ratio.
        prediction_high: its upper end.
        tau: SD of the machines' true log ratios.
        i_squared: share of the variance of the ratios that is not chance, 0 to 1.
    """

    machines: int
    ratio: float
    low: float
    high: float
    prediction_low: float
    prediction_high: float
    tau: float
    i_squared: float

    @property
    def approximate(self) -> bool:
        """Whether so few machines leave tau, and so the prediction interval, badly known."""
        return self.machines < FEW_MACHINES


def pooled(log_ratios: Sequence[float] | Values, variances: Sequence[float] | Values) -> Pooled:
    """Return the random-effects mean of log ratios, each with the variance that chance gives it.

    Raises ValueError for fewer than `LEAST_MACHINES`, or a variance that is not above zero.
    """
    effects, chance = np.asarray(log_ratios, dtype=float), np.asarray(variances, dtype=float)
    machines = len(effects)
    if machines < LEAST_MACHINES or not (np.isfinite(effects).all() and (chance > 0).all()):
        raise ValueError(f"{machines} log ratios of which not all have a variance above zero.")
    alone = combine_effects(effects, chance)
    tau_squared = between_variance(effects, chance)
    found = combine_effects(effects, chance + tau_squared)
    mean, tau = float(found.mean_effect_fe), math.sqrt(tau_squared)
    error = max(float(found.sd_eff_w_fe_hksj), float(found.sd_eff_w_fe))
    half = stats.t.isf(ALPHA / 2, machines - 1) * error
    reach = stats.t.isf(ALPHA / 2, machines - 2) * math.hypot(tau, error)
    return Pooled(
        machines=machines,
        ratio=math.exp(mean),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        prediction_low=math.exp(mean - reach),
        prediction_high=math.exp(mean + reach),
        tau=tau,
        i_squared=max(0.0, 1 - (machines - 1) / alone.q) if alone.q > 0 else 0.0,
    )


def between_variance(effects: Values, chance: Values) -> float:
    """Return tau^2 by Paule and Mandel: so large that the weighted squares add up to k - 1.

    0 where chance alone explains them. (The search of statsmodels returns 0, too, where rounding
    takes its last step past the solution.)
    """

    def excess(tau_squared: float) -> float:
        weights = 1 / (chance + tau_squared)
        mean = weights @ effects / weights.sum()
        return float(weights @ (effects - mean) ** 2) - (len(effects) - 1)

    if excess(0.0) <= 0:
        return 0.0
    most = float(((effects - effects.mean()) ** 2).sum()) / (len(effects) - 1)  # excess is below 0
    return float(optimize.brentq(excess, 0.0, most, xtol=TINY * most))
