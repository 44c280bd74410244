"""Records of an earlier sitting that were imported, and wait to be taken instead of a measurement.

Snakemake deletes an output before it makes it, and it makes every run anew in a tree where the
model, the runtime or the warm-up was made after the record. So imported records wait in a folder
of their own, and rule `measure` looks there first: it takes the record of its run where that was
measured with the same parameters and prompts, once. What is taken is gone from there, so that a
run that is asked for again is measured.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from joules.core import paths, stored
from joules.core.errors import UserError
from joules.core.files import sha256_of, write_atomic
from joules.core.plan import Run
from joules.core.prompts_file import PromptsFile
from joules.core.record import Record
from joules.core.run_parameters import RunParameters, differing_parameters

ORDER = "order.txt"  # in the journal: one line per run that was started
NO_RECORD = "a start that left no record"


def not_as_now(record: Record, parameters: RunParameters) -> list[str]:
    """Return in words in what a record was measured otherwise than its run would be now."""
    if not record.parameters:
        return ["all, since it does not say what it was measured with"]
    return differing_parameters(record.parameters, parameters)


def differences(record: Record, parameters: RunParameters, prompts: PromptsFile) -> list[str]:
    """Return the same, model file and prompts included."""
    found = not_as_now(record, parameters)
    asked = {
        row.task_id: row.token_ids_sha256
        for row in prompts.prompts
        if row.role == "problem" and (row.in_subset or record.kind == "quality")
    }
    answered = {task.task_id: task.prompt_token_ids_sha256 for task in record.tasks}
    model = prompts.model
    if record.model.sha256 != model.file_sha256:
        found.append("the model file")
    if answered != asked or record.protocol != model.protocol:
        found.append("the prompts")
    return found


def take_record(
    run: Run, target: Path, parameters: RunParameters, prompts: PromptsFile
) -> list[str] | None:
    """Move the imported record of a run to `target`; return why it was not, if one waits.

    Returns an empty list where it was taken, and None where there is none. One that differs stays
    where it is, for the parameters that it was measured with.
    """
    waiting = paths.imported_record(paths.results_of(target), run)
    if not waiting.exists():
        return None
    found = differences(stored.read_record(waiting), parameters, prompts)
    if not found:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(waiting, target)
        os.utime(target)  # newer than what Snakemake made for it
    return found


def take_grade(record: Path, target: Path) -> bool:
    """Move the imported grade of this very record to `target`; return whether there was one."""
    waiting = paths.imported_grade(paths.results_of(target), sha256_of(record))
    if not waiting.exists():
        return False
    stored.read_grade(waiting)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(waiting, target)
    os.utime(target)
    return True


def place(results: Path, run: Run) -> Path | None:
    """Return where the record of a run lies, imported or not; None where there is none."""
    files = (
        paths.record_path(paths.records_folder(results), run),
        paths.imported_record(results, run),
    )
    return next((file for file in files if file.exists()), None)


def put_back(archived: Path, results: Path) -> list[Run]:
    """Put the files of an unpacked, unfinished archive into a study's results; return its runs.

    Records and grades wait in `imported`, and each record is in the journal. Invalid attempts,
    prompts, agreements and the registration lie where they did, and the journal knows the order
    of the runs, so that positions go on from there. Raises UserError, before anything is written,
    where another file lies in the place of one of them.
    """
    there = sorted(paths.records_folder(archived).rglob("*.json"))
    records = {paths.run_of(file): file for file in there if ".invalid-" not in file.name}
    wanted = dict(_wanted(archived, results, records))
    _refuse_others(wanted, archived, results)
    for target, source in wanted.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            write_atomic(target, source.read_bytes())
    order = paths.journal_folder(results) / ORDER
    if not order.exists():
        write_atomic(order, _order_of(there))
    return list(records)


def _wanted(
    archived: Path, results: Path, records: Mapping[Run, Path]
) -> Iterable[tuple[Path, Path]]:
    """Yield where each file belongs, and where it lies in the archive; what waits comes last."""
    names = [paths.REGISTRATION]
    for folder in ("prompts", "agreement", "records"):
        found = sorted((archived / folder).rglob("*"))
        names += [
            file.relative_to(archived).as_posix()
            for file in found
            if file.is_file() and (folder != "records" or ".invalid-" in file.name)
        ]
    for name in names:
        if (archived / name).exists():
            yield results / name, archived / name
    for run, record in records.items():
        sha256 = sha256_of(record)
        yield paths.journal_folder(results) / f"{sha256}.json", record
        grade = paths.record_path(paths.grades_folder(archived), run)
        if grade.exists():
            yield paths.imported_grade(results, sha256), grade
        if not _holds(paths.record_path(paths.records_folder(results), run), record):
            yield paths.imported_record(results, run), record


def _refuse_others(wanted: Mapping[Path, Path], archived: Path, results: Path) -> None:
    """Raise UserError where the study has another file in the place of one, or measured a run."""
    own = [target for target in wanted if target.exists() and not _holds(target, wanted[target])]
    for source in wanted.values():
        if paths.records_folder(archived) in source.parents and ".invalid-" not in source.name:
            record = results / source.relative_to(archived)
            own += [record] if record.exists() and not _holds(record, source) else []
    if own:
        raise UserError(
            f"{results} holds files of its own where those of the archive belong: "
            f"{', '.join(str(file.relative_to(results)) for file in own[:3])}. Expected a study of "
            "which nothing else was measured here. Move that folder away and import again."
        )


def _holds(file: Path, source: Path) -> bool:
    """Return whether a file is there with the bytes of another one."""
    return file.exists() and file.read_bytes() == source.read_bytes()


def _order_of(files: Iterable[Path]) -> str:
    """Return the text of the journal's order of runs, as far as records and attempts know it."""
    started: dict[int, str] = {}
    for file in files:
        record = stored.read_record(file)
        run = f"{record.model.name} {record.arm_name} {record.kind} {record.repetition}"
        started[record.position.actual] = run
    last = max(started, default=0)
    return "".join(f"{started.get(at, NO_RECORD)}\n" for at in range(1, last + 1))
