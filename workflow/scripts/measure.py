"""Rule measure: one run, one record."""

from pathlib import Path

import msgspec

from joules.core import paths, stored
from joules.core.registration import Plan
from joules.core.reporting import reporting
from joules.core.run_parameters import RunParameters
from joules.core.study import study_from
from joules.measure.campaign import measure

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        # Blocks and plan are no parameters: more blocks must not repeat finished runs.
        plan = msgspec.convert(snakemake.config.pop("plan"), Plan)
        measure(
            paths.run_of(snakemake.output[0]),
            study_from(snakemake.config, {}),
            plan,
            msgspec.convert(snakemake.params["parameters"], RunParameters),
            Path(snakemake.input["model"]),
            stored.read_prompts_file(snakemake.input["prompts"]),
            stored.read_provided(snakemake.input["runtime"]),
            Path(snakemake.output[0]),
            Path(snakemake.log[0]),
            report,
        )
