"""Rule fetch_model: one model of the catalogue, checked."""

from pathlib import Path

import msgspec

from joules.core.catalogue import Source
from joules.core.reporting import reporting
from joules.inputs import model_files

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        model_files.fetch(
            snakemake.wildcards.model,
            msgspec.convert(snakemake.params["entry"], Source),
            Path(snakemake.output[0]),
            trust_on_first_use=snakemake.config["trust_on_first_use"],
            lock_file=Path(snakemake.params["lock_file"]),
            report=report,
        )
