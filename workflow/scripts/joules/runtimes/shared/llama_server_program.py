"""llama.cpp's own server as a program: what it states of itself, and what it reads unasked.

And whether a server's program and libraries are those that were provided.
"""

import re
import subprocess
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Facts
from joules.runtimes.shared import llama_cpp_library

VERSION_TIMEOUT_S = 60.0
# It reads both, the second over the first, before its variables and arguments.
SYSTEM_WIDE = Path("/etc/llama.cpp/config.ini")
OF_HOME = ".config/llama.cpp/config.ini"


def hashes(binary: str | Path) -> Facts:
    """Return the sha256 of a server, of the libraries beside it, and of those that compute."""
    libraries = Path(binary).resolve().parent
    return {
        "binary_sha256": sha256_of(binary),
        "libraries_sha256": llama_cpp_library.libraries_sha256(libraries),
        "engine_sha256": llama_cpp_library.engine_sha256(libraries),
    }


def check_unchanged(binary: str | Path, now: Facts, provided: Facts, runtime: str) -> None:
    """Raise UserError, by name, where a sum of a server is no longer the one that was provided."""
    for name, sha256 in now.items():
        if sha256 != (then := provided.get(name)):
            raise UserError(
                f"{binary} has the {name} {sha256}; expected {then or 'one in its facts'}, as it "
                "was provided. It was changed since, or provided by an older version of this "
                f"workflow. Delete its folder and its .json file in resources/runtimes/{runtime} "
                "and run again."
            )


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
