"""The pairs of runs that are compared: two valid runs of one block and one session, made alike."""

import dataclasses

import numpy as np
import pandas as pd

from joules.analyse.conventions import METRIC, Values
from joules.core.errors import UserError

ALIKE = ("machine", "instrument_sha256")  # columns in which the two runs of a pair must be equal
BUILD = "runtime_build"


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The blocks in which both runs are valid, of one session and made alike, and those left out.

    Attributes:
        blocks: numbers of the paired blocks; `a` and `b` hold J/token in this order.
        split: blocks whose two runs are of different sessions, hence of different conditions.
        mixed: blocks whose two runs differ in machine or instrument; or in the runtime's build,
            where a runtime is compared with itself.
        invalid: blocks in which a run is invalid or missing.
    """

    blocks: list[int]
    a: Values
    b: Values
    split: list[int]
    mixed: list[int]
    invalid: list[int]


def _arm(runs: pd.DataFrame, model: str, runtime: str, kind: str) -> pd.DataFrame:
    chosen = (runs["model"] == model) & (runs["runtime"] == runtime) & (runs["kind"] == kind)
    known = [name for name in (*ALIKE, BUILD) if name in runs.columns]
    return runs[chosen].set_index("block")[["valid", "session", METRIC, *known]]


def alike(runs: pd.DataFrame) -> list[str]:
    """Return the columns in which runs that are compared must be equal, as far as there are any.

    A table of another harness may have none of them.
    """
    return [name for name in ALIKE if name in runs.columns]


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
    shared = alike(runs) + ([BUILD] if a == b and BUILD in runs.columns else [])
    equal = pd.Series(True, index=both.index)
    for name in shared:
        left_of, right_of = both[f"{name}_a"], both[f"{name}_b"]
        equal &= left_of.eq(right_of) | (left_of.isna() & right_of.isna())
    used = both[valid & same & equal]
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
        mixed=[int(block) for block in both.index[valid & same & ~equal]],
        invalid=[int(block) for block in both.index[~valid]],
    )
