"""Rule warm_up: one model on one arm, before it is measured."""

from pathlib import Path

import msgspec

from joules.core import paths, stored
from joules.core.reporting import reporting
from joules.core.run_parameters import WarmUpParameters
from joules.measure.warm_up import warm_up

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        seen = warm_up(
            snakemake.wildcards.model,
            snakemake.wildcards.arm,
            msgspec.convert(snakemake.params["parameters"], WarmUpParameters),
            Path(snakemake.input["model"]),
            stored.read_prompts_file(snakemake.input["prompts"]),
            stored.read_provided(snakemake.input["runtime"]),
            Path(snakemake.log[0]),
            paths.journal_folder(paths.results_of_warm_up(Path(snakemake.output[0]))),
            report,
        )
        stored.write_warm_up(snakemake.output[0], seen)
