"""The runtimes of each model in the order of their energy per token, with ties."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from joules.analyse.conventions import METRIC, runtime_order
from joules.analyse.estimates import numeric
from joules.analyse.verdicts import DIFFERENT
from joules.core.analysis import NO_CLAIM

RANKING_COLUMNS = [
    *("model", "runtime", "runtime_label", "rank", "ratio_to_best", "low", "high"),
    *("mean_energy_j_per_token", "tied_with"),
]


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The comparison of a runtime with another one, as ratio of the first over the second."""

    ratio: float
    low: float
    high: float
    differs: bool
    claimable: bool

    def turned(self) -> "_Pair":
        low, high = (float(end) for end in 1 / np.array([self.high, self.low], dtype=float))
        return dataclasses.replace(self, ratio=1 / self.ratio, low=low, high=high)


def ranking(
    runs: pd.DataFrame, comparisons: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return one row per model and runtime, the least energy per token first.

    `rank` = 1 + the number of runtimes that need less and are told apart by the corrected test,
    whatever the distance; a pair that is not told apart is a tie, named in `tied_with`. Ties need
    not be transitive. `ratio_to_best` is the paired ratio to the runtime with the least geometric
    mean, with its 95 % interval.

    No rank follows from a comparison that carries no claim: a runtime with such a comparison has no
    rank and is tied with `no claim`, and there is no ratio between its two runtimes. Where no
    comparison of a model carries one, its runtimes stand in the order of their names.
    """
    order = list(runtimes or runtime_order(runs))
    valid = runs[(runs["kind"] == "task") & runs["valid"]]
    labels = dict(zip(runs["runtime"], runs["runtime_label"], strict=True))
    rows = []
    for model, own in valid.groupby("model"):
        pairs = comparisons[(comparisons["model"] == model) & (comparisons["kind"] == "task")]
        both: dict[tuple[str, str], _Pair] = {}
        for row in pairs.itertuples():
            differs, claimable = row.verdict in DIFFERENT, bool(row.claimable)
            pair = _Pair(row.ratio, row.ratio_low, row.ratio_high, differs, claimable)
            both[row.runtime_a, row.runtime_b] = pair
            both[row.runtime_b, row.runtime_a] = pair.turned()
        logs = np.log(own[METRIC].where(own[METRIC] > 0)).groupby(own["runtime"]).mean()
        present = sorted((name for name in order if name in logs), key=lambda name: logs[name])
        best = present[0]
        for runtime in present if pairs["claimable"].any() else sorted(present):
            others = {name: both[runtime, name] for name in present if name != runtime}
            claimed = all(pair.claimable for pair in others.values())
            less = [pair for pair in others.values() if pair.differs and pair.ratio > 1]
            ties = [labels[name] for name, pair in others.items() if not pair.differs]
            known = runtime == best and any(pair.claimable for pair in others.values())
            to_best: tuple[float | None, ...] = (1.0 if known else None, None, None)
            if runtime != best and others[best].claimable:
                to_best = (others[best].ratio, others[best].low, others[best].high)
            mean = own.loc[own["runtime"] == runtime, METRIC].mean()
            apart = "; " if any("," in label for label in labels.values()) else ", "
            rank, tied = (1 + len(less), apart.join(ties)) if claimed else (None, NO_CLAIM)
            values = (model, runtime, labels[runtime], rank, *to_best, mean, tied)
            rows.append(dict(zip(RANKING_COLUMNS, values, strict=True)))
    return numeric(pd.DataFrame(rows, columns=RANKING_COLUMNS))
