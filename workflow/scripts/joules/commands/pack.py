"""Pack what is there of an unfinished study, to go on with it in another clone or another day.

Writes `results/<study>/archive/<campaign>.unfinished.zip`, which says of itself what is missing;
`make import` puts its runs back. A finished study is packed by `make all`.
"""

import argparse
import sys
from collections.abc import Sequence

from joules.commands import command_line
from joules.core import paths
from joules.core.places import PACKAGE
from joules.core.reading import load_study
from joules.core.run_parameters import check_names
from joules.write.unfinished import pack_unfinished


def act(options: argparse.Namespace) -> int:
    """Pack the study, say what is missing, and return 0."""
    loaded = load_study(options.config or None)
    check_names(loaded.study, loaded.catalogue, paths.runtime_names(PACKAGE))
    citation = loaded.root / "CITATION.cff"
    packed = pack_unfinished(loaded, citation, command_line.say_aside)
    command_line.say(f"packed: {packed.target.relative_to(loaded.root)}")
    command_line.say(packed.unfinished.told())
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack an unfinished study; see `command_line` for the exit status."""
    command = command_line.Command("pack", __doc__, "make pack [CONFIG=FILE]")
    command.add_study()
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
