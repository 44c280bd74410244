"""Rule provide_runtime: what one runtime needs, and its facts."""

from pathlib import Path

from joules.files import write_json
from joules.runtimes import load
from joules.script import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        facts = load(snakemake.wildcards.runtime).provide(
            snakemake.params["options"], Path(snakemake.output[0]).with_suffix("")
        )
        write_json(snakemake.output[0], facts)
        report(f"{snakemake.wildcards.runtime} {snakemake.wildcards.variant} is ready")
