"""What the runtimes answered: the same text, the same verdicts, how often which rule and verdict.

Where a study has runs of kind `quality`, they are looked at, else those of kind `task`; of each
cell the first valid run, since decoding is greedy and every run answers the same problems.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar

from joules.analyse.conventions import Row, runtime_order
from joules.analyse.estimates import numeric, wilson

QUALITY_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "kind", "both_pass", "only_a", "only_b", "neither"),
    *("flips", "p_mcnemar", "same_text_share", "compared_prompts", "first_difference_token"),
    "differing_answers",
]
CellNames = tuple[str, str, str, str]  # model, runtime, its label, kind


def looked_at(
    tasks: pd.DataFrame, runs: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> Iterator[tuple[CellNames, pd.DataFrame]]:
    """Yield ((model, runtime, label, kind), tasks of the run that is looked at) per cell."""
    order = list(runtimes or runtime_order(runs))
    valid = runs[runs["valid"]]
    # A large study has millions of answers: names are compared in the few blocks that can be asked.
    first = valid.groupby(["model", "runtime", "kind"])["block"].min()
    tasks = tasks[tasks["block"].isin(first)]
    for model in sorted(set(runs["model"])):
        of_model = valid[valid["model"] == model]
        kind = "quality" if (of_model["kind"] == "quality").any() else "task"
        of_model = of_model[of_model["kind"] == kind]
        for runtime in order:
            own = of_model[of_model["runtime"] == runtime]
            if len(own):
                chosen = (tasks["kind"] == kind) & (tasks["block"] == own["block"].min())
                chosen &= (tasks["model"] == model) & (tasks["runtime"] == runtime)
                label = str(own["runtime_label"].iloc[0])
                yield (model, runtime, label, kind), tasks[chosen].set_index("task_id")


def first_difference(one: Iterable[int] | None, other: Iterable[int] | None) -> int | None:
    """Return the index of the first token that differs; None for equal or unknown token lists.

    Where one answer begins like the whole other one, it is the place at which that one ends.
    """
    if one is None or other is None:
        return None
    a, b = np.asarray(one), np.asarray(other)
    shared = min(len(a), len(b))
    unequal = np.flatnonzero(a[:shared] != b[:shared])
    if len(unequal):
        return int(unequal[0])
    return shared if len(a) != len(b) else None


def quality(
    tasks: pd.DataFrame, runs: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return per model and pair of runtimes how answers and verdicts differ on the same problems.

    `p_mcnemar` is exact (binomial over the problems that turn over). `same_text_share`: answers
    that are the same character by character (sha256), of `compared_prompts`.
    `first_difference_token`: the median, over the `differing_answers`, of the first token (from 0)
    that differs when the texts are read again; None where none differs or no tokens were kept.
    """
    rows: list[Row] = []
    cells: dict[str, list[tuple[str, str, pd.DataFrame]]] = {}
    for (model, runtime, _, kind), answers in looked_at(tasks, runs, runtimes):
        cells.setdefault(model, []).append((runtime, kind, answers))
    for model, found in cells.items():
        for (a, kind, of_a), (b, _, of_b) in itertools.combinations(found, 2):
            both = of_a.join(of_b, how="inner", suffixes=("_a", "_b"))
            passed = [both[f"verdict_{side}"].eq("passed") for side in "ab"]
            counts = np.array(
                [[(x & y).sum() for y in (passed[1], ~passed[1])] for x in (passed[0], ~passed[0])]
            )
            other = both[both["completion_sha256_a"] != both["completion_sha256_b"]]
            ids = zip(other["retokenised_ids_a"], other["retokenised_ids_b"], strict=True)
            places = [
                place for place in (first_difference(*pair) for pair in ids) if place is not None
            ]
            row: Row = dict.fromkeys(QUALITY_COLUMNS)
            row |= {"model": model, "runtime_a": a, "runtime_b": b, "kind": kind}
            both_pass, only_a, only_b, neither = (int(count) for count in counts.ravel())
            row |= {"both_pass": both_pass, "only_a": only_a, "only_b": only_b, "neither": neither}
            row |= {"flips": only_a + only_b, "compared_prompts": len(both)}
            row["p_mcnemar"] = float(mcnemar(counts, exact=True).pvalue)
            row["differing_answers"] = len(other)
            row["same_text_share"] = 1 - len(other) / len(both) if len(both) else None
            row["first_difference_token"] = float(np.median(places)) if places else None
            rows.append(row)
    return numeric(pd.DataFrame(rows, columns=QUALITY_COLUMNS))


VERDICT_COLUMNS = ["model", "runtime", "runtime_label", "kind", "label", "count", "share"]
RULE_COLUMNS = ["model", "runtime", "runtime_label", "rule", "count"]


def verdict_counts(
    tasks: pd.DataFrame, runs: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return per cell how many answers got each verdict, `passed` and the labels of failure."""
    rows = [
        (*cell, label, count, count / len(answers))
        for cell, answers in looked_at(tasks, runs, runtimes)
        for label, count in answers["verdict"].value_counts().sort_index().items()
    ]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def rule_counts(
    tasks: pd.DataFrame, runs: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return per cell from how many answers each extraction rule took the program."""
    rows = [
        (model, runtime, label, rule, count)
        for (model, runtime, label, _), answers in looked_at(tasks, runs, runtimes)
        for rule, count in answers["rule"].value_counts().sort_index().items()
    ]
    return pd.DataFrame(rows, columns=RULE_COLUMNS)


CONTESTED_COLUMNS = [
    *("model", "runtime", "runtime_label", "passed", "graded", "pass_at_1", "low", "high"),
    *("passed_without", "graded_without", "pass_at_1_without", "low_without", "high_without"),
]


def contested(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    problems: Iterable[str],
    runtimes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return pass@1 with Wilson's interval over all problems and without the contested ones."""
    left_out = set(problems)
    rows = []
    for (model, runtime, label, _), answers in looked_at(tasks, runs, runtimes):
        graded = answers.dropna(subset=["verdict"])
        scores: list[float | None] = []
        for kept in (graded, graded[~graded.index.isin(left_out)]):
            passed, total = int(kept["verdict"].eq("passed").sum()), len(kept)
            interval = wilson(passed, total) if total else (None, None)
            scores += [passed, total, passed / total if total else None, *interval]
        rows.append((model, runtime, label, *scores))
    return numeric(pd.DataFrame(rows, columns=CONTESTED_COLUMNS))
