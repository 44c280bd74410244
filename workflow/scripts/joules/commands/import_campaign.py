"""Unpack the archive of a campaign, and check every file of it.

A finished campaign then lies in a folder of MEASUREMENTS that has the archive's name, and can be
rebuilt with `make review`. The runs of an unfinished study are put back into `results/<study>/`,
and the study goes on with the command that began it; CONFIG is its file.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from joules.commands import command_line
from joules.core import imported, paths, stored
from joules.core.errors import UserError
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.plan import Run
from joules.core.reading import LoadedStudy, load_study, read_configuration
from joules.core.record import Record
from joules.core.run_parameters import check_names, run_parameters
from joules.core.wording import listed, number_of
from joules.measure import time_to_end
from joules.measure.fingerprint import instrument_sha256
from joules.write.archive import is_unfinished, unpack


def not_taken(
    loaded: LoadedStudy, run: Run, record: Record, archived: Mapping[str, object]
) -> list[str]:
    """Return in words why the study will measure an imported run anew; empty where it will not.

    `archived` is the configuration of the archive.
    """
    if run not in loaded.runs():
        return ["the plan, of which it is no run"]
    parameters = run_parameters(loaded.study, loaded.catalogue, run.model, run.arm)
    found = imported.not_as_now(record, parameters)
    if run.kind != "quality" and archived.get("problems") != loaded.study.problems:
        found.append("problems")
    return found


def checked_study(config: str, archived: Mapping[str, object]) -> LoadedStudy:
    """Return the study to put an archive's runs back into. Raises UserError for another one."""
    loaded = load_study(config or None)
    check_names(loaded.study, loaded.catalogue, paths.runtime_names(PACKAGE))
    of = archived.get("study")
    if of != loaded.study.study:
        raise UserError(
            f"The archive is of the unfinished study `{of}`, and "
            f"{config or 'the demonstration, which is read without CONFIG,'} is "
            f"`{loaded.study.study}`. Expected the configuration that the study goes on with. "
            "Give it: make import ARCHIVE=FILE CONFIG=FILE"
        )
    return loaded


def put_back(archive: Path, config: str) -> int:
    """Put the runs of an unfinished study back, say which will be measured anew, and return 0."""
    with tempfile.TemporaryDirectory() as scratch:
        archived = unpack(archive, Path(scratch))
        configuration = read_configuration(archived / paths.CONFIGURATION)
        loaded = checked_study(config, configuration)
        runs = imported.put_back(archived, loaded.results)
        unfinished = stored.read_unfinished(archived / paths.UNFINISHED)
        folder = paths.records_folder(archived)
        records = {run: stored.read_record(paths.record_path(folder, run)) for run in runs}
    note_times(paths.journal_folder(loaded.results), list(records.values()))
    command_line.say(f"imported and checked: {unfinished.told()}")
    anew = {run: not_taken(loaded, run, each, configuration) for run, each in records.items()}
    anew = {run: why for run, why in anew.items() if why}
    for run, why in anew.items():
        named = f"{run.model}, {run.arm}, {run.kind}, block {run.repetition}"
        command_line.say(f"will be measured anew, {named}, which differs in: {listed(why)}")
    taken = len(records) - len(anew)
    command_line.say(f"{number_of(taken, 'run')} will be taken, and not measured again")
    others = {each.instrument.modules_sha256 for each in records.values()} - {instrument_sha256()}
    if others and loaded.study.mixed_instruments == "refuse":
        command_line.say_aside(
            "warning: another version of the measuring code measured them. The analysis refuses to "
            "mix versions: go on with the clone's commit of then, or say `mixed_instruments: state`"
        )
    return command_line.DONE


def note_times(journal: Path, records: Sequence[Record]) -> None:
    """Note what imported runs took, by their windows, for the time to the end that is shown."""
    if not (journal / time_to_end.FILE).exists():
        for record in records:
            took_s = sum(window.duration_s for window in record.windows)
            time_to_end.note_run(journal, record, took_s)


def act(options: argparse.Namespace) -> int:
    """Import the archive and return 0."""
    if is_unfinished(options.archive):
        return put_back(options.archive, options.config)
    folder = unpack(options.archive, options.measurements)
    command_line.say(f"imported and checked: {folder}")
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Import an archive; see `command_line` for the exit status."""
    made = "make import ARCHIVE=campaign.zip [CONFIG=FILE]"
    command = command_line.Command("import_campaign", __doc__, made)
    command.add_argument(
        "archive", type=command_line.given_path, help="made by rule `archive` or by `make pack`"
    )
    command.add_argument(
        "measurements",
        type=command_line.given_path,
        nargs="?",
        default=REPOSITORY / Path(paths.archived_folder("")),
        help="the folder of all campaigns (default: data/measurements/ of this checkout)",
    )
    command.add_argument(
        "--config",
        default="",
        help="for an unfinished study, its file (default: the demonstration's)",
    )
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
