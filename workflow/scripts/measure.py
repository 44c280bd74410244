"""Rule measure: one run, one record."""

from pathlib import Path

from joules.campaign import measure
from joules.files import read_json
from joules.prompts import read_rows
from joules.schedule import Run, plan
from joules.script import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        wildcards, config = snakemake.wildcards, snakemake.config
        measure(
            Run(wildcards.model, wildcards.runtime, wildcards.kind, int(wildcards.repetition)),
            # Blocks and positions are no parameters: more blocks must not repeat finished runs.
            plan(*(config[key] for key in ("models", "runtimes", "kinds", "blocks", "seed"))),
            snakemake.params["config"] | {key: config[key] for key in ("study", "campaign")},
            Path(snakemake.input["model"]),
            read_rows(snakemake.input["prompts"]),
            read_json(snakemake.input["runtime"]),
            Path(snakemake.output[0]),
            Path(snakemake.log[0]),
            report,
        )
