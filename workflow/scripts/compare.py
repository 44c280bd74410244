"""Rule compare: the statistics of a study's tables."""

import pandas as pd

from joules.analysis import statistics
from joules.claims import left_out_blocks
from joules.script import reporting
from joules.tables import write_csv

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        tables = statistics(
            pd.read_parquet(snakemake.input["runs"]),
            pd.read_parquet(snakemake.input["tasks"]),
            snakemake.params["config"]["runtimes"],
        )
        for line in left_out_blocks(tables["comparisons"]):
            report(line)
        for name, table in tables.items():
            write_csv(snakemake.output[name], table)
