"""Rule write_schedule: the planned order of runs, for people and for the archive."""

from joules.core.files import write_atomic
from joules.core.plan import plan, to_csv
from joules.core.reporting import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        runs = plan(**snakemake.params["plan"])
        write_atomic(snakemake.output[0], to_csv(runs))
        report(f"{len(runs)} runs")
