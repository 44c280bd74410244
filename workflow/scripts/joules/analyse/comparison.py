"""Block-level comparison of energy per generated token: tests, intervals, equivalence, verdicts.

The run is the experimental unit, the block the pair: tests use one number per run, its energy
divided by its generated tokens, and work on d = log(a) - log(b) of the two runs of a block.
Tests of tasks instead of runs would find differences that are not there (pseudo-replication:
Hurlbert, Ecological Monographs 54, 1984). All estimators are those of scipy, statsmodels and
pingouin; tables in and out are pandas frames. A number that the data cannot give is NaN or None.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pingouin
from scipy import stats
from statsmodels.stats.multitest import multipletests

from joules.analyse.conventions import (
    ALPHA,
    BETWEEN_RUNTIMES,
    MARGIN,
    METRIC,
    Row,
    Values,
    runtime_order,
)
from joules.analyse.estimates import mean_interval, number_or_none, numeric
from joules.analyse.pairs import alike, paired_blocks
from joules.analyse.power import power_facts
from joules.analyse.sign_flip import sign_flip_p


def compare_pair(
    a: Sequence[float] | Values, b: Sequence[float] | Values, margin: float = MARGIN
) -> dict[str, float | None]:
    """Compare two runtimes by one value per block, in the same order of blocks.

    `ratio` is that of geometric means, a over b; its interval is the 95 % t interval of the mean
    of d. `p_value` is the two-sided sign-flip test of the mean of d, exact up to 16 blocks.
    `p_equivalence` is the larger p of two one-sided t tests against `margin` (Schuirmann, J.
    Pharmacokinetics and Biopharmaceutics 15, 1987). Hedges' g takes the arms as independent.
    `minimum_ratio` is the smallest ratio above 1 that this spread and number of blocks would show
    with power 0.9 (None below 6 blocks, which can show none); `n_for_margin` the blocks that a
    ratio of 1 + margin needs. Other p's are for sensitivity and not corrected.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    n = len(a)
    names = (
        *("ratio", "ratio_low", "ratio_high", "p_value", "p_equivalence", "hedges_g"),
        *("cliffs_delta", "p_shapiro", "p_welch", "p_mannwhitney", "p_wilcoxon", "p_levene"),
        *("minimum_ratio", "n_for_margin"),
    )
    result: dict[str, float | None] = {"n_blocks": n, **dict.fromkeys(names)}
    if n == 0:
        return result
    log_a, log_b = np.log(a), np.log(b)
    d = log_a - log_b
    result["ratio"] = float(np.exp(d.mean()))
    if n == 1:
        return result
    low, high = mean_interval(d)
    if low is not None and high is not None:
        result["ratio_low"], result["ratio_high"] = math.exp(low), math.exp(high)
    result["p_value"] = sign_flip_p(d)
    spread = float(np.std(d, ddof=1))
    if spread == 0:  # the t tests divide by it
        result["p_equivalence"] = 0.0 if abs(d[0]) < math.log1p(margin) else 1.0
    else:
        result["p_equivalence"] = number_or_none(
            lambda: pingouin.tost(log_a, log_b, bound=np.log1p(margin), paired=True)["pval"].iloc[0]
        )
    result["hedges_g"] = number_or_none(lambda: pingouin.compute_effsize(a, b, eftype="hedges"))
    rank = stats.mannwhitneyu(a, b)
    result["cliffs_delta"] = float(2 * rank.statistic / n**2 - 1)  # Cliff, Psych. Bull. 114, 1993
    result["p_mannwhitney"] = float(rank.pvalue)
    result["p_welch"] = number_or_none(lambda: stats.ttest_ind(a, b, equal_var=False).pvalue)
    result["p_wilcoxon"] = number_or_none(lambda: stats.wilcoxon(a, b).pvalue)
    if n >= 3 and spread > 0:  # Shapiro-Wilk is defined from 3 values on
        result["p_shapiro"] = number_or_none(lambda: stats.shapiro(d).pvalue)
        result["p_levene"] = number_or_none(lambda: stats.levene(a, b, center="median").pvalue)
    result |= power_facts(spread, n, margin)
    return result


def holm(p_values: Iterable[float | None]) -> list[float | None]:
    """Return p-values adjusted by Holm (Scandinavian J. of Statistics 6, 1979) as one family.

    None stays None and is no member of the family. statsmodels' default is another method.
    """
    given = [None if p is None or math.isnan(p) else float(p) for p in p_values]
    members = [p for p in given if p is not None]
    adjusted = iter(multipletests(members, ALPHA, method="holm")[1] if members else [])
    return [None if p is None else float(next(adjusted)) for p in given]


