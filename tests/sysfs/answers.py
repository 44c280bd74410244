"""Measure one run of a scripted runtime on whatever /sys there is, and print what its record says.

answers.py COUNT MILLISECONDS: so many answers of that length. One JSON line at the end.
"""

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

import scripted

from joules.meters import all_meters
from joules.meters.reader import OwnReader

# Others may use this machine; what they do is not the matter.
QUIET = scripted.changed(scripted.LOOSE, windows={"idle_s": 1.0})


class Timed(scripted.Scripted):
    """A runtime whose answers take a fixed time, and its flush prompts a tenth of it."""

    def __init__(self, answer_s: float) -> None:
        super().__init__()
        self.answer_s = answer_s

    def complete(self, prompt, max_tokens=None):
        time.sleep(self.answer_s / (10 if max_tokens == 1 else 1))
        return super().complete(prompt, max_tokens)


def main() -> None:
    count, answer_s = int(sys.argv[1]), float(sys.argv[2]) / 1000
    (task_id, sha256, prompt), *_ = scripted.PROMPTS.problems
    scripted.PROMPTS = dataclasses.replace(
        scripted.PROMPTS, problems=[(task_id, sha256, prompt)] * count
    )
    with tempfile.TemporaryDirectory() as folder:
        parts, measured = scripted.run(
            Timed(answer_s), parameters=QUIET, tmp=folder, meter=OwnReader(all_meters())
        )
    tasks = next(each for each in parts.windows if each.name == "tasks")
    print(
        json.dumps(
            {
                "tier": measured.tier,
                "window_s": tasks.duration_s,
                "window_j": tasks.energy_j.cpu,
                "energy_j": parts.energy_j,
                "tasks_j": sum(each.energy_j.cpu for each in parts.tasks),
                "tasks_s": sum(each.duration_s for each in parts.tasks),
                "gaps": msgspec.to_builtins(parts.gaps),
                "broken": [each.code for each in parts.validity.codes if each.invalidates],
            }
        )
    )


if __name__ == "__main__":
    main()
