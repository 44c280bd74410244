"""Rule warm_up: one model on one runtime, before it is measured."""

from pathlib import Path

from joules.files import read_json, write_json
from joules.prompts import read_rows
from joules.script import reporting
from joules.warm_up import warm_up

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        seen = warm_up(
            snakemake.wildcards.model,
            snakemake.wildcards.runtime,
            snakemake.params["config"],
            Path(snakemake.input["model"]),
            read_rows(snakemake.input["prompts"]),
            read_json(snakemake.input["runtime"]),
            Path(snakemake.log[0]),
            report,
        )
        write_json(snakemake.output[0], seen)
