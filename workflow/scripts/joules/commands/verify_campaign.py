"""Check that every file of an archived campaign is what was archived.

Each file that is missing, changed or not listed is named. The archive of an unfinished study is
refused with what it lacks.
"""

import argparse
import sys
from collections.abc import Sequence

from joules.commands import command_line
from joules.core.reading import refuse_unfinished
from joules.write.archive import NotAsArchived, verify


def act(options: argparse.Namespace) -> int:
    """Check the campaign; return 0 when every file is as archived, 1 when one is not."""
    try:
        verify(options.folder)
        refuse_unfinished(options.folder)
    except NotAsArchived as error:
        command_line.say_aside(f"error: {error}")
        return command_line.NOT_SO
    command_line.say(f"every file is what was archived: {options.folder}")
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a campaign; see `command_line` for the exit status."""
    command = command_line.Command("verify_campaign", __doc__, "make review CAMPAIGN=NAME")
    command.add_argument(
        "folder", type=command_line.given_path, help="a folder of data/measurements/"
    )
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
