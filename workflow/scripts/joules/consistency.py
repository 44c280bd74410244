"""What must not be mixed or missing among the files of a study: refused here, with file names.

Each function raises UserError; the tables are made of what passes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joules.errors import UserError


def cell_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what names a run: model, runtime, its label, kind and block."""
    return {
        "model": record["model"]["name"],
        "runtime": record["runtime"]["name"],
        "runtime_label": record["runtime"]["label"],
        "kind": record["kind"],
        "block": record["repetition"],
    }


class Alike:
    """Refuses, with both file names, a value that differs from the first one under its name."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], tuple[str, Path]] = {}

    def check(self, what: str, group: str, value: str, path: Path, remedy: str) -> None:
        """Take the first value of `what` in `group`; raise UserError for another one later."""
        seen, first = self._first.setdefault((what, group), (value, path))
        if seen != value:
            raise UserError(
                f"The records differ in {what} ({group}): {_short(seen)} in {first}, "
                f"{_short(value)} in {path}. All must have the same, or they cannot be compared. "
                f"{remedy}"
            )


def _short(value: str) -> str:
    return value if len(value) <= 300 else f"{value[:297]}..."


def check_alike(alike: Alike, record: Mapping[str, Any], path: Path, mixed: bool) -> None:
    """Refuse a record that differs from the ones before it in what all must share.

    `mixed`: records of several versions of the instrument are let through.
    """
    model = record["model"]["name"]
    kind = "task" if record["kind"] == "control" else record["kind"]  # a control repeats a task run
    again = "Measure again what is out of date: snakemake --forcerun measure -- TARGET."
    alike.check("the study", "all records", record["study"], path, "Keep studies apart.")
    alike.check("the protocol", f"model {model}", record["protocol"], path, again)
    alike.check("the model file's sha256", f"model {model}", record["model"]["sha256"], path, again)
    settings = json.dumps(record["settings"], sort_keys=True)
    alike.check("the settings", f"model {model}, kind {kind}", settings, path, again)
    prompts = sorted((task["task_id"], task["prompt_sha256"]) for task in record["tasks"])
    digest = f"{len(prompts)} problems, sha256 {hashlib.sha256(repr(prompts).encode()).hexdigest()}"
    alike.check("the problems and prompts", f"model {model}, kind {kind}", digest, path, again)
    alike.check("the energy tier", "all records", record["instrument"]["tier"], path, again)
    if not mixed:
        alike.check(
            "the version of the instrument",
            "all records",
            record["instrument"]["modules_sha256"],
            path,
            f"{again} Or set `mixed_instruments: state` in the config: the mix is then stated.",
        )


def check_names(record: Mapping[str, Any], path: Path) -> None:
    """Refuse a record that lies where another one belongs."""
    cell = cell_of(record)
    named = Path(cell["model"], cell["runtime"], cell["kind"], f"{cell['block']}.json").parts
    if path.parts[-4:] != named:
        raise UserError(
            f"{path} holds the run {'/'.join(named)}. A record lies at "
            "records/{model}/{runtime}/{kind}/{repetition}.json. Put it where it belongs."
        )


def check_grade(record: Mapping[str, Any], grade: Mapping[str, Any], path: Path) -> None:
    """Refuse a grade of another run or of other tasks than the record's."""
    cell = cell_of(record)
    for key, name in (
        ("model", "model"),
        ("runtime", "runtime"),
        ("kind", "kind"),
        ("repetition", "block"),
    ):
        if grade[key] != cell[name]:
            raise UserError(
                f"{path} grades {key} {grade[key]!r}; its record has {cell[name]!r}. "
                "A grade belongs to the record of the same path. Grade the record again."
            )
    answered = sorted(task["task_id"] for task in record["tasks"])
    graded = sorted(task["task_id"] for task in grade["tasks"])
    if answered != graded or grade["total"] != len(graded):
        odd = sorted(set(answered) ^ set(graded))[:5]
        raise UserError(
            f"{path} grades {len(graded)} tasks (total {grade['total']}), its record has "
            f"{len(answered)}. They must be the same tasks; these are in one only: {odd}. "
            "Grade the record again."
        )


def check_agreement(
    agreements: Mapping[str, Mapping[str, Any]], model: str, runtimes: set[str]
) -> None:
    """Refuse a model whose runtimes were not shown to read the same prompts."""
    agreement = agreements.get(model)
    if agreement is None:
        raise UserError(
            f"No agreement for the model {model}. Each model needs agreement/{model}.json, which "
            "shows that the runtimes saw the same prompts. Run the rule `agree`."
        )
    missing = sorted(runtimes - set(agreement["runtimes"]))
    if not agreement["passed"] or missing:
        problems = [*agreement["problems"], *(f"{name} was not compared" for name in missing)]
        raise UserError(
            f"The runtimes do not agree on {model}: {'; '.join(map(str, problems))}. "
            "Prompt counts and settings must be equal and no answer empty. "
            "Mend the runtime or the model's entry in config/models.yaml and measure again."
        )


def key_of(path: Path) -> tuple[str, str, str, int]:
    """Return (model, runtime, kind, repetition) from the place of a record or grade."""
    try:
        model, runtime, kind = path.parts[-4:-1]
        return model, runtime, kind, int(path.stem)
    except ValueError as error:
        raise UserError(
            f"{path} is no record or grade. Expected {{model}}/{{runtime}}/{{kind}}/"
            "{repetition}.json. Leave other files out."
        ) from error
