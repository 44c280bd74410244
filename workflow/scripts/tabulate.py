"""Rule tabulate: all records and grades as tables."""

import msgspec

from joules.analyse.mixes import Mixing
from joules.analyse.tables import tabulate, write_tables
from joules.core.reporting import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        tables = tabulate(
            snakemake.input["records"],
            snakemake.input["grades"],
            snakemake.input["agreements"],
            snakemake.params["grams_per_kwh"],
            msgspec.convert(snakemake.params["mixing"], Mixing),
        )
        write_tables(tables, dict(snakemake.output.items()))
        valid = int(tables.runs["valid"].sum())
        report(f"{len(tables.runs)} runs ({valid} valid), {len(tables.tasks)} tasks")
