"""What all commands have in common: arguments, errors, exit status, and a reader that stops early.

`python -m joules.commands.NAME` ends with 0 when it is done, with 1 when what was asked about is
not so, and with 2 for bad use or something given that cannot be used. Then one line begins with
`error: `.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from joules.core.errors import UserError
from joules.machine import surroundings

DONE, NOT_SO, BAD_USE = 0, 1, 2


class Command(argparse.ArgumentParser):
    """The command line of one command, described by its module's docstring.

    Args:
        name: of its module in this folder.
        description: the module's docstring.
        make: how `make` calls it.
        details: what bad use prints beside the usage line.
    """

    def __init__(self, name: str, description: str | None, make: str, details: str = "") -> None:
        super().__init__(
            prog=f"python -m joules.commands.{name}",
            description=description,
            epilog=f"With make: {make}\n{details}".rstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._details = details
        self._make = make

    def add_study(self) -> None:
        """Take the file of a study, or none, as `config`."""
        self.add_argument(
            "config", nargs="?", default="", help="a study's file (default: the demonstration's)"
        )

    def error(self, message: str) -> NoReturn:
        """End with status 2, the usage and one line that says what is wrong."""
        self.print_usage(sys.stderr)
        print(f"with make: {self._make}", file=sys.stderr)
        if self._details:
            print(self._details, file=sys.stderr)
        self.exit(BAD_USE, f"error: {message}\n")


def say(line: str) -> None:
    """Print a line on standard output, at once; where nobody reads it any more, do nothing."""
    try:
        print(line)
    except BrokenPipeError:
        forget_output()
    _flush()


def say_aside(line: str) -> None:
    """Print a line on standard error, at once: news and warnings, which are no result."""
    print(line, file=sys.stderr, flush=True)


def given_path(text: str) -> Path:
    """Return an argument as a path; an empty one, as `make` gives for an unset name, is refused."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; expected the name of a file or folder")
    return Path(text)


def run(
    command: Command,
    arguments: Sequence[str] | None,
    act: Callable[[argparse.Namespace], int],
) -> int:
    """Read the arguments, those of this process for None, act on them and return the exit status.

    `act` returns 0 or 1. A UserError, or a file that the system does not let it use, becomes the
    line `error: ...` and status 2.
    """
    try:
        options = command.parse_args(arguments)
    except SystemExit as end:  # for bad use and for `--help`
        _flush()
        return int(end.code or DONE)
    try:
        surroundings.check_temporary_folder()
        return act(options)
    except UserError as error:
        say_aside(f"error: {error}")
    except OSError as error:
        if error.filename is None:
            raise
        say_aside(
            f"error: {error.filename} cannot be used: {error.strerror}. Expected a file or folder "
            "that can be read, or written where results go. Correct its name or its rights."
        )
    return BAD_USE


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        forget_output()


def forget_output() -> None:
    """Let standard output go nowhere: who read it, as `head`, has closed it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
