"""Rule claim: every number that the article states, and what may be said."""

import pandas as pd
import yaml

from joules.claims import TABLES, claims, published_scores
from joules.files import read_json, write_json
from joules.script import reporting
from joules.study_facts import representative_records, study_facts
from joules.tables import listed

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        given, config = snakemake.input, snakemake.params["config"]
        runs = pd.read_parquet(given["runs"])
        records = map(read_json, representative_records(listed(given["records"]), runs))
        read = {name: pd.read_csv(given[name]) for name in (*TABLES, "attempts", "validity")}
        facts = study_facts(runs, list(records), config, read["attempts"], read["validity"])
        with open(given["catalogue"], encoding="utf-8") as file:
            published = published_scores(yaml.safe_load(file)["models"], config["models"])
        found = claims(facts, read, published)
        write_json(snakemake.output[0], found)
        for warning in found["study"]["warnings"]:
            report(f"warning: {warning['text']}")
        may = "may" if found["permission"]["energy_difference"] else "may not"
        report(f"A difference in energy {may} be claimed: {found['permission']['reason']}")
