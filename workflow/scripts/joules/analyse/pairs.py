"""The pairs of runs that are compared: two valid runs of one block and one session, made alike."""

import dataclasses
from collections import Counter

import numpy as np
import pandas as pd

from joules.analyse.conventions import METRIC, Values
from joules.analyse.power import LEAST_BLOCKS
from joules.core.errors import UserError
from joules.core.values import STATED_ONLY

ALIKE = ("machine", "instrument_sha256")  # columns in which the two runs of a pair must be equal
BUILD = "runtime_build"
CODES = "validity_codes"  # of the rules that a run broke; a table of another harness may lack it


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The blocks in which both runs are valid, of one session and made alike, and those left out.

    A run that broke a rule and counts all the same is flagged. Its block is left out where enough
    blocks without any flagged run remain; else all valid blocks are used, and carry no claim.

    Attributes:
        blocks: numbers of the paired blocks; `a` and `b` hold J/token in this order.
        split: blocks whose two runs are of different sessions, hence of different conditions.
        mixed: blocks whose two runs differ in machine or instrument; or in the runtime's build,
            where a runtime is compared with itself.
        invalid: blocks in which a run is invalid or missing.
        flagged: blocks that are left out because a run is flagged.
        codes: how many runs of the valid blocks, those left out as flagged among them, broke which
            rule.
        clean: how many blocks have no flagged run.
        runtimes: that of run a in each paired block: of a null control, whose turn it was.
    """

    blocks: list[int]
    a: Values
    b: Values
    split: list[int]
    mixed: list[int]
    invalid: list[int]
    flagged: list[int]
    codes: Counter[str]
    clean: int
    runtimes: list[str]

    @property
    def carries_claims(self) -> bool:
        """Whether every run that is used broke no rule."""
        return self.clean == len(self.blocks)


def distrusted(text: object) -> list[str]:
    """Return the codes in a cell of `validity_codes` that are a ground to distrust the run."""
    codes = text.split(";") if isinstance(text, str) else []
    return [code for code in codes if code and code not in STATED_ONLY]


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
    own = runs[runs["model"] == model]
    left, right = (
        own[(own["runtime"] == runtime) & (own["kind"] == kind)]
        for runtime, kind in ((a, kind_a), (b, kind_b))
    )
    return _paired(left, right, alike(runs) + ([BUILD] if a == b else []))


def control_blocks(runs: pd.DataFrame, model: str) -> Pairs:
    """Return the pairs of the model's null control: a task run, and the second run of its runtime.

    The runtimes take turns, block by block; in older studies it was always the same one. A block
    without a second run counts as invalid. Raises UserError as `paired_blocks` does.
    """
    own = runs[runs["model"] == model]
    second, task = own[own["kind"] == "control"], own[own["kind"] == "task"]
    turn = second[["block", "runtime"]].drop_duplicates()
    first = task.merge(turn, on=["block", "runtime"])
    without = task[~task["block"].isin(turn["block"])].drop_duplicates("block")
    return _paired(pd.concat([first, without]), second, [*alike(runs), BUILD])


def _paired(left: pd.DataFrame, right: pd.DataFrame, equal: list[str]) -> Pairs:
    """Return the pairs of two tables of runs, at most one run per block in each."""
    kept = [METRIC, "valid", "session", "model", "runtime", "kind"]
    kept += [name for name in dict.fromkeys((CODES, *equal)) if name in left.columns]
    a, b = (arm.set_index("block")[kept] for arm in (left, right))
    if not (a.index.is_unique and b.index.is_unique):
        raise ValueError("Two runs of one model, runtime and kind in a block.")
    both = a.add_suffix("_a").join(b.add_suffix("_b"), how="outer").sort_index()
    valid = both["valid_a"].eq(True) & both["valid_b"].eq(True)
    same = both["session_a"] == both["session_b"]
    made_alike = pd.Series(True, index=both.index)
    for name in (name for name in equal if name in kept):
        left_of, right_of = both[f"{name}_a"], both[f"{name}_b"]
        made_alike &= left_of.eq(right_of) | (left_of.isna() & right_of.isna())
    usable = both[valid & same & made_alike]
    _check_energies(usable)
    stated = [name for name in usable.columns if name.startswith(CODES)]
    codes = [
        [code for text in texts for code in distrusted(text)]
        for texts in usable[stated].to_numpy(dtype=object)
    ]
    clean = np.array([not each for each in codes], dtype=bool)
    enough = int(clean.sum()) >= LEAST_BLOCKS
    used = usable[clean] if enough else usable
    return Pairs(
        blocks=[int(block) for block in used.index],
        a=used[f"{METRIC}_a"].to_numpy(dtype=float),
        b=used[f"{METRIC}_b"].to_numpy(dtype=float),
        split=[int(block) for block in both.index[valid & ~same]],
        mixed=[int(block) for block in both.index[valid & same & ~made_alike]],
        invalid=[int(block) for block in both.index[~valid]],
        flagged=[int(block) for block in usable.index[~clean]] if enough else [],
        codes=Counter(code for each in codes for code in each),
        clean=int(clean.sum()),
        runtimes=[str(runtime) for runtime in used["runtime_a"]],
    )


def _check_energies(usable: pd.DataFrame) -> None:
    for side in "ab":
        energies = usable[f"{METRIC}_{side}"].to_numpy(dtype=float)
        wrong = usable[~(np.isfinite(energies) & (energies > 0))]
        if len(wrong):
            model, runtime, kind = (
                wrong[f"{name}_{side}"].iloc[0] for name in ("model", "runtime", "kind")
            )
            raise UserError(
                f"The run {model}/{runtime}/{kind}/{wrong.index[0]} has no positive energy per "
                "token. Each valid run needs one. Look at its tasks window: an instrument that "
                "gives nothing, or answers without tokens. Mend that and measure the run again."
            )
