"""Register the plan of a study before anything is measured: what is compared, and how.

Writes `results/<study>/registration.json`. Once a run was finished the plan stays as it was
registered; without this command, the first run registers it.
"""

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from joules.commands import command_line
from joules.core import paths, registering, stored
from joules.core.errors import UserError
from joules.core.places import PACKAGE
from joules.core.reading import LoadedStudy, load_study
from joules.core.registration import Plan, Registered, differing, registration_of
from joules.core.run_parameters import check_names
from joules.core.sense import check_sense
from joules.core.wording import listed
from joules.inputs.study_plan import study_plan


def plan_of(loaded: LoadedStudy) -> Plan:
    """Return the plan of a study that can end. Raises UserError with what keeps it from that."""
    check_names(loaded.study, loaded.catalogue, paths.runtime_names(PACKAGE))
    check_sense(loaded.study, loaded.catalogue, loaded.root)
    return study_plan(loaded.study, loaded.catalogue, loaded.root)


def check_free(study: str, results: Path, mark: Registered | None, plan: Plan) -> None:
    """Raise UserError where runs were measured that another plan, or none, was registered for."""
    if not registering.is_measured(results):
        return
    if mark is None:
        raise UserError(
            f"The first run of `{study}` was measured without a registered plan, so none can be "
            "registered any more. Expected a study of which nothing was measured. Give the new "
            "study another name, register it, and measure."
        )
    changed = differing(mark, plan)
    if changed:
        raise UserError(
            f"`{study}` was registered on {mark.registered_on} and runs were measured; this plan "
            f"differs in {listed(changed)}. The registration stays. Go on with this configuration, "
            "and the article names what differs; or give the study another name and register that."
        )


def act(options: argparse.Namespace) -> int:
    """Register the study and print the hash and the date."""
    loaded = load_study(options.config or None)
    study, results = loaded.study.study, loaded.results
    plan = plan_of(loaded)
    file, mark = paths.registration_file(results), registering.mark_of_study(results)
    check_free(study, results, mark, plan)
    changed = differing(mark, plan) if mark else []
    new = registering.to_register(results, study, plan)
    if mark and changed:  # nothing was measured yet
        new = registration_of(study, plan, datetime.datetime.now(datetime.UTC))
        command_line.say(
            f"replaces the plan of {mark.registered_on}, from which it differs in {listed(changed)}"
        )
    if new:
        stored.write_registration(file, new)
        mark = new.registered
    assert mark is not None
    command_line.say(f"plan        {mark.sha256}")
    command_line.say(f"registered  {mark.registered_on}")
    command_line.say(f"readable    {file.relative_to(loaded.root)}")
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Register a study; see `command_line` for the exit status."""
    command = command_line.Command("register", __doc__, "make register [CONFIG=FILE]")
    command.add_study()
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
