"""Rule compare: the statistics of a study's tables."""

import pandas as pd

from joules.analyse.left_out_blocks import left_out_blocks
from joules.analyse.study_statistics import statistics
from joules.analyse.tables import write_csv
from joules.core.reporting import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        tables = statistics(
            pd.read_parquet(snakemake.input["runs"]),
            pd.read_parquet(snakemake.input["tasks"]),
            snakemake.params["runtimes"],
            snakemake.params["contrasts"],
        )
        for line in left_out_blocks(tables["comparisons"]):
            report(line)
        for name, table in tables.items():
            write_csv(snakemake.output[name], table)
