"""Grade an archived campaign anew, from its stored answers and prompts alone.

`python -m joules.regrading data/measurements/NAME results/regraded/NAME` writes the new grades and
names every verdict that differs. The campaign's own files are only read.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from joules import lock
from joules.errors import UserError
from joules.files import read_json, write_json
from joules.grading import grade_record, read_prompts
from joules.humaneval import problems


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return a line for each task whose verdict differs between two grades of one record."""
    before = {task["task_id"]: task for task in old["tasks"]}
    lines = []
    for task in new["tasks"]:
        known = before.pop(task["task_id"], {"verdict": "not graded", "reason": ""})
        if known["verdict"] != task["verdict"]:
            lines.append(
                f"{task['task_id']}: {known['verdict']} ({known['reason']}) is now "
                f"{task['verdict']} ({task['reason']})"
            )
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
        record = read_json(path)
        prompts = read_prompts(campaign / "prompts" / f"{record['model']['name']}.jsonl")
        grade = grade_record(record, prompts, problems(), workers)
        write_json(target / "grades" / name, grade)
        archived = campaign / "grades" / name
        if not archived.is_file():
            report(f"{name}: no archived grade to compare with")
            continue
        lines = differences(read_json(archived), grade)
        compared += grade["total"]
        different += len(lines)
        for line in lines:
            report(f"{name}: {line}")
    return compared, different


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 when every verdict is as archived, 1 when one differs or on an error."""
    parser = argparse.ArgumentParser(description="Grade an archived campaign anew.")
    parser.add_argument("campaign", type=Path, help="folder of data/measurements/")
    parser.add_argument("target", type=Path, help="folder for the new grades")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        with lock.measuring(report, lock.LOCK_FILE):
            compared, different = regrade(options.campaign, options.target, options.workers, report)
    except UserError as error:
        report(f"error: {error}")
        return 1
    print(f"{different} of {compared} verdicts differ from the archived ones ({options.target})")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
