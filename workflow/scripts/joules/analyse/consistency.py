"""What must not be mixed or missing among the files of a study: refused here, with file names.

Each function raises UserError; the tables are made of what passes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from joules.analyse.mixes import AGAIN
from joules.core import paths
from joules.core.energy import WALL
from joules.core.errors import UserError
from joules.core.grade_file import Grade
from joules.core.inference import Settings
from joules.core.plan import Run
from joules.core.record import Record
from joules.core.warm_up_files import Agreement

LONGEST_SHOWN = 300  # characters of a value that a message shows


class Alike:
    """Refuses, with both file names, a value that differs from the first one under its name."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], tuple[object, Path]] = {}

    def check(
        self,
        what: str,
        group: str,
        value: object,
        path: Path,
        remedy: str,
        shown: Callable[[object], str] = str,
    ) -> None:
        """Take the first value of `what` in `group`; raise UserError for another one later.

        `shown` says in a message what a value is.
        """
        seen, first = self._first.setdefault((what, group), (value, path))
        if seen != value:
            raise UserError(
                f"The records differ in {what} ({group}): {_short(shown(seen))} in {first}, "
                f"{_short(shown(value))} in {path}. All must have the same, or they cannot be "
                f"compared. {remedy}"
            )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def check_alike(alike: Alike, record: Record, path: Path) -> None:
    """Refuse a record that differs from the ones before it in what all must share.

    Machine, runtime and instrument are looked at in `joules.analyse.mixes`.
    """
    model = f"model {record.model.name}"
    kind = "task" if record.kind == "control" else record.kind  # a control repeats a task run
    alike.check("the study", "all records", record.study, path, "Keep studies apart.")
    alike.check("the protocol", model, record.protocol, path, AGAIN)
    alike.check("the model file's sha256", model, record.model.sha256, path, AGAIN)
    alike.check("the settings", _equal_ones(record, kind), record.settings, path, AGAIN, _settings)
    prompts = sorted((task.task_id, task.prompt_token_ids_sha256) for task in record.tasks)
    alike.check("the problems and prompts", f"{model}, kind {kind}", prompts, path, AGAIN, _prompts)
    alike.check("the energy tier", "all records", record.instrument.tier, path, AGAIN)
    alike.check("the headline's energy", "all records", record.instrument.headline, path, AGAIN)
    meter = record.instrument.wall_meter()
    if record.instrument.headline == WALL and meter is not None:
        device = (meter.module, meter.device.get("model"), meter.every_s, meter.emulated)
        alike.check("the meter at the wall", "all records", device, path, AGAIN)


def _equal_ones(record: Record, kind: str) -> str:
    """Return in words which runs must have the settings of this one: those of its arm, at least.

    All arms that state no settings of their own have those of the study.
    """
    own = record.arm is not None and record.arm.settings != {}
    arm = f", arm {record.arm_name}" if own else ""
    return f"model {record.model.name}{arm}, kind {kind}"


def _settings(value: object) -> str:
    assert isinstance(value, Settings)
    return json.dumps(dataclasses.asdict(value), sort_keys=True)


def _prompts(value: object) -> str:
    assert isinstance(value, list)
    return f"{len(value)} problems, sha256 {hashlib.sha256(repr(value).encode()).hexdigest()}"


def check_names(record: Record, run: Run, path: Path) -> None:
    """Refuse a record that lies at the place of another `run`."""
    named = Run(record.model.name, record.arm_name, record.kind, record.repetition)
    if named != run:
        place = paths.record_path("", named).lstrip("/")
        raise UserError(
            f"{path} holds the run {place}. A record lies at "
            "records/{model}/{arm}/{kind}/{repetition}.json. Put it where it belongs."
        )


def check_grade(record: Record, grade: Grade, path: Path) -> None:
    """Refuse a grade of another run or of other tasks than the record's."""
    for key, graded_run, run in (
        ("model", grade.model, record.model.name),
        ("arm", grade.runtime, record.arm_name),
        ("kind", grade.kind, record.kind),
        ("repetition", grade.repetition, record.repetition),
    ):
        if graded_run != run:
            raise UserError(
                f"{path} grades {key} {graded_run!r}; its record has {run!r}. "
                "A grade belongs to the record of the same path. Grade the record again."
            )
    answered = [task.task_id for task in record.tasks]
    graded = [task.task_id for task in grade.tasks]
    same = answered == graded or sorted(answered) == sorted(graded)
    if not same or grade.total != len(graded):
        odd = sorted(set(answered) ^ set(graded))[:5]
        raise UserError(
            f"{path} grades {len(graded)} tasks (total {grade.total}), its record has "
            f"{len(answered)}. They must be the same tasks; these are in one only: {odd}. "
            "Grade the record again."
        )


def check_agreement(agreements: Mapping[str, Agreement], model: str, runtimes: set[str]) -> None:
    """Refuse a model whose runtimes were not shown to read the same prompts."""
    agreement = agreements.get(model)
    if agreement is None:
        raise UserError(
            f"No agreement for the model {model}. Each model needs agreement/{model}.json, which "
            "shows that the runtimes saw the same prompts. Run the rule `agree`."
        )
    missing = sorted(runtimes - set(agreement.runtimes))
    if not agreement.passed or missing:
        problems = [*agreement.problems, *(f"{name} was not compared" for name in missing)]
        raise UserError(
            f"The runtimes do not agree on {model}: {'; '.join(problems)}. "
            "Prompt counts and settings must be equal and no answer empty. "
            "Mend the runtime or the model's entry in config/models.yaml and measure again."
        )
