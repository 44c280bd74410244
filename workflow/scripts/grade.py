"""Rule grade: a verdict for every task of one run."""

from joules.files import read_json, write_json
from joules.grading import grade_record, read_prompts
from joules.humaneval import problems
from joules.lock import measuring
from joules.script import reporting

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        record = read_json(snakemake.input["record"])
        prompts = read_prompts(snakemake.input["prompts"])
        # Another study on this machine may be measuring now.
        with measuring(report):
            grade = grade_record(record, prompts, problems(), snakemake.threads)
        write_json(snakemake.output[0], grade)
        report(f"{grade['passed']} of {grade['total']} passed ({grade['sandbox']['mechanism']})")
