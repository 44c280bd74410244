"""Passwords of meters: from the environment or from a file, never from the configuration.

A configuration is kept, archived and published; so is all that follows from it.
"""

import os
from pathlib import Path
from typing import Final

from joules.core.errors import UserError
from joules.core.inference import Options

SECRET_OPTIONS: Final = ("password_env", "password_file")
NEVER: Final = ("password", "auth", "token", "secret")


def secret_of(name: str, options: Options) -> str | None:
    """Return the password that the options of the meter `name` point to; None where they do not.

    `password_env` names a variable of the environment, `password_file` a file whose first line it
    is. Raises UserError for a password in the configuration itself, for both ways at once, and for
    a variable or file that is not there; no message holds the password.
    """
    for key in NEVER:
        if key in options:
            raise UserError(
                f"The meter {name} has `{key}` in the configuration, which is archived and "
                "published. Expected `password_env`, the name of a variable, or `password_file`, "
                "the path of a file. Take it out, and change the password if the file was shared."
            )
    given = [key for key in SECRET_OPTIONS if options.get(key)]
    if len(given) > 1:
        raise UserError(
            f"The meter {name} has both `password_env` and `password_file`; expected one. "
            "Take one of them out."
        )
    if not given:
        return None
    where = str(options[given[0]])
    if given[0] == "password_env":
        found = os.environ.get(where, "")
        if not found:
            raise UserError(
                f"The meter {name} takes its password from the variable {where}, which is not set "
                f"here. Expected it in the environment. Set it: export {where}=…"
            )
        return found
    try:
        lines = Path(where).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UserError(
            f"The meter {name} takes its password from the file {where}, which cannot be read "
            f"({why}). Expected a text file with the password in its first line. Write it, "
            "readable by you alone (chmod 600)."
        ) from None
    if not lines or not lines[0].strip():
        raise UserError(
            f"The meter {name} takes its password from the file {where}, whose first line is "
            "empty. Expected the password there. Write it into the file."
        )
    return lines[0].strip()
