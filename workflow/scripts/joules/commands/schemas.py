"""Write workflow/schemas/ from the types: one JSON schema per kind of stored or configured file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from joules.commands import command_line
from joules.core.catalogue import models_schema
from joules.core.files import write_atomic
from joules.core.keys import Schema
from joules.core.places import REPOSITORY
from joules.core.stored import KINDS, schema_of
from joules.core.study import configuration_schema

FOLDER = REPOSITORY / "workflow/schemas"


def schemas() -> dict[str, Schema]:
    """Return every schema under its kind: what is configured, and what is stored."""
    stored = {kind: schema_of(kind) for kind in KINDS}
    if KINDS["attempt"].parts == KINDS["record"].parts:
        of_attempt = {key: stored["attempt"][key] for key in ("$schema", "title", "description")}
        stored["attempt"] = of_attempt | {"$ref": "record.schema.yaml"}
    return {"configuration": configuration_schema(), "models": models_schema(), **stored}


def texts() -> dict[str, str]:
    """Return file name -> content of every schema; equal types give equal text."""
    head = "# Generated from the types of joules.core by `make schemas`. Do not edit.\n"
    return {
        f"{kind}.schema.yaml": head
        + yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=100)
        for kind, schema in schemas().items()
    }


def write(folder: Path = FOLDER) -> list[Path]:
    """Write every schema into `folder`; return the files."""
    written = [folder / name for name in texts()]
    for path, text in zip(written, texts().values(), strict=True):
        write_atomic(path, text)
    return written


def act(options: argparse.Namespace) -> int:
    """Write every schema and print where."""
    for path in write():
        command_line.say(str(path.relative_to(REPOSITORY)))
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schemas; see `command_line` for the exit status."""
    command = command_line.Command("schemas", __doc__, "make schemas")
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