def verdict(p_holm: float | None, p_equivalence_holm: float | None) -> str:
    """Return the verdict from both corrected p's; a test that could not be made shows nothing."""
    different = p_holm is not None and p_holm < ALPHA
    equivalent = p_equivalence_holm is not None and p_equivalence_holm < ALPHA
    if different:
        return "different but within margin" if equivalent else "different"
    return "equivalent within margin" if equivalent else "inconclusive"


def _friedman(runs: pd.DataFrame, model: str, runtimes: Sequence[str], kind: str) -> float | None:
    """Return Friedman's omnibus p over blocks complete in one session; None below 3 runtimes."""
    own = runs[(runs["model"] == model) & (runs["kind"] == kind) & runs["valid"]]
    blocks = own.pivot(index="block", columns="runtime", values=METRIC).reindex(
        columns=list(runtimes)
    )
    by_block = own.groupby("block")
    shared = by_block["session"].nunique().eq(1)
    shared &= by_block[alike(runs)].nunique().le(1).all(axis=1)
    blocks = blocks[shared.reindex(blocks.index, fill_value=False)].dropna()
    if len(runtimes) < 3 or len(blocks) < 2:
        return None
    return number_or_none(lambda: stats.friedmanchisquare(*blocks.to_numpy().T).pvalue)


def compare(
    runs: pd.DataFrame, runtimes: Sequence[str] | None = None, margin: float = MARGIN
) -> pd.DataFrame:
    """Return all comparisons: every pair of runtimes per model and kind, and the null controls.

    Families for Holm's correction: the differences of all pairs and models of kind `task`; those
    of kind `fixed`; the controls; and the equivalence tests of each of the three. The control
    compares the runs of a runtime with its own second runs in the same blocks, by the same code:
    its true ratio is 1. Runs of kind `quality` are compared with nothing.
    """
    order = list(runtimes or runtime_order(runs))
    rows: list[Row] = []
    for model in sorted(set(runs["model"])):
        own = runs[runs["model"] == model]
        wanted: list[tuple[str, str, str, str]] = []
        omnibus = {}
        for kind in BETWEEN_RUNTIMES:
            there = set(own.loc[own["kind"] == kind, "runtime"])
            present = [runtime for runtime in order if runtime in there]
            wanted += [(a, b, kind, kind) for a, b in itertools.combinations(present, 2)]
            omnibus[kind] = _friedman(own, model, present, kind)
        repeated = sorted(set(own.loc[own["kind"] == "control", "runtime"]))
        wanted += [(runtime, runtime, "task", "control") for runtime in repeated]
        for a, b, kind_a, kind in wanted:
            pairs = paired_blocks(own, model, a, b, kind_a=kind_a, kind_b=kind)
            row: Row = {"model": model, "runtime_a": a, "runtime_b": b, "kind": kind}
            row |= compare_pair(pairs.a, pairs.b, margin)
            row |= {
                "p_friedman": omnibus.get(kind),
                "split_blocks": ";".join(map(str, pairs.split)),
                "mixed_blocks": ";".join(map(str, pairs.mixed)),
                "invalid_blocks": ";".join(map(str, pairs.invalid)),
                "tier": str(own["tier"].iloc[0]),
            }
            rows.append(row)
    table = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    for name in ("p_value", "p_equivalence"):
        corrected = pd.Series(np.nan, index=table.index)
        for kind in (*BETWEEN_RUNTIMES, "control"):
            family = table["kind"] == kind
            corrected[family] = np.array(holm(table.loc[family, name]), dtype=float)
        table[f"{name.removesuffix('_value')}_holm"] = corrected
    table["verdict"] = list(map(verdict, table["p_holm"], table["p_equivalence_holm"]))
    return numeric(table)


COMPARISON_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "kind", "n_blocks", "ratio", "ratio_low", "ratio_high"),
    *("p_value", "p_holm", "p_equivalence", "p_equivalence_holm", "verdict", "hedges_g"),
    *("cliffs_delta", "p_shapiro", "p_welch", "p_mannwhitney", "p_wilcoxon", "p_levene"),
    *(
        "p_friedman",
        "minimum_ratio",
        "n_for_margin",
        "split_blocks",
        "invalid_blocks",
        "mixed_blocks",
        "tier",
    ),
]
