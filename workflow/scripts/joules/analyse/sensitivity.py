"""The same comparisons by other methods: does the answer hang on the choice of the test?

Nothing here decides a verdict; p-values are not corrected, and where `claimable` is false no claim
follows from them. Methods, in the order of the rows:
`sign_flip` (the primary one, repeated), `bca_bootstrap` (from 20 blocks on: below, its intervals
are too narrow), `welch`, `mannwhitney`, `wilcoxon` (as course guides ask), `without_flagged` and
`without_outliers` (the primary test on fewer blocks), `net_energy` (the primary test on energy
less idle power) and `mixed_model` (over tasks, with task, run and block as random effects).
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats

from joules.analyse.comparison import compare_pair
from joules.analyse.conventions import ALPHA, METRIC, Row, Values
from joules.analyse.estimates import numeric
from joules.analyse.pairs import CODES, Pairs, distrusted, paired_blocks
from joules.analyse.sign_flip import BATCH
from joules.core.wording import number_of

SENSITIVITY_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "method", "ratio", "low", "high", "p", "n", "claimable"),
    "note",
]
LEAST_FOR_BOOTSTRAP = 20
BOOTSTRAP_RESAMPLES = 9_999
# |z| of n values is at most (n - 1) / sqrt(n): 2.85 at n = 10 (Shiffler, American Statistician 42,
# 1988), so that the rule can show nothing below 11.
OUTLIER_Z = 3.0
PARTS = ("task", "run", "block")  # random effects
Flags = np.ndarray[Any, np.dtype[np.bool_]]  # which blocks are kept
# Answers that all mixed models of a study may have together; each takes seconds per 3,000.
MOST_ANSWERS = 20_000
DENSE_ANSWERS = 2_500  # answers; up to here whole matrices are faster than sparse ones


def _primary(a: Values, b: Values, note: str = "") -> Row:
    found = compare_pair(a, b)
    values = (found[name] for name in ("ratio", "ratio_low", "ratio_high", "p_value", "n_blocks"))
    return dict(zip(("ratio", "low", "high", "p", "n"), values, strict=True)) | {"note": note}


def _nothing(note: str) -> Row:
    return {"note": note}


def _of_comparison(pair: Any) -> Row:
    """Return the primary test as `joules.analyse.comparison.compare` made it."""
    values = (pair.ratio, pair.ratio_low, pair.ratio_high, pair.p_value, pair.n_blocks)
    names = ("ratio", "low", "high", "p", "n")
    return dict(zip(names, values, strict=True)) | {"note": "The primary test."}


def _fewer(a: Values, b: Values, kept: Flags, primary: Row, words: str) -> Row:
    """Return the primary test on the blocks that are kept; `words` say of which the rest are."""
    if kept.all():
        return primary | {"note": f"No block {words}: the same as the primary test."}
    return _primary(a[kept], b[kept], f"{number_of(int((~kept).sum()), 'block')} {words} left out.")


def bca_bootstrap(a: Values, b: Values) -> Row:
    """Return the ratio of arithmetic means with its BCa interval (Efron, JASA 82, 1987)."""
    n = len(a)
    if n < LEAST_FOR_BOOTSTRAP:
        few = number_of(n, "block")
        return _nothing(f"{few}; this interval is too narrow below {LEAST_FOR_BOOTSTRAP}.")

    def ratio(x: Values, y: Values, axis: int = -1) -> Any:
        return np.mean(x, axis=axis) / np.mean(y, axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interval = stats.bootstrap(
            (a, b),
            ratio,
            paired=True,
            method="BCa",
            n_resamples=BOOTSTRAP_RESAMPLES,
            batch=max(1, BATCH // n),
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return _nothing("All blocks have the same ratio.")
    return {"ratio": float(ratio(a, b)), "low": low, "high": high, "n": n, "note": ""}


def _rank_tests(pair: Any, a: Values, b: Values) -> dict[str, Row]:
    """Return Welch's, Mann and Whitney's and Wilcoxon's test of J per token, without logarithms."""
    rows: dict[str, Row] = {}
    for method, note in (
        ("welch", "Means of independent arms; blocks not used."),
        ("mannwhitney", "Ranks of independent arms; blocks not used."),
        ("wilcoxon", "Signed ranks of the blocks' differences."),
    ):
        p = getattr(pair, f"p_{method}")
        row: Row = {"p": p, "n": len(a), "note": note}
        if method == "welch" and len(a) > 1:
            row["ratio"] = float(np.mean(a) / np.mean(b))
        rows[method] = row if pd.notna(p) else _nothing("Too few blocks.")
    return rows


