"""The archive of an unfinished study: what is there of it, to go on with elsewhere or later."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from joules.core import imported, paths, stored
from joules.core.catalogue import archived_catalogue_of
from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.plan import Run, to_csv
from joules.core.reading import LoadedStudy, read_catalogue
from joules.core.run_parameters import run_parameters
from joules.core.study import archived_configuration
from joules.core.unfinished_file import SCHEMA, Unfinished
from joules.write.archive import pack_contents


@dataclasses.dataclass(frozen=True)
class Packed:
    """What was packed of an unfinished study.

    Attributes:
        target: the archive.
        unfinished: what it says of itself.
    """

    target: Path
    unfinished: Unfinished


def pack_unfinished(
    loaded: LoadedStudy, citation: Path, report: Callable[[str], None] = lambda line: None
) -> Packed:
    """Write the archive of what is there of a study. Equal files give equal bytes.

    The configuration says what its records were measured with, so a record of other parameters is
    left out, which `report` says. Raises UserError where nothing was measured, or nothing is
    missing: then rule `archive` packs the study.
    """
    study, results = loaded.study, loaded.results
    runs = loaded.runs()
    files = _present(loaded, runs, report)
    records = [file for name, file in files.items() if name.startswith("records/")]
    planned = _planned(loaded, runs)
    missing = sorted(planned - files.keys())
    if not records:
        raise UserError(
            f"No run of `{study.study}` is there to be packed. Expected records below "
            f"{results / 'records'} that were measured with this configuration. Measure first."
        )
    if not missing:
        raise UserError(
            f"Nothing of `{study.study}` is missing. Expected an unfinished study. `make all` with "
            f"the same configuration packs it: {paths.archive_file(results, study.campaign)}"
        )
    attempts = paths.invalid_attempts(
        paths.record_path(paths.records_folder(results), run) for run in runs
    )
    registered = [paths.registration_file(results)]
    for file in [*registered, *(each for found in attempts.values() for each in found)]:
        if file.exists():
            files[file.relative_to(results).as_posix()] = file
    unfinished = Unfinished(
        schema=SCHEMA, planned=len(runs), measured=len(records), missing=missing
    )
    contents = {name: file.read_bytes() for name, file in files.items()}
    contents[paths.UNFINISHED] = stored.unfinished_text(unfinished).encode()
    contents["schedule.csv"] = to_csv(runs).encode()
    target = paths.unfinished_archive_file(results, study.campaign)
    pack_contents(
        contents,
        records,
        archived_configuration(study),
        citation,
        target,
        archived_catalogue_of(loaded.catalogue, study.models, read_catalogue(loaded.root)),
    )
    return Packed(target, unfinished)


def _planned(loaded: LoadedStudy, runs: list[Run]) -> set[str]:
    """Return the names that a finished archive has beside those that any archive has."""
    root = Path()
    names = [paths.record_path(paths.records_folder(root), run) for run in runs]
    names += [paths.record_path(paths.grades_folder(root), run) for run in runs]
    for model in loaded.study.models:
        names += [paths.prompts_file(root, model), paths.agreement_file(root, model)]
    return {name.as_posix() for name in names}


def _present(
    loaded: LoadedStudy, runs: list[Run], report: Callable[[str], None]
) -> dict[str, Path]:
    """Return what is there of the study, by its name in an archive."""
    results, root = loaded.results, Path()
    files: dict[str, Path] = {}
    for run in runs:
        record = imported.place(results, run)
        if record is None:
            continue
        parameters = run_parameters(loaded.study, loaded.catalogue, run.model, run.arm)
        found = imported.not_as_now(stored.read_record(record), parameters)
        if found:
            named = f"{run.model}, {run.arm}, {run.kind}, block {run.repetition}"
            report(f"left out, since it was measured otherwise ({', '.join(found)}): {named}")
            continue
        files[paths.record_path(paths.records_folder(root), run).as_posix()] = record
        grade = _grade_of(results, run, record)
        if grade is not None:
            files[paths.record_path(paths.grades_folder(root), run).as_posix()] = grade
    for model in loaded.study.models:
        for place in (paths.prompts_file, paths.agreement_file):
            if place(results, model).exists():
                files[place(root, model).as_posix()] = place(results, model)
    return files


def _grade_of(results: Path, run: Run, record: Path) -> Path | None:
    """Return the grade of this very record; None where there is none, or only that of an older."""
    waiting = paths.imported_grade(results, sha256_of(record))
    if waiting.exists():
        return waiting
    grade = paths.record_path(paths.grades_folder(results), run)
    newer = grade.exists() and grade.stat().st_mtime_ns >= record.stat().st_mtime_ns
    return grade if newer and paths.imported_record(results, run) != record else None
