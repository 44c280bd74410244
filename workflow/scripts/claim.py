"""Rule claim: every number that the article states, and what may be said."""

import pandas as pd

from joules.claims import claims, representative_records, study_facts
from joules.files import read_json, write_json
from joules.script import reporting
from joules.tables import listed

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        runs = pd.read_parquet(snakemake.input["runs"])
        chosen = representative_records(listed(snakemake.input["records"]), runs)
        study = study_facts(runs, [read_json(path) for path in chosen], snakemake.params["config"])
        names = ("cells", "comparisons", "quality", "phases")
        found = claims(study, *(pd.read_csv(snakemake.input[name]) for name in names))
        write_json(snakemake.output[0], found)
        permission = found["permission"]
        may = "may" if permission["energy_difference"] else "may not"
        report(f"A difference in energy {may} be claimed: {permission['reason']}")
