"""Rule fetch_model: one model of the catalogue, checked."""

from pathlib import Path

from joules.core.catalogue import lookup, source_of
from joules.core.reading import read_catalogue
from joules.core.reporting import reporting
from joules.inputs import model_files

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        # The parameter is the file's identity: another place of it makes no run stale.
        catalogue = read_catalogue(own=snakemake.config["catalogue"])
        model_files.fetch(
            snakemake.wildcards.model,
            source_of(lookup(catalogue, snakemake.wildcards.model)),
            Path(snakemake.output[0]),
            trust_on_first_use=snakemake.config["trust_on_first_use"],
            lock_file=Path(snakemake.params["lock_file"]),
            report=report,
        )
