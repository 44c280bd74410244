"""Rule grade: a verdict for every task of one run."""

import os
from pathlib import Path

from joules.core.imported import take_grade
from joules.core.reporting import reporting
from joules.core.stored import read_prompts_file, read_record, write_grade
from joules.grade.grading import grade_record
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import problems
from joules.machine.lock import measuring

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        record_file, target = Path(snakemake.input["record"]), Path(snakemake.output[0])
        if take_grade(record_file, target):
            report("taken from the imported archive, not graded")
        else:
            record = read_record(record_file)
            prompts = read_prompts_file(snakemake.input["prompts"])
            # `--cores 1` is for measuring, and nothing is measured beside this.
            workers = max(snakemake.threads, min(2, os.cpu_count() or 1))
            # Another study on this machine may be measuring now.
            with measuring(report):
                grade = grade_record(record, prompts, problems(), workers, sandbox.new_nonce())
            write_grade(target, grade)
            report(f"{grade.passed} of {grade.total} passed ({grade.sandbox.mechanism})")