def _kept(a: Values, b: Values) -> Flags:
    """Return which blocks lie within three SD of the mean log ratio."""
    d = np.log(a) - np.log(b)
    spread = d.std(ddof=1) if len(d) > 1 else 0.0
    return np.abs(d - d.mean()) <= OUTLIER_Z * spread if spread else np.isfinite(d)


def _short(value: float, digits: int = 5) -> float:
    """Return a value without the digits that an optimiser finds otherwise on another CPU."""
    return float(f"{value:.{digits}g}")


def _fitted(frame: pd.DataFrame) -> tuple[Any, str]:
    """Return the first fit that converged with a sound covariance, or None; and a note."""
    for parts, optimiser in itertools.product((PARTS, PARTS[:2]), ("bfgs", "powell")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fit = smf.mixedlm(
                    "y ~ first",
                    frame,
                    groups="study",
                    vc_formula={name: f"0 + C({name})" for name in parts},
                    re_formula="0",
                    use_sparse=len(frame) > DENSE_ANSWERS,
                ).fit(method=optimiser)
                # The Hessian at a point that is no maximum gives errors of something else, also
                # where the optimiser says that it converged.
                sound = fit.converged and (np.diag(fit.cov_params()) > 0).all()
            except (np.linalg.LinAlgError, ValueError, RuntimeError):
                continue
        if sound and math.isfinite(fit.bse["first"]):
            left_out = "" if parts == PARTS else " The variance of block is not told from zero."
            return fit, f"n is answers; geometric mean over answers.{left_out}"
    return None, "The fit did not converge."


def mixed_model(answers: pd.DataFrame, a: str, b: str) -> Row:
    """Return the ratio a over b of J per token over single answers, by a linear mixed model.

    log(J per token) = runtime + task + run + block, the last three random, by REML (statsmodels).
    It is the run that is repeated; a model without `run` and `block` would be far too sure, and so
    would one of normal quantiles: interval and p are those of t with blocks - 1. A fit
    that does not converge, or whose standard error is no number, is reported and not used.
    `answers` has the columns runtime, block, task_id, energy_j, generated_tokens.
    """
    used = answers[(answers["energy_j"] > 0) & (answers["generated_tokens"] > 0)]
    if not len(answers):
        return _nothing("The table holds no single answers.")
    if answers["energy_j"].isna().all():
        return _nothing("The energy of single tasks is not known.")
    if used["block"].nunique() < 2:
        return _nothing("Fewer than two blocks.")
    frame = pd.DataFrame(
        {
            "y": np.log(used["energy_j"] / used["generated_tokens"]).to_numpy(dtype=float),
            "first": (used["runtime"] == a).to_numpy(dtype=float),
            "task": used["task_id"].to_numpy(),
            "block": used["block"].to_numpy(),
            "run": (used["runtime"] + "/" + used["block"].astype(str)).to_numpy(),
            "study": 1,
        }
    )
    if not np.ptp(frame["y"]):
        return _nothing("All answers have the same energy per token.")
    fit, note = _fitted(frame)
    if fit is None:
        return _nothing(note)
    estimate, error = float(fit.params["first"]), float(fit.bse["first"])
    t = stats.t(used["block"].nunique() - 1)
    half = float(t.isf(ALPHA / 2)) * error
    return {
        "ratio": _short(math.exp(estimate)),
        "low": _short(math.exp(estimate - half)),
        "high": _short(math.exp(estimate + half)),
        "p": _short(float(2 * t.sf(abs(estimate) / error)), digits=2),
        "n": len(frame),
        "note": note,
    }


def _values(runs: pd.DataFrame, model: str, runtime: str, blocks: Sequence[int]) -> pd.DataFrame:
    own = runs[
        (runs["model"] == model) & (runs["runtime"] == runtime) & (runs["kind"] == "task")
    ].set_index("block")
    return own.loc[list(blocks)]


def sensitivity(tasks: pd.DataFrame, runs: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return one row per pair of runtimes (kind `task`) and method; a gap says its reason.

    The mixed models are all left out where their answers are more than `MOST_ANSWERS` together:
    a bound on size, not on time, so that equal tables give equal results.
    """
    wanted = comparisons[comparisons["kind"] == "task"]
    sizes = runs[runs["kind"] == "task"].groupby(["model", "runtime"])["tasks"].sum()
    answers = sum(
        int(sizes.get((row.model, row.runtime_a), 0) + sizes.get((row.model, row.runtime_b), 0))
        for row in wanted.itertuples()
    )
    few = answers <= MOST_ANSWERS
    too_many = f"{answers:,} answers in {len(wanted)} models; fitted up to {MOST_ANSWERS:,}."
    own_tasks = tasks[tasks["kind"] == "task"] if few else tasks.iloc[:0]
    rows: list[Row] = []
    for pair in wanted.itertuples():
        model, a, b = str(pair.model), str(pair.runtime_a), str(pair.runtime_b)
        pairs = paired_blocks(runs, model, a, b)
        blocks = pairs.blocks
        left, right = (_values(runs, model, runtime, blocks) for runtime in (a, b))
        x, y = (arm[METRIC].to_numpy(dtype=float) for arm in (left, right))
        primary = _of_comparison(pair)
        found = {"sign_flip": primary, "bca_bootstrap": bca_bootstrap(x, y)}
        found |= _rank_tests(pair, x, y)
        found["without_flagged"] = _without_flagged(pairs, left, right, primary)
        most = (len(x) - 1) / math.sqrt(len(x)) if len(x) else 0.0
        found["without_outliers"] = (
            _fewer(x, y, _kept(x, y), primary, "beyond three SD")
            if most > OUTLIER_Z
            else _nothing(f"With {number_of(len(x), 'block')} no |z| can reach three.")
        )
        found["net_energy"] = _net(left, right)
        if few:
            of_pair = own_tasks[own_tasks["model"].eq(model) & own_tasks["block"].isin(blocks)]
            of_pair = of_pair[of_pair["runtime"].isin([a, b])]
            found["mixed_model"] = mixed_model(of_pair, a, b)
        else:
            found["mixed_model"] = _nothing(too_many)
        names: Row = {"model": model, "runtime_a": a, "runtime_b": b}
        names["claimable"] = bool(pair.claimable)
        rows += [names | {"method": method} | row for method, row in found.items()]
    return numeric(pd.DataFrame(rows, columns=SENSITIVITY_COLUMNS))


def _without_flagged(pairs: Pairs, left: pd.DataFrame, right: pd.DataFrame, primary: Row) -> Row:
    if pairs.flagged:
        words = number_of(len(pairs.flagged), "block")
        return primary | {"note": f"{words} with a flagged run left out: the primary test does so."}
    clean = np.array(
        [
            not distrusted(one) and not distrusted(other)
            for one, other in zip(left[CODES], right[CODES], strict=True)
        ],
        dtype=bool,
    )
    if len(clean) and not clean.any():
        return _nothing("Every block has a flagged run.")
    return _fewer(pairs.a, pairs.b, clean, primary, "with a flagged run")


def _net(left: pd.DataFrame, right: pd.DataFrame) -> Row:
    values = [arm["net_energy_j_per_token"].to_numpy(dtype=float) for arm in (left, right)]
    if not all((np.isfinite(arm) & (arm > 0)).all() for arm in values):
        return _nothing("A run has no positive energy above idle, or its idle power is unknown.")
    return _primary(values[0], values[1], "Energy less that of the idle machine.")
