"""Rule summarise_model: one model's runs in one small table."""

import msgspec

from joules.analyse.mixes import Mixing
from joules.analyse.tables import summary, tabulate, write_csv
from joules.core.reporting import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]):
        tables = tabulate(
            snakemake.input["records"],
            snakemake.input["grades"],
            snakemake.input["agreements"],
            snakemake.params["grams_per_kwh"],
            msgspec.convert(snakemake.params["mixing"], Mixing),
            runs_only=True,
        )
        write_csv(snakemake.output[0], summary(tables.runs, snakemake.wildcards.model))
