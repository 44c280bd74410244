"""Rule write_prompts: the literal prompts of one model."""

from pathlib import Path

import msgspec

from joules.core.catalogue import Prompting
from joules.core.reporting import reporting
from joules.core.stored import write_prompts_file
from joules.inputs import gguf_facts, humaneval, prompts

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        model = Path(snakemake.input["model"])
        made = prompts.make_prompts(
            model,
            msgspec.convert(snakemake.params["entry"], Prompting),
            gguf_facts.gguf_facts(model),
            {task_id: problem.prompt for task_id, problem in humaneval.problems().items()},
            prompts.read_settle(snakemake.input["settle"]),
            snakemake.params["problems"],
            snakemake.params["seed"],
            snakemake.params["context_length"],
            snakemake.params["max_tokens"],
        )
        write_prompts_file(snakemake.output[0], made)
        report(f"{len(made.prompts)} prompts, protocol {made.model.protocol}")
