"""Rule write_prompts: the literal prompts of one model."""

import json
from pathlib import Path

from joules import humaneval, models, prompts
from joules.files import write_atomic
from joules.script import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        model = Path(snakemake.input["model"])
        rows = prompts.make_rows(
            model,
            snakemake.params["entry"],
            models.gguf_facts(model),
            {task_id: problem.prompt for task_id, problem in humaneval.problems().items()},
            prompts.read_settle(snakemake.input["settle"]),
            snakemake.params["problems"],
            snakemake.params["seed"],
            snakemake.params["context_length"],
            snakemake.params["max_tokens"],
        )
        write_atomic(snakemake.output[0], "".join(json.dumps(row) + "\n" for row in rows))
        report(f"{len(rows)} rows, protocol {rows[0]['protocol']}")
