"""Whether the runs of an arm, and those of two arms, answered with the same text.

Texts are compared character by character, by their sha256, over the valid runs of kind `task`:
decoding is greedy and every run answers the same problems. A text that is not repeated within an
arm says nothing when it differs between arms.
"""

import itertools
from collections.abc import Collection, Sequence

import pandas as pd

from joules.analyse.conventions import Row, runtime_order
from joules.analyse.estimates import numeric

TEXT_COLUMNS = ["model", "runtime_a", "runtime_b", "runs", "problems", "equal_problems", "share"]
LEAST_TO_COMPARE = 2  # runs
OF_ANSWERS = [
    *("model", "runtime", "kind", "block", "task_id", "completion_sha256", "energy_j"),
    "generated_tokens",
]


def valid_task_runs(tasks: pd.DataFrame, runs: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the answers of a model's valid runs of kind `task`, columns `OF_ANSWERS`."""
    chosen = runs["model"].eq(model) & runs["kind"].eq("task") & runs["valid"]
    named = runs.loc[chosen, ["runtime", "block"]]
    own = tasks.loc[tasks["model"].eq(model) & tasks["kind"].eq("task"), OF_ANSWERS]
    return own.merge(named, on=["runtime", "block"])


def runs_in(answers: pd.DataFrame) -> int:
    """Return how many runs the answers are of."""
    return len(answers[["runtime", "block"]].drop_duplicates())


def equal_problems(answers: pd.DataFrame, runtimes: Collection[str]) -> pd.Index:
    """Return the problems that all these answers' runs of the runtimes answered with one text.

    Empty where there is one run alone: nothing was compared.
    """
    own = answers[answers["runtime"].isin(runtimes)]
    runs = runs_in(own)
    if runs < LEAST_TO_COMPARE:
        return pd.Index([])
    texts = own.groupby("task_id")["completion_sha256"].agg(["nunique", "count"])
    return texts.index[texts["nunique"].eq(1) & texts["count"].eq(runs)]


def texts(
    tasks: pd.DataFrame, runs: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return per model how many problems have one and the same text in all runs.

    One row per runtime, named twice: over its own runs (the repeatability within the arm). One per
    pair: over all runs of both. `share` is None below two runs, and for a pair of which one has
    none.
    """
    order = list(runtimes or runtime_order(runs))
    rows: list[Row] = []
    for model in sorted(set(runs["model"])):
        there = set(runs.loc[runs["model"].eq(model) & runs["kind"].eq("task"), "runtime"])
        present = [runtime for runtime in order if runtime in there]
        answers = valid_task_runs(tasks, runs, model)
        answered = set(answers["runtime"])
        for a, b in itertools.combinations_with_replacement(present, 2):
            own = answers[answers["runtime"].isin([a, b])]
            row: Row = {"model": model, "runtime_a": a, "runtime_b": b, "runs": runs_in(own)}
            if runs_in(own) >= LEAST_TO_COMPARE and {a, b} <= answered:
                problems, equal = own["task_id"].nunique(), len(equal_problems(own, {a, b}))
                row |= {"problems": problems, "equal_problems": equal, "share": equal / problems}
            rows.append(row)
    return numeric(pd.DataFrame(rows, columns=TEXT_COLUMNS))
