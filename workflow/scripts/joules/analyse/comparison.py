"""Block-level comparison of energy per generated token: tests, intervals, verdicts.

The run is the experimental unit, the block the pair: tests use one number per run, its energy
divided by its generated tokens, and work on d = log(a) - log(b) of the two runs of a block.
Tests of tasks instead of runs would find differences that are not there (pseudo-replication:
Hurlbert, Ecological Monographs 54, 1984). The three tests are `joules.analyse.paired_tests`; all
other estimators are those of scipy, statsmodels and pingouin. A number that the data cannot give
is NaN or None.
"""

import dataclasses
import itertools
import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from joules.analyse.conventions import (
    BETWEEN_RUNTIMES,
    MARGIN,
    METRIC,
    Row,
    Values,
    runtime_order,
)
from joules.analyse.estimates import number_or_none, numeric
from joules.analyse.paired_tests import paired_tests
from joules.analyse.pairs import CODES, Pairs, alike, control_blocks, distrusted, paired_blocks
from joules.analyse.permission import refusal_of_all, refusal_of_pair
from joules.analyse.power import LEAST_BLOCKS, power_facts
from joules.analyse.verdicts import holm, verdict
from joules.analyse.wall import is_emulated
from joules.core.analysis import ALL_ARMS, NO_CLAIM

P_VALUES = ("p_value", "p_size", "p_equivalence")  # of the three tests, each corrected by itself
PRIMARY, SECONDARY = "primary", "secondary"
NO_TASK = "No comparison of kind `task` may be claimed."
CORRECTED = {name: f"{name.removesuffix('_value')}_holm" for name in P_VALUES}
FACTS_OF_PAIR = (
    *("ratio", "ratio_low", "ratio_high", "simultaneous_low", "simultaneous_high", *P_VALUES),
    "sd_log_ratio",
    *("hedges_g", "cliffs_delta", "p_shapiro", "p_welch", "p_mannwhitney", "p_wilcoxon"),
    *("p_levene", "minimum_ratio", "minimum_ratio_low", "minimum_ratio_high", "n_for_margin"),
    "power_for_margin",
)
COMPARISON_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "kind", "family", "n_blocks", "ratio", "ratio_low"),
    *(
        "ratio_high",
        "simultaneous_low",
        "simultaneous_high",
        "sd_log_ratio",
        "p_value",
        "p_holm",
        "p_size",
    ),
    *("p_size_holm", "p_equivalence", "p_equivalence_holm", "verdict", "claimable"),
    *("no_claim_reason", "hedges_g", "cliffs_delta", "p_shapiro", "p_welch", "p_mannwhitney"),
    *("p_wilcoxon", "p_levene", "p_friedman", "minimum_ratio", "minimum_ratio_low"),
    *("minimum_ratio_high", "n_for_margin", "power_for_margin", "split_blocks", "mixed_blocks"),
    *("invalid_blocks", "flagged_blocks", "flagged_codes", "tier"),
]


