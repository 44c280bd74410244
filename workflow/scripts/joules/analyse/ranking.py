"""The runtimes of each model in the order of their energy per token, with ties."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from joules.analyse.conventions import METRIC, runtime_order
from joules.analyse.estimates import numeric

RANKING_COLUMNS = [
    *("model", "runtime", "runtime_label", "rank", "ratio_to_best", "low", "high"),
    *("mean_energy_j_per_token", "tied_with"),
]


def ranking(
    runs: pd.DataFrame, comparisons: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return one row per model and runtime, the least energy per token first.

    `rank` = 1 + the number of runtimes that need less and are `different` (also within the
    margin) by the corrected test; a pair that is equivalent or inconclusive is a tie, named in
    `tied_with`. Ties need not be transitive. `ratio_to_best` is the paired ratio to the runtime
    with the least geometric mean, with its 95 % interval.
    """
    order = list(runtimes or runtime_order(runs))
    valid = runs[(runs["kind"] == "task") & runs["valid"]]
    labels = dict(zip(runs["runtime"], runs["runtime_label"], strict=True))
    rows = []
    for model, own in valid.groupby("model"):
        pairs = comparisons[(comparisons["model"] == model) & (comparisons["kind"] == "task")]
        both: dict[tuple[str, str], tuple[float, float, float, bool]] = {}
        for row in pairs.itertuples():
            differs = str(row.verdict).startswith("different")
            found = (row.ratio, row.ratio_low, row.ratio_high)
            both[row.runtime_a, row.runtime_b] = (*found, differs)
            low, high = 1 / np.array([row.ratio_high, row.ratio_low], dtype=float)
            both[row.runtime_b, row.runtime_a] = (1 / float(row.ratio), low, high, differs)
        logs = np.log(own[METRIC].where(own[METRIC] > 0)).groupby(own["runtime"]).mean()
        present = sorted((name for name in order if name in logs), key=lambda name: logs[name])
        best = present[0]
        for runtime in present:
            others = [name for name in present if name != runtime]
            less = [
                name for name in others if both[runtime, name][3] and both[runtime, name][0] > 1
            ]
            ties = [name for name in others if not both[runtime, name][3]]
            ratio = (1.0, None, None) if runtime == best else both[runtime, best][:3]
            mean = own.loc[own["runtime"] == runtime, METRIC].mean()
            tied = ", ".join(labels[name] for name in ties)
            values = (model, runtime, labels[runtime], 1 + len(less), *ratio, mean, tied)
            rows.append(dict(zip(RANKING_COLUMNS, values, strict=True)))
    return numeric(pd.DataFrame(rows, columns=RANKING_COLUMNS))
