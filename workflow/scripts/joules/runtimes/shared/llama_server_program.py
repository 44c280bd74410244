"""llama.cpp's own server as a program: what it states of itself, and what it reads unasked."""

import re
import subprocess
from pathlib import Path

from joules.core.errors import UserError

VERSION_TIMEOUT_S = 60.0
# It reads both, the second over the first, before its variables and arguments.
SYSTEM_WIDE = Path("/etc/llama.cpp/config.ini")
OF_HOME = ".config/llama.cpp/config.ini"


def stated_version(binary: str | Path, remedy: str) -> str:
    """Return the line in which a binary names its version. Raises UserError if it does not run."""
    try:
        done = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"{binary} does not run ({error}). Expected llama.cpp's llama-server. {remedy}"
        ) from error
    lines = (done.stdout + done.stderr).splitlines()
    return next((line for line in lines if line.startswith("version")), " ".join(lines))


def commit_in(stated: str) -> str | None:
    """Return the commit that such a line names; None where it names none."""
    found = re.search(r"\((?:.* commit )?(\w+)\)", stated)
    return found.group(1) if found and found[1] != "unknown" else None


def build_in(stated: str) -> int | None:
    """Return the number of llama.cpp's build that such a line names; None where it names none."""
    found = re.search(r"\(build (\d+)|version: (\d+) ", stated)
    return int(found[1] or found[2]) if found else None


def refuse_configuration(label: str) -> None:
    """Raise UserError where a file of this machine would alter the server's settings."""
    if SYSTEM_WIDE.exists():
        raise UserError(
            f"{SYSTEM_WIDE} is there, and every llama-server reads settings from it. Expected "
            f"none, so that {label} has the study's settings alone. Move it away while the study "
            "runs."
        )
