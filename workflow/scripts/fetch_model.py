"""Rule fetch_model: one model of the catalogue, checked."""

from pathlib import Path

from joules import models
from joules.script import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        models.fetch(
            snakemake.wildcards.model,
            snakemake.params["entry"],
            Path(snakemake.output[0]),
            trust_on_first_use=snakemake.config["trust_on_first_use"],
            lock_file=Path(snakemake.params["lock_file"]),
            report=report,
        )
