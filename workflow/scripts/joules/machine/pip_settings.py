"""Of the user's settings for pip, those that say where packages come from. No others may act.

`user`, `target`, `prefix`, `no-binary` and the like are meant for other environments and end an
installation into ours, or lead it elsewhere. They may stand in four files and in variables, where
the files' cannot be overruled one by one. So pip gets no file, and the settings that are wanted as
variables. Run as a program, this prints them for a shell. Standard library only.
"""

import ast
import os
import subprocess
import sys

SOURCES = frozenset(
    {
        *("index-url", "extra-index-url", "no-index", "find-links", "trusted-host"),
        *("cert", "client-cert", "proxy", "timeout", "default-timeout", "retries"),
        *("cache-dir", "no-cache-dir", "keyring-provider", "use-feature", "use-deprecated"),
        "disable-pip-version-check",
    }
)
SECTIONS = ("global", "download", "wheel", "install", ":env:")  # the later one wins


class Unreadable(Exception):
    """pip cannot read its own settings; the message is pip's."""


def settings_for(python: str) -> dict[str, str]:
    """Return the variables that pip of this interpreter is to get. Raises Unreadable."""
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        env={name: text for name, text in os.environ.items() if name != "PIP_PYTHON"},
    )
    if done.returncode != 0:
        raise Unreadable(done.stderr.strip() or "pip says nothing")
    found: dict[str, tuple[int, str]] = {}
    for line in done.stdout.splitlines():
        name, separator, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if separator and section in SECTIONS and key in SOURCES:
            text = str(ast.literal_eval(value))
            if text:  # pip passes over an empty one
                found[key] = max(found.get(key, (-1, "")), (SECTIONS.index(section), text))
    variables = {
        f"PIP_{key.upper().replace('-', '_')}": " ".join(value.split())
        for key, (_, value) in found.items()
    }
    return variables | {"PIP_CONFIG_FILE": os.devnull}


def environment_for(python: str) -> dict[str, str]:
    """Return this process's environment with pip's settings cut down. Raises Unreadable."""
    others = {name: text for name, text in os.environ.items() if not name.startswith("PIP_")}
    return others | settings_for(python)


def main() -> int:
    """Print `NAME=VALUE`, each ended by a NUL, for the interpreter that runs this."""
    try:
        settings = settings_for(sys.executable)
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 1
    print(*(f"{name}={value}" for name, value in settings.items()), sep="\0", end="\0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
