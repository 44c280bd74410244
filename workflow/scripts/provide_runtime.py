"""Rule provide_runtime: what one runtime needs, and its facts."""

from pathlib import Path

from joules.core.reporting import reporting
from joules.core.stored import write_provided
from joules.runtimes import load

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        facts = load(snakemake.wildcards.runtime).provide(
            snakemake.params["options"], Path(snakemake.output[0]).with_suffix("")
        )
        write_provided(snakemake.output[0], facts)
        report(f"{snakemake.wildcards.runtime} {snakemake.wildcards.variant} is ready")
