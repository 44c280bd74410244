"""Rule agree: whether the runtimes read the same prompts and how their answers differ."""

from joules.errors import UserError
from joules.files import read_json, write_json
from joules.script import reporting
from joules.warm_up import agree, check_fixed

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        warm_ups = [read_json(path) for path in snakemake.input]
        check_fixed(warm_ups, snakemake.params["kinds"])
        agreement = agree(warm_ups)
        write_json(snakemake.log["found"], agreement)
        if not agreement["passed"]:
            raise UserError(
                f"The runtimes do not agree: {'; '.join(agreement['problems'])}. "
                f"All that was seen is in {snakemake.log['found']}. Mend it before measuring."
            )
        write_json(snakemake.output[0], agreement)
        for pair in agreement["pairs"]:
            report(
                f"{pair['runtime_a']} and {pair['runtime_b']}: {pair['same_text']} of "
                f"{pair['prompts']} answers are the same text"
            )
