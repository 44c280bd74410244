"""Rule tabulate: all records and grades as the tables of runs, tasks and windows."""

from joules.script import reporting
from joules.tables import RUNS, TASKS, WINDOWS, tabulate, write_csv, write_parquet

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        tables = tabulate(
            snakemake.input["records"],
            snakemake.input["grades"],
            snakemake.input["agreements"],
            snakemake.params["config"],
        )
        write_parquet(snakemake.output["runs"], tables.runs, RUNS)
        write_parquet(snakemake.output["tasks"], tables.tasks, TASKS)
        write_parquet(snakemake.output["windows"], tables.windows, WINDOWS)
        write_csv(snakemake.output["runs_csv"], tables.runs)
        valid = int(tables.runs["valid"].sum())
        report(f"{len(tables.runs)} runs ({valid} valid), {len(tables.tasks)} tasks")
