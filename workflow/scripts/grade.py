"""Rule grade: a verdict for every task of one run."""

import os

from joules.core.reporting import reporting
from joules.core.stored import read_prompts_file, read_record, write_grade
from joules.grade.grading import grade_record
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import problems
from joules.machine.lock import measuring

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        record = read_record(snakemake.input["record"])
        prompts = read_prompts_file(snakemake.input["prompts"])
        # `--cores 1` is for measuring, and nothing is measured beside this.
        workers = max(snakemake.threads, min(2, os.cpu_count() or 1))
        # Another study on this machine may be measuring now.
        with measuring(report):
            nonce = sandbox.new_nonce()
            grade = grade_record(record, prompts, problems(), workers, nonce)
        write_grade(snakemake.output[0], grade)
        report(f"{grade.passed} of {grade.total} passed ({grade.sandbox.mechanism})")
