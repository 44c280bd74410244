"""Why two runtimes differ: paired ratios of what their energy per token is made of.

Each ratio is one of geometric means, a over b, over the blocks of the comparison, with its 95 % t
interval (see `joules.analyse.pairs`). Energy is power times time, so that the ratio of energy per
token is that of power times that of seconds per token. None of them is tested.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from joules.analyse.conventions import METRIC, Row, Values, runtime_order
from joules.analyse.derived_columns import shared_out
from joules.analyse.estimates import mean_interval, numeric
from joules.analyse.pairs import paired_blocks
from joules.analyse.texts import equal_problems, valid_task_runs

EXPLANATION_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "quantity", "ratio", "low", "high", "n_blocks", "note"),
]
EQUAL_TEXT = "equal_text_energy_j_per_token"
# Columns of the table of runs, and what is said where a run lacks one.
QUANTITIES = {
    METRIC: "A run has no energy.",
    "energy_j_per_task": "The number of tasks is not known.",
    "duration_s": "The time is not known.",
    "seconds_per_token": "The time is not known.",
    "power_w": "The time is not known.",
    "generated_tokens": "The tokens are not known.",
    "gross_energy_j_per_token": "The energy between the tasks is not known.",
    "net_energy_j_per_token": "The idle power or the time is not known.",
    "energy_with_dram_j_per_token": "No counter of the memory's energy.",
}
NO_BLOCK = "No block has a valid pair."
NOT_POSITIVE = "A run has no energy above that of the idle machine: no ratio."


def explanations(
    tasks: pd.DataFrame, runs: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return one row per model, pair of runtimes (kind `task`) and quantity.

    `EQUAL_TEXT` is the energy per token over the problems that all valid task runs of both answered
    with one text: at equal output (see `joules.analyse.derived_columns.shared_out`). A ratio that
    the data cannot give is None; `note` says why.
    """
    order = list(runtimes or runtime_order(runs))
    rows: list[Row] = []
    for model in sorted(set(runs["model"])):
        own = runs[runs["model"].eq(model) & runs["kind"].eq("task")]
        present = [runtime for runtime in order if runtime in set(own["runtime"])]
        answers = valid_task_runs(tasks, runs, model)
        answers = answers.assign(energy_j=shared_out(answers, runs))
        for a, b in itertools.combinations(present, 2):
            blocks = paired_blocks(runs, model, a, b).blocks
            names: Row = {"model": model, "runtime_a": a, "runtime_b": b, "n_blocks": len(blocks)}
            for quantity, row in _of_pair(own, answers, (a, b), blocks):
                rows.append(names | {"quantity": quantity, "note": ""} | row)
    return numeric(pd.DataFrame(rows, columns=EXPLANATION_COLUMNS))


def _of_pair(
    own: pd.DataFrame, answers: pd.DataFrame, pair: tuple[str, str], blocks: Sequence[int]
) -> Iterator[tuple[str, Row]]:
    arms = [own[own["runtime"].eq(runtime)].set_index("block").loc[blocks] for runtime in pair]
    for quantity, missing in QUANTITIES.items():
        a, b = (arm[quantity].to_numpy(dtype=float) for arm in arms)
        yield quantity, _ratio(a, b, missing)
    yield EQUAL_TEXT, _at_equal_text(answers, pair, blocks)


def _ratio(a: Values, b: Values, missing: str) -> Row:
    """Return ratio and interval of two arms' values, one per block; else a note says why not."""
    values = np.concatenate([a, b])
    for fails, why in (
        (not len(values), NO_BLOCK),
        (not np.isfinite(values).all(), missing),
        (not (values > 0).all(), NOT_POSITIVE),
    ):
        if fails:
            return {"note": why}
    d = np.log(a) - np.log(b)
    low, high = mean_interval(d)
    return {
        "ratio": math.exp(d.mean()),
        "low": None if low is None else math.exp(low),
        "high": None if high is None else math.exp(high),
    }


def _at_equal_text(answers: pd.DataFrame, pair: tuple[str, str], blocks: Sequence[int]) -> Row:
    of_pair = answers[answers["runtime"].isin(pair)]
    problems, equal = of_pair["task_id"].nunique(), equal_problems(of_pair, pair)
    if not problems:
        return {"note": "No texts are known."}
    if not len(equal):
        return {"note": f"None of {problems} problems has the same text in all runs of both."}
    of_equal = of_pair[of_pair["task_id"].isin(equal)].groupby(["runtime", "block"])
    per_token = of_equal["energy_j"].sum(min_count=1) / of_equal["generated_tokens"].sum()
    a, b = (per_token[runtime].reindex(blocks).to_numpy(dtype=float) for runtime in pair)
    row = _ratio(a, b, "The energy of single tasks is not known.")
    said = f"{len(equal)} of {problems} problems have the same text in all runs of both."
    return row if "note" in row else row | {"note": said}
