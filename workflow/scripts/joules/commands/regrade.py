"""Grade an archived campaign anew, from its stored answers and prompts alone.

The new grades are written to TARGET, and every verdict that differs from the campaign's own is
named. Tests draw what they drew for the archived grade. The campaign's own files are only read.
Waits while this machine measures.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from joules.commands import command_line
from joules.core.errors import UserError
from joules.core.grade_file import Grade
from joules.core.stored import read_grade, read_prompts_file, read_record, write_grade
from joules.grade.grading import grade_record
from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import problems
from joules.machine import lock


def differences(old: Grade, new: Grade) -> list[str]:
    """Return a line for each task whose verdict differs between two grades of one record."""
    before = {task.task_id: task for task in old.tasks}
    lines = []
    for task in new.tasks:
        known = before.pop(task.task_id, None)
        now = f"{task.verdict} ({task.reason})"
        if known is None:
            lines.append(f"{task.task_id}: not graded before, is now {now}")
        elif known.verdict != task.verdict:
            lines.append(f"{task.task_id}: {known.verdict} ({known.reason}) is now {now}")
    return lines + [f"{task_id}: is no longer in the record" for task_id in before]


def regrade(
    campaign: Path, target: Path, workers: int, report: Callable[[str], None]
) -> tuple[int, int]:
    """Grade every record of `campaign` into `target`; return verdicts compared and different.

    Raises UserError for a folder without records, or for a target inside the campaign.
    """
    records = sorted(
        path for path in campaign.glob("records/*/*/*/*.json") if path.stem.isdecimal()
    )
    if not records:
        raise UserError(
            f"{campaign} holds no records. Expected a campaign's folder, as `make import` makes it."
        )
    if campaign.resolve() in (target.resolve(), *target.resolve().parents):
        raise UserError(
            f"{target} lies in {campaign}, which is kept as it is. Name another folder."
        )
    compared = different = 0
    for path in records:
        name = path.relative_to(campaign / "records")
        record = read_record(path)
        prompts = read_prompts_file(campaign / "prompts" / f"{record.model.name}.jsonl")
        archived = campaign / "grades" / name
        known = read_grade(archived) if archived.is_file() else None
        nonce = known.nonce if known else sandbox.new_nonce()
        grade = grade_record(record, prompts, problems(), workers, nonce)
        write_grade(target / "grades" / name, grade)
        if known is None:
            report(f"{name}: no archived grade to compare with")
            continue
        lines = differences(known, grade)
        compared += grade.total
        different += len(lines)
        for line in lines:
            report(f"{name}: {line}")
    return compared, different


def act(options: argparse.Namespace) -> int:
    """Grade the campaign anew; return 0 when every verdict is as archived, 1 when one differs.

    Also returns 1 where no archived grade was there to compare with.
    """
    with lock.measuring(command_line.say_aside):
        compared, different = regrade(
            options.campaign, options.target, options.workers, command_line.say_aside
        )
    command_line.say(
        f"{different} of {compared} verdicts differ from the archived ones ({options.target})"
    )
    return command_line.NOT_SO if different or not compared else command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Grade a campaign anew; see `command_line` for the exit status."""
    command = command_line.Command("regrade", __doc__, "make regrade CAMPAIGN=NAME")
    command.add_argument(
        "campaign", type=command_line.given_path, help="a folder of data/measurements/"
    )
    command.add_argument("target", type=command_line.given_path, help="a folder for new grades")
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
