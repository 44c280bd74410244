"""Which rules of validity the runs of each cell broke, and whether these runs count after all."""

import numpy as np
import pandas as pd

BROKEN_RULE_COLUMNS = ["model", "runtime", "kind", "code", "runs", "broken", "counted"]


def codes_of(text: object) -> list[str]:
    """Return the codes in a cell of the column `validity_codes`."""
    return [code for code in text.split(";") if code] if isinstance(text, str) else []


def broken_rules(runs: pd.DataFrame) -> pd.DataFrame:
    """Return per cell (model, runtime, kind) and code how many of its runs broke that rule.

    Every cell has a row for every code that any run of the study broke, so that arms can be put
    beside each other. `runs`: all runs of the cell. `counted`: those of the `broken` that are
    valid, hence were only flagged. Invalid attempts that were repeated have a table of their own.
    """
    codes = runs["validity_codes"].map(lambda text: set(codes_of(text)))
    rows = []
    for (model, runtime, kind), cell in runs.groupby(["model", "runtime", "kind"]):
        for code in sorted(set().union(*codes)):
            broke = np.array([code in own for own in codes[cell.index]])
            counted = broke & cell["valid"].to_numpy(dtype=bool)
            rows.append((model, runtime, kind, code, len(cell), broke.sum(), counted.sum()))
    return pd.DataFrame(rows, columns=BROKEN_RULE_COLUMNS)
