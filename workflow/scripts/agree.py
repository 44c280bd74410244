"""Rule agree: whether the arms read the same prompts and how their answers differ."""

from joules.core import stored
from joules.core.errors import UserError
from joules.core.reporting import reporting
from joules.measure.agreement import agree, check_fixed

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        warm_ups = [stored.read_warm_up(path) for path in snakemake.input]
        check_fixed(warm_ups, snakemake.params["kinds"])
        agreement = agree(warm_ups)
        stored.write_agreement(snakemake.log["found"], agreement)
        if not agreement.passed:
            raise UserError(
                f"The arms do not agree: {'; '.join(agreement.problems)}. "
                f"All that was seen is in {snakemake.log['found']}. Mend it before measuring."
            )
        stored.write_agreement(snakemake.output[0], agreement)
        for pair in agreement.pairs:
            report(
                f"{pair.runtime_a} and {pair.runtime_b}: {pair.same_text} of "
                f"{pair.prompts} answers are the same text"
            )
