"""Rule claim: every number that the article states, and what may be said."""

import msgspec
import pandas as pd

from joules.analyse.tables import listed
from joules.core.reading import read_catalogue
from joules.core.reporting import reporting
from joules.write.claims import claims, tables_among
from joules.write.claims_file import write_claims
from joules.write.published_scores import published_scores
from joules.write.registered import registration_of
from joules.write.study_facts import AskedStudy, representative_records, study_facts

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        given, params = snakemake.input, dict(snakemake.params.items())
        registration = registration_of(listed(given["records"]), params.pop("plan"))
        asked = msgspec.convert(params, AskedStudy)
        runs = pd.read_parquet(given["runs"])
        records = representative_records(listed(given["records"]), runs)
        read = {name: pd.read_csv(given[name]) for name in tables_among(given.keys())}
        facts = study_facts(runs, records, asked, read["attempts"], read["validity"], registration)
        catalogue = read_catalogue(own=snakemake.config["catalogue"])
        found = claims(facts, read, published_scores(catalogue, asked.models))
        write_claims(snakemake.output[0], found)
        for warning in found.study.warnings:
            report(f"warning: {warning.text}")
        report(f"{found.permission.sentence} The study is {registration.standing}.")
