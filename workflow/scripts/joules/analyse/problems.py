"""The problems as a sample: what a study says of other problems of their kind.

Blocks and problems are redrawn, the same of both for the two runtimes of a pair (a two-way
bootstrap: Owen, Annals of Applied Statistics 1, 2007). Where a study has runs of kind `quality`,
correct answers are theirs and energies those of the tasks, which are a part of the same problems.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from joules.analyse.conventions import ALPHA, MARGIN, Row, Values
from joules.analyse.derived_columns import shared_out
from joules.analyse.estimates import numeric
from joules.analyse.pairs import paired_blocks
from joules.analyse.verdicts import holm, verdict
from joules.core.analysis import NO_CLAIM

REDRAWS = 2000  # the standard error of so many is known to 1.6 %
TOGETHER = 2_000_000  # numbers that are redrawn at a time: bounds the memory
ADDED = ((1.0, 0.0), (0.0, 1.0))  # one of two problems, each solved by one runtime alone
HALF = 0.5  # of a correct answer stands in a redraw for none, which has no logarithm
LEAST_BLOCKS, LEAST_PROBLEMS, LEAST_CORRECT = 3, 10, 5  # below, intervals are approximate
PER_TOKEN, PASS, PER_CORRECT = "energy_j_per_token", "pass_at_1", "energy_j_per_correct"
P_VALUES = ("p_value", "p_size", "p_equivalence")
CORRECTED = {name: f"{name.removesuffix('_value')}_holm" for name in P_VALUES}
PROBLEM_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "quantity", "measure", "value", "low", "high"),
    *("p_value", "p_holm", "p_size", "p_size_holm", "p_equivalence", "p_equivalence_holm"),
    *("verdict", "claimable", "n_blocks", "n_problems", "approximate", "note"),
]


@dataclasses.dataclass(frozen=True)
class Arm:
    """The answers of one runtime with one model.

    Attributes:
        energy_j, tokens: of each task of the valid runs of kind `task`, blocks by problems.
        passed: by problem whether the answer is correct, of one run: decoding is greedy.
    """

    energy_j: pd.DataFrame
    tokens: pd.DataFrame
    passed: pd.Series


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value (of a ratio its logarithm) with its standard error over blocks and problems."""

    value: float
    error: float
    freedom: float

    def interval(self) -> tuple[float, float]:
        """Return the 95 % t interval."""
        half = float(stats.t.isf(ALPHA / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    def tests(self, margin: float = MARGIN) -> tuple[float, float, float]:
        """Return the p's of difference, size and equivalence of a log ratio, by t tests.

        As `joules.analyse.paired_tests` has them; a sign flip needs differences of blocks alone.
        """
        beyond = abs(self.value) - math.log1p(margin)
        if self.error == 0:
            return (1.0 if self.value == 0 else 0.0, float(beyond <= 0), float(beyond >= 0))
        t = stats.t(self.freedom)
        difference = 2 * t.sf(abs(self.value) / self.error)
        size = min(1.0, 2 * t.sf(beyond / self.error))
        return float(difference), float(size), float(t.cdf(beyond / self.error))


def arms(tasks: pd.DataFrame, runs: pd.DataFrame) -> dict[tuple[str, str], Arm]:
    """Return the answers by model and runtime, of runtimes with a valid run of kind `task`."""
    valid = runs.loc[runs["valid"], ["model", "runtime", "kind", "block"]]
    valid = valid[valid["kind"].isin(["task", "quality"])]
    columns = [*valid.columns, "task_id", "energy_j", "generated_tokens", "verdict"]
    used = tasks[columns].merge(valid, on=list(valid.columns))
    used = used.assign(energy_j=shared_out(used, runs))
    found = {}
    for cell, own in used.groupby(["model", "runtime"]):
        task, quality = (own[own["kind"] == kind] for kind in ("task", "quality"))
        if not len(task):
            continue
        table = task.pivot(
            index="block", columns="task_id", values=["energy_j", "generated_tokens"]
        )
        graded = quality if len(quality) else task
        graded = graded[graded["block"] == graded["block"].min()].dropna(subset=["verdict"])
        passed = graded.set_index("task_id")["verdict"].eq("passed")
        found[cell] = Arm(table["energy_j"], table["generated_tokens"], passed.sort_index())
    return found


def problems(
    tasks: pd.DataFrame, runs: pd.DataFrame, comparisons: pd.DataFrame, margin: float = MARGIN
) -> pd.DataFrame:
    """Return per comparison of kind `task` what holds over blocks and problems.

    Rows per pair: the ratio of energy per token, the difference of pass@1, and the ratio of energy
    per correct answer, which is energy per task over pass@1. Values are of the blocks of the
    comparison and of the problems that both runtimes answered; `n_problems` are those with an
    energy (of pass@1: those graded). Energies are geometric means over blocks.

    Intervals are 95 % t intervals from the standard error of `REDRAWS` redraws, of one block and
    one problem fewer than there are (Rao and Wu, J. Am. Stat. Assoc. 83, 1988: unbiased, unlike
    as many as there are), with the degrees of freedom of a sum of both variances (Satterthwaite,
    Biometrics Bulletin 2, 1946). A redraw of correct answers holds one problem more, which the one
    or the other runtime alone solves (as Agresti and Min, Statistics in Medicine 24, 2005): where
    none turned over by chance, it is not sure that none can.

    Only energy per correct answer is tested: by t tests, corrected by Holm in families of its own,
    as the comparisons'. `verdict` is `no claim` where the pair may not be claimed, or where the
    interval is `approximate`: it holds the truth less often than in 90 of 100 studies, or nobody
    has shown that it does.
    """
    rows: list[Row] = []
    answers = arms(tasks, runs)
    asked = comparisons[comparisons["kind"] == "task"]
    for pair in asked.itertuples():
        model, a, b = pair.model, pair.runtime_a, pair.runtime_b
        named: Row = {"model": model, "runtime_a": a, "runtime_b": b, "claimable": pair.claimable}
        blocks = paired_blocks(runs, model, a, b).blocks
        rows += [
            named | row
            for row in _rows(answers.get((model, a)), answers.get((model, b)), blocks, margin)
        ]
    table = pd.DataFrame(rows, columns=PROBLEM_COLUMNS)
    tested = table["quantity"] == PER_CORRECT
    families = np.repeat(asked["family"].to_numpy(), 3)
    for name, corrected in CORRECTED.items():
        values = pd.Series(np.nan, index=table.index)
        for family in sorted(set(families)):
            own = tested & (families == family)
            values[own] = np.array(holm(table.loc[own, name]), dtype=float)
        table[corrected] = values
    table["claimable"] = table["claimable"].eq(True) & ~table["approximate"].eq(True)
    ps = table[list(CORRECTED.values())].itertuples(index=False)
    words = [verdict(*each) for each in ps]
    table["verdict"] = [
        (word if claimable else NO_CLAIM) if own else None
        for word, claimable, own in zip(words, table["claimable"], tested, strict=True)
    ]
    return numeric(table)


def per_correct_intervals(
    tasks: pd.DataFrame, runs: pd.DataFrame
) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the 95 % interval of energy per correct answer by model and runtime.

    As `problems` has it, over all valid runs of kind `task`. Left out where there is none.
    """
    found = {}
    for cell, arm in arms(tasks, runs).items():
        sample = _Sample.of([arm], list(arm.energy_j.index))
        estimate = sample.estimates().get(PER_CORRECT) if sample else None
        if estimate:
            low, high = estimate.interval()
            found[cell] = (math.exp(low), math.exp(high))
    return found


@dataclasses.dataclass(frozen=True)
class _Sample:
    """The blocks and problems that one or two runtimes have in common.

    Attributes:
        energy_j, tokens: per runtime, blocks by problems with an energy; those that are graded too
            come first.
        passed: per runtime, 1 or 0 by graded problem; those with an energy too come first.
        shared: how many problems are both.
    """

    energy_j: list[Values]
    tokens: list[Values]
    passed: list[Values]
    shared: int

    @classmethod
    def of(cls, arms: list[Arm], blocks: list[int]) -> "_Sample | None":
        """Return the sample of the given blocks; None where there is none."""
        if not blocks:
            return None
        energies = [arm.energy_j.loc[blocks].dropna(axis=1) for arm in arms]
        measured = _in_all([table.columns for table in energies])
        graded = _in_all([arm.passed.index for arm in arms])
        shared = measured.intersection(graded)
        measured = shared.append(measured.difference(shared))
        graded = shared.append(graded.difference(shared))
        if not len(measured):
            return None
        return cls(
            energy_j=[table[measured].to_numpy(dtype=float) for table in energies],
            tokens=[arm.tokens.loc[blocks, measured].to_numpy(dtype=float) for arm in arms],
            passed=[arm.passed[graded].to_numpy(dtype=float) for arm in arms],
            shared=len(shared),
        )

    @property
    def blocks(self) -> int:
        return self.energy_j[0].shape[0]

    @property
    def measured(self) -> int:
        return self.energy_j[0].shape[1]

    @property
    def graded(self) -> int:
        return len(self.passed[0])

    def correct(self) -> int:
        """Return the fewest correct answers of a runtime."""
        return int(min(passed.sum() for passed in self.passed))

    def values(self) -> dict[str, float]:
        """Return the values: of one runtime, or of two the first less the second."""
        blocks, problems = np.ones((1, self.blocks)), np.ones((1, self.measured))
        found = self._statistics(blocks, problems, np.ones((1, self.graded)), np.zeros((1, 2)))
        return {name: float(values[0]) for name, values in found.items()}

    def estimates(self) -> dict[str, Estimate]:
        """Return the values with their standard errors; those that cannot be had are left out."""
        samples = {PER_TOKEN: self.measured, PASS: self.graded}
        if self.graded and self.correct():
            samples[PER_CORRECT] = min(self.measured, self.graded)
        of_blocks = self._variances_of_blocks()
        parts = [
            self._statistics(*weights)
            for weights in _redraws(self.blocks, self.measured, self.graded, self.shared)
        ]
        found = {}
        for name, value in self.values().items():
            variance = float(np.concatenate([part[name] for part in parts]).var(ddof=1))
            if samples.get(name, 0) < 2 or self.blocks < 2 or not math.isfinite(variance + value):
                continue
            of_problems = max(0.0, variance - of_blocks[name])
            uncertain = of_blocks[name] ** 2 / (self.blocks - 1)
            uncertain += of_problems**2 / (samples[name] - 1)
            least = min(self.blocks, samples[name]) - 1
            freedom = variance**2 / uncertain if uncertain else least
            found[name] = Estimate(value, math.sqrt(variance), max(least, freedom))
        return found

    def _variances_of_blocks(self) -> dict[str, float]:
        """Return the part of the variances that is of blocks alone."""
        joule = [np.log(energy_j.sum(axis=1)) for energy_j in self.energy_j]
        count = [np.log(tokens.sum(axis=1)) for tokens in self.tokens]
        both = {PER_TOKEN: [x - y for x, y in zip(joule, count, strict=True)], PER_CORRECT: joule}
        found = {PASS: 0.0}
        for name, each in both.items():
            values = each[0] - each[1] if len(each) > 1 else each[0]
            found[name] = float(values.var(ddof=1)) / self.blocks if self.blocks > 1 else 0.0
        return found

    def _statistics(
        self, blocks: Values, measured: Values, graded: Values, added: Values
    ) -> dict[str, Values]:
        """Return what each row of weights gives, by name: logarithms, and shares of pass@1."""
        per_token, rate, per_correct = [], [], []
        each = blocks / blocks.sum(axis=1, keepdims=True)
        alone = ADDED if len(self.passed) > 1 else ADDED[:1]
        for place, _ in enumerate(self.energy_j):
            joule = np.log(measured @ self.energy_j[place].T)
            count = np.log(measured @ self.tokens[place].T)
            per_token.append((each * (joule - count)).sum(axis=1))
            per_task = (each * joule).sum(axis=1) - np.log(measured.sum(axis=1))
            correct = graded @ self.passed[place] + added @ np.array(alone[place])
            of = graded.sum(axis=1) + added.sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                rate.append(correct / of)
                per_correct.append(per_task - np.log(np.maximum(correct, HALF) / of))
        both = {PER_TOKEN: per_token, PASS: rate, PER_CORRECT: per_correct}
        return {
            name: values[0] - values[1] if len(values) > 1 else values[0]
            for name, values in both.items()
        }


def _in_all(names: list[pd.Index]) -> pd.Index:
    common = names[0]
    for others in names[1:]:
        common = common.intersection(others)
    return common.sort_values()


def _redraws(
    blocks: int, measured: int, graded: int, shared: int
) -> Iterator[tuple[Values, Values, Values, Values]]:
    """Yield weights of blocks, of problems with energy, of graded ones, and of those added.

    Problems that have an energy and a grade get one weight for both; those that have one of them
    alone are redrawn apart, so that there are always as many of each.
    """
    rng = np.random.default_rng(0)
    step = max(1, TOGETHER // (blocks + measured + graded))
    for first in range(0, REDRAWS, step):
        rows = min(step, REDRAWS - first)
        both = _weights(rng, rows, shared)
        yield (
            _weights(rng, rows, blocks),
            np.hstack([both, _weights(rng, rows, measured - shared)]),
            np.hstack([both, _weights(rng, rows, graded - shared)]),
            _counts(rng, rows, len(ADDED), 1),
        )


def _weights(rng: np.random.Generator, rows: int, count: int) -> Values:
    """Return how often each of `count` things is drawn in count - 1 draws, scaled to `count`."""
    if count < 2:
        return np.ones((rows, count))
    return _counts(rng, rows, count, count - 1) * (count / (count - 1))


def _counts(rng: np.random.Generator, rows: int, count: int, draws: int) -> Values:
    drawn = rng.integers(0, count, (rows, draws)) + np.arange(rows)[:, None] * count
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(float)


def _rows(a: Arm | None, b: Arm | None, blocks: list[int], margin: float) -> list[Row]:
    """Return the three rows of a pair, without what names it."""
    sample = _Sample.of([a, b], blocks) if a and b else None
    values = sample.values() if sample else {}
    estimates = sample.estimates() if sample and len(blocks) > 1 else {}
    rows = []
    for quantity in (PER_TOKEN, PASS, PER_CORRECT):
        ratio = quantity != PASS
        row: Row = {"quantity": quantity, "measure": "ratio" if ratio else "difference"}
        row |= {"n_blocks": len(blocks), "n_problems": 0}
        if sample:
            row["n_problems"] = sample.measured if ratio else sample.graded
            row |= _facts(quantity, values[quantity], estimates.get(quantity), margin)
            row["note"] = _note(sample, quantity) or None
        row["approximate"] = not sample or bool(row["note"])
        rows.append(row)
    return rows


def _facts(quantity: str, value: float, estimate: Estimate | None, margin: float) -> Row:
    """Return value, interval and p's as they are printed."""
    row: Row = {}
    if quantity == PASS:
        row["value"] = value if math.isfinite(value) else None
        if estimate:
            low, high = estimate.interval()
            row |= {"low": max(-1.0, low), "high": min(1.0, high)}
        return row
    if estimate or quantity == PER_TOKEN:
        row["value"] = math.exp(value)
    if estimate:
        row["low"], row["high"] = (math.exp(end) for end in estimate.interval())
    if estimate and quantity == PER_CORRECT:
        row |= dict(zip(P_VALUES, estimate.tests(margin), strict=True))
    return row


def _note(sample: _Sample, quantity: str) -> str:
    """Return why an interval is approximate; empty where it is not."""
    reasons = []
    if quantity != PASS and sample.blocks < LEAST_BLOCKS:
        reasons.append(f"fewer than {LEAST_BLOCKS} blocks")
    if (sample.graded if quantity == PASS else sample.measured) < LEAST_PROBLEMS:
        reasons.append(f"fewer than {LEAST_PROBLEMS} problems")
    if quantity == PER_CORRECT and (not sample.graded or sample.correct() < LEAST_CORRECT):
        reasons.append(f"fewer than {LEAST_CORRECT} correct answers")
    return f"Approximate: {' and '.join(reasons)}." if reasons else ""
