"""The pairs of runs that are compared: two valid runs of one block and one session."""

import dataclasses

import numpy as np
import pandas as pd

from joules.analyse.conventions import METRIC, Values
from joules.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The blocks in which both runs are valid and of one session, and those left out.

    Attributes:
        blocks: numbers of the paired blocks; `a` and `b` hold J/token in this order.
        split: blocks whose two runs are of different sessions, hence of different conditions.
        invalid: blocks in which a run is invalid or missing.
    """

    blocks: list[int]
    a: Values
    b: Values
    split: list[int]
    invalid: list[int]


def _arm(runs: pd.DataFrame, model: str, runtime: str, kind: str) -> pd.DataFrame:
    chosen = (runs["model"] == model) & (runs["runtime"] == runtime) & (runs["kind"] == kind)
    return runs[chosen].set_index("block")[["valid", "session", METRIC]]


def paired_blocks(
    runs: pd.DataFrame, model: str, a: str, b: str, *, kind_a: str = "task", kind_b: str = "task"
) -> Pairs:
    """Return the pairs of runs of the runtimes `a` and `b`, one per block.

    Raises UserError when a paired run has no positive energy per token: it has no logarithm.
    """
    left = _arm(runs, model, a, kind_a).add_suffix("_a")
    both = left.join(_arm(runs, model, b, kind_b).add_suffix("_b"), how="outer")
    both = both.sort_index()
    valid = both["valid_a"].eq(True) & both["valid_b"].eq(True)
    same = both["session_a"] == both["session_b"]
    used = both[valid & same]
    values = [used[f"{METRIC}_{side}"].to_numpy(dtype=float) for side in "ab"]
    for runtime, kind, energies in zip((a, b), (kind_a, kind_b), values, strict=True):
        if not (np.isfinite(energies) & (energies > 0)).all():
            block = used.index[~(np.isfinite(energies) & (energies > 0))][0]
            raise UserError(
                f"The run {model}/{runtime}/{kind}/{block} has no positive energy per token. "
                "Each valid run needs one. Look at its tasks window: an instrument that gives "
                "nothing, or answers without tokens. Mend that and measure the run again."
            )
    return Pairs(
        blocks=[int(block) for block in used.index],
        a=values[0],
        b=values[1],
        split=[int(block) for block in both.index[valid & ~same]],
        invalid=[int(block) for block in both.index[~valid]],
    )
