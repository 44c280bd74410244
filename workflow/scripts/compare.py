"""Rule compare: the statistics of a study's tables."""

import pandas as pd

from joules.claims import left_out_blocks
from joules.descriptives import cells, drift, phases, quality
from joules.files import read_json
from joules.script import reporting
from joules.statistics import compare
from joules.tables import listed, write_csv

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        runs = pd.read_parquet(snakemake.input["runs"])
        tasks = pd.read_parquet(snakemake.input["tasks"])
        runtimes = snakemake.params["config"]["runtimes"]
        agreements = [read_json(path) for path in listed(snakemake.input["agreements"])]
        comparisons = compare(runs, runtimes)
        for line in left_out_blocks(comparisons):
            report(line)
        write_csv(snakemake.output["comparisons"], comparisons)
        write_csv(snakemake.output["cells"], cells(runs))
        write_csv(snakemake.output["quality"], quality(tasks, runs, agreements, runtimes))
        write_csv(snakemake.output["phases"], phases(tasks, runs))
        write_csv(snakemake.output["drift"], drift(runs))
