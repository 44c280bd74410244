"""Tables for tests of the statistics: from synthetic files, or from values per block."""

import pandas as pd
import synthetic

from joules.tables import tabulate


def study_tables(folder, **options):
    """Write a synthetic study; return it and its tables."""
    study = synthetic.write_study(folder, validate=False, **options)
    return study, tabulate(study.records, study.grades, study.agreements, study.config)


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