def compare_pair(
    a: Sequence[float] | Values,
    b: Sequence[float] | Values,
    margin: float = MARGIN,
    family: int = 1,
) -> dict[str, float | None]:
    """Compare two runtimes by one value per block, in the same order of blocks.

    `ratio` is that of geometric means, a over b; `ratio_low` and `ratio_high` are its 95 % t
    interval, `simultaneous_low` and `simultaneous_high` that of `family` ratios together, by
    Bonferroni's rule; `sd_log_ratio` is the SD of d. The three tests, not yet corrected, are those
    of `PairedTests`; what the blocks can show is that of `power_facts`. Hedges' g takes the arms as
    independent. Other p's are for sensitivity and not corrected. Of a single block there is only
    the ratio.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    n = len(a)
    result: dict[str, float | None] = {"n_blocks": n, **dict.fromkeys(FACTS_OF_PAIR)}
    if n == 0:
        return result
    d = np.log(a) - np.log(b)
    result["ratio"] = float(np.exp(d.mean()))
    if n == 1:
        return result
    tests = paired_tests(d, margin)
    for name, ends in (("ratio", tests.interval()), ("simultaneous", tests.interval(family))):
        result[f"{name}_low"], result[f"{name}_high"] = (math.exp(end) for end in ends)
    given = (tests.p_difference, tests.p_size, tests.p_equivalence)
    result |= {name: float(p) for name, p in zip(P_VALUES, given, strict=True)}
    result["sd_log_ratio"] = float(tests.spread)
    result["hedges_g"] = number_or_none(lambda: hedges_g(a, b))
    rank = stats.mannwhitneyu(a, b)
    result["cliffs_delta"] = float(2 * rank.statistic / n**2 - 1)  # Cliff, Psych. Bull. 114, 1993
    result["p_mannwhitney"] = float(rank.pvalue)
    result["p_welch"] = number_or_none(lambda: stats.ttest_ind(a, b, equal_var=False).pvalue)
    result["p_wilcoxon"] = number_or_none(lambda: stats.wilcoxon(a, b).pvalue)
    if n >= 3 and tests.spread > 0:  # Shapiro-Wilk is defined from 3 values on
        result["p_shapiro"] = number_or_none(lambda: stats.shapiro(d).pvalue)
        result["p_levene"] = number_or_none(lambda: stats.levene(a, b, center="median").pvalue)
    return result | power_facts(float(tests.spread), n, family, margin)


def hedges_g(a: Values, b: Values) -> float:
    """Return the difference of two means in pooled SD, corrected for few values (Hedges 1981)."""
    import pingouin  # slow to import, and no other module of this room needs it

    return float(pingouin.compute_effsize(a, b, eftype="hedges"))


def _friedman(runs: pd.DataFrame, model: str, runtimes: Sequence[str], kind: str) -> float | None:
    """Return Friedman's omnibus p over blocks complete in one session; None below 3 runtimes.

    As in the comparisons, blocks with a flagged run are left out where enough others remain.
    """
    own = runs[(runs["model"] == model) & (runs["kind"] == kind) & runs["valid"]]
    blocks = own.pivot(index="block", columns="runtime", values=METRIC).reindex(
        columns=list(runtimes)
    )
    by_block = own.groupby("block")
    shared = by_block["session"].nunique().eq(1)
    shared &= by_block[alike(runs)].nunique().le(1).all(axis=1)
    blocks = blocks[shared.reindex(blocks.index, fill_value=False)].dropna()
    if CODES in own.columns:
        flagged = set(own.loc[own[CODES].map(distrusted).map(bool), "block"])
        clean = blocks[~blocks.index.isin(flagged)]
        blocks = clean if len(clean) >= LEAST_BLOCKS else blocks
    if len(runtimes) < 3 or len(blocks) < 2:
        return None
    return number_or_none(lambda: stats.friedmanchisquare(*blocks.to_numpy().T).pvalue)


@dataclasses.dataclass(frozen=True)
class _Compared:
    """One comparison before its family is known."""

    model: str
    a: str
    b: str
    kind: str
    family: str
    pairs: Pairs
    tier: str
    p_friedman: float | None = None

    @property
    def is_tested(self) -> bool:
        return len(self.pairs.blocks) > 1


def _compared(
    own: pd.DataFrame, model: str, order: Sequence[str], primary: Collection[frozenset[str]] | None
) -> list[_Compared]:
    """Return the comparisons of one model, `own` being its runs."""
    tier = str(own["tier"].iloc[0])
    found: list[_Compared] = []
    for kind in BETWEEN_RUNTIMES:
        there = set(own.loc[own["kind"] == kind, "runtime"])
        present = [runtime for runtime in order if runtime in there]
        omnibus = _friedman(own, model, present, kind)
        for a, b in itertools.combinations(present, 2):
            family = PRIMARY if primary is None or frozenset((a, b)) in primary else SECONDARY
            family = kind if kind != "task" else family
            pairs = paired_blocks(own, model, a, b, kind_a=kind, kind_b=kind)
            found.append(_Compared(model, a, b, kind, family, pairs, tier, omnibus))
    repeated = sorted(set(own.loc[own["kind"] == "control", "runtime"]))
    if repeated:
        name = repeated[0] if len(repeated) == 1 else ALL_ARMS
        pairs = control_blocks(own, model)
        found.append(_Compared(model, name, name, "control", "control", pairs, tier))
    return found


def compare(
    runs: pd.DataFrame,
    runtimes: Sequence[str] | None = None,
    contrasts: Collection[Sequence[str]] | None = None,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """Return all comparisons: every pair of runtimes per model and kind, and the null controls.

    `contrasts` are the pairs of runtimes, in either order, that the study asks about: their
    comparisons of kind `task`, over all models, are the family `primary`, all others `secondary`.
    Without contrasts every pair is primary. The families `fixed` and `control` are those kinds.
    Each of the three tests is corrected by Holm within each family. The control compares runs with
    second runs of the same runtime in the same blocks, by the same code: its true ratio is 1. Runs
    of kind `quality` are compared with nothing.

    `verdict` is a word of `joules.analyse.verdicts`; it is `no claim` where `claimable` is false,
    for the reason in `no_claim_reason`. A control claims nothing of runtimes, and is refused
    nothing; its word too is `no claim` where no comparison of kind `task` may be claimed.
    """
    order = list(runtimes or runtime_order(runs))
    primary = {frozenset(pair) for pair in contrasts} if contrasts else None
    found = [
        each
        for model in sorted(set(runs["model"]))
        for each in _compared(runs[runs["model"] == model], model, order, primary)
    ]
    rows: list[Row] = []
    sizes = {
        family: sum(each.family == family and each.is_tested for each in found)
        for family in {each.family for each in found}
    }
    for each in found:
        pairs = each.pairs
        row: Row = {"model": each.model, "runtime_a": each.a, "runtime_b": each.b}
        row |= {"kind": each.kind, "family": each.family}
        row |= compare_pair(pairs.a, pairs.b, margin, sizes[each.family])
        row |= {
            "p_friedman": each.p_friedman,
            "split_blocks": _listed(pairs.split),
            "mixed_blocks": _listed(pairs.mixed),
            "invalid_blocks": _listed(pairs.invalid),
            "flagged_blocks": _listed(pairs.flagged),
            "flagged_codes": ";".join(
                f"{code} {pairs.codes[code]}" for code in sorted(pairs.codes)
            ),
            "tier": each.tier,
        }
        rows.append(row)
    table = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    _correct(table)
    _permit(table, found, sizes, is_emulated(runs))
    return numeric(table)


def _listed(blocks: Sequence[int]) -> str:
    return ";".join(map(str, blocks))


def _correct(table: pd.DataFrame) -> None:
    """Fill the corrected p's and the verdicts."""
    for name, corrected in CORRECTED.items():
        values = pd.Series(np.nan, index=table.index)
        for _, family in table.groupby("family"):
            values[family.index] = np.array(holm(family[name]), dtype=float)
        table[corrected] = values
    table["verdict"] = [
        verdict(*ps) for ps in table[list(CORRECTED.values())].itertuples(index=False)
    ]


def _permit(
    table: pd.DataFrame, found: Sequence[_Compared], sizes: dict[str, int], emulated: bool
) -> None:
    """Fill whether each comparison may be claimed, and take the words of those that may not."""
    controls = {each.model: each.pairs for each in found if each.kind == "control"}
    for_all = refusal_of_all(table, found[0].tier, emulated) if found else ""
    reasons = [
        ""
        if each.kind == "control"
        else for_all
        or refusal_of_pair(each.pairs, sizes[each.family], each.model, controls.get(each.model))
        for each in found
    ]
    table["no_claim_reason"] = reasons
    nothing = table.loc[table["kind"] == "task", "no_claim_reason"].ne("").all()
    if nothing:  # of the study; its runs of fixed length carry a claim beside the tasks' alone
        fixed = table["kind"].eq("fixed") & table["no_claim_reason"].eq("")
        table.loc[fixed, "no_claim_reason"] = NO_TASK
    table["claimable"] = table["no_claim_reason"].eq("")
    table.loc[~table["claimable"] | nothing, "verdict"] = NO_CLAIM
