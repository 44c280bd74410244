"""Unpack the archive of a campaign, and check every file of it.

The campaign then lies in a folder of MEASUREMENTS that has the archive's name, and can be rebuilt
with `make review`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from joules.commands import command_line
from joules.core.paths import archived_folder
from joules.core.places import REPOSITORY
from joules.write.archive import unpack


def act(options: argparse.Namespace) -> int:
    """Import the archive and return 0."""
    folder = unpack(options.archive, options.measurements)
    command_line.say(f"imported and checked: {folder}")
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Import an archive; see `command_line` for the exit status."""
    command = command_line.Command("import_campaign", __doc__, "make import ARCHIVE=campaign.zip")
    command.add_argument(
        "archive", type=command_line.given_path, help="a file that rule `archive` made"
    )
    command.add_argument(
        "measurements",
        type=command_line.given_path,
        nargs="?",
        default=REPOSITORY / Path(archived_folder("")),
        help="the folder of all campaigns (default: data/measurements/ of this checkout)",
    )
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
