"""Compare the rebuilt claims of a campaign with those that docs/artifact.md states.

`make review CAMPAIGN=NAME` rebuilds them first. Each claim that differs is named. With
`--table yes`, print instead the section of docs/artifact.md that these claims make.
"""

import argparse
import sys
from collections.abc import Sequence

from joules.commands import command_line
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.core.wording import number_of
from joules.write.artifact import DOCUMENT, differences, expected_in, rows_of, section
from joules.write.claims_file import read_claims

REBUILT = "results/archive/{}/claims.json"
MINUTES = 1  # of `make review` on two cores of a virtual machine: docs/reviewing.md


def act(options: argparse.Namespace) -> int:
    """Compare or print; return 0 where all is as stated, 1 where a claim differs."""
    name = str(options.campaign)
    place = REPOSITORY / REBUILT.format(name)
    if not place.is_file():
        raise UserError(
            f"{place.relative_to(REPOSITORY)} is not there. Expected the rebuilt claims of a "
            f"campaign of data/measurements/. Run: make review CAMPAIGN={name}"
        )
    rows = rows_of(read_claims(place))
    if options.table:
        command_line.say(section(name, rows, options.minutes))
        return command_line.DONE
    document = (REPOSITORY / DOCUMENT).read_text(encoding="utf-8")
    expected = expected_in(document, name)
    different = differences(expected, rows)
    for line in different:
        command_line.say(f"differs: {line}")
    command_line.say(
        f"{number_of(len(expected), 'claim')} of {DOCUMENT} compared, {len(different)} differ"
    )
    return command_line.NOT_SO if different else command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare a campaign's claims; see `command_line` for the exit status."""
    command = command_line.Command("artifact", __doc__, "make artifact CAMPAIGN=NAME [TABLE=yes]")
    command.add_argument(
        "campaign", type=command_line.given_path, help="a folder of data/measurements/"
    )
    command.add_argument("--table", default="", help="yes: print the section instead")
    command.add_argument(
        "--minutes", type=int, default=MINUTES, help="that `make review` takes, for the table"
    )
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
