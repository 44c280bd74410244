"""Tables for tests of the statistics: from synthetic files, or from values per block."""

import pandas as pd
import synthetic
import synthetic_wall

from joules.analyse.mixes import Mixing
from joules.analyse.tables import tabulate


def tables_of(written, **options):
    """Return the tables of a written study."""
    files = (written.records, written.grades, written.agreements)
    config = written.config
    mixing = Mixing(config.mixed_instruments, config.mixed_machines, config.mixed_runtimes)
    return tabulate(*files, config.carbon.grams_per_kwh, mixing, **options)


def study_tables(folder, wall=None, **options):
    """Write a synthetic study; return it and its tables.

    `wall`: what its meter of the whole machine is like; None for none.
    """
    written = synthetic.write_study(folder, **options)
    if wall is not None:
        synthetic_wall.add_to(written, **wall)
    return written, tables_of(written)


def runs_of(values, model="m", session="s"):
    """Return a table of runs from {(runtime, kind): J/token per block}."""
    rows = [
        {
            "model": model,
            "runtime": runtime,
            "kind": kind,
            "block": block,
            "valid": True,
            "session": session,
            "tier": "measured",
            "energy_j_per_token": float(value),
        }
        for (runtime, kind), series in values.items()
        for block, value in enumerate(series, start=1)
    ]
    return pd.DataFrame(rows)
