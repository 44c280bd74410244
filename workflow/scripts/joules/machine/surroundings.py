"""What of the user's surroundings reaches a library before the study does, and what becomes of it.

Libraries, Python and the shell read variables and files of the user's own accord. Each that could
alter what is measured, or stop a study half-way, is a member of one list here: it is taken away
before any library is loaded, replaced by a place in the clone, or refused by its name while nothing
has been measured. The runtimes see none of it: `processes.minimal_environment` names the few
variables that they get. Standard library only.
"""

import contextlib
import fnmatch
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from joules.core.errors import UserError
from joules.machine import caches
from joules.machine.asking import known

# What a shell pattern says of the names, and who would read them.
TAKEN_AWAY = {
    "MATPLOTLIBRC": "matplotlib",
    "PYTHON*": "Python: search path, warnings that become errors, assertions left out, tracing",
    "SCIPY_ARRAY_API": "scipy, which then refuses tables",
    "NPY_*": "numpy",
    "PANDAS_*": "pandas",
    "BASH_ENV": "bash, which runs it before every script",
    "CDPATH": "bash: `cd` may go elsewhere, and says so on standard output",
}
STAY = (
    "PYTHON",
    "PYTHONUTF8",
    "PYTHONPYCACHEPREFIX",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
)
# Names a file or folder of certificates; one that is not there would end the first transfer.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# What clients of servers on this machine read when they are imported. Downloads need the proxies.
OF_CLIENTS = ("*_PROXY", "*_proxy", *CERTIFICATES, "SSLKEYLOGFILE")
OF_CODECARBON = ("CODECARBON_*",)
REFUSED = {  # by Snakefile, which cannot undo what they did
    "SNAKEMAKE_PROFILE": "Snakemake lays this profile over the study's configuration and limits",
}
KEPT = Path(".snakemake")  # of the clone, and ignored by git: what libraries keep goes there
ODD_IN_PATHS = " \t\n\"'`$\\&|;<>(){}*?:"
PROBE_BYTES = 1 << 20


def matching(patterns: Sequence[str]) -> list[str]:
    """Return the variables of this process that are set and match one of the patterns."""
    return sorted(
        name
        for name, value in os.environ.items()
        if value and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    )


def settle(root: Path) -> None:
    """Take away, or replace, what must reach no library; for this process and all it starts.

    `root` is the clone. To be called before libraries are loaded.
    """
    for name in {*matching(list(TAKEN_AWAY))} - {*STAY}:
        del os.environ[name]
    for name in matching(CERTIFICATES):
        if not all(map(os.path.exists, os.environ[name].split(os.pathsep))):
            del os.environ[name]
    kept = root.absolute() / KEPT
    os.environ["MPLCONFIGDIR"] = str(kept / "matplotlib")
    os.environ["MPLBACKEND"] = "agg"  # for files; a notebook's exists in the notebook alone
    if known(Path.home) is None:  # no HOME, and no entry of this user: pathlib raises
        os.environ["HOME"] = str(kept / "home")
    caches.settle(str(root.absolute()))


def refuse() -> None:
    """Raise UserError for the first variable that changed the study from outside."""
    for name in matching(list(REFUSED)):
        reason = REFUSED[name]
        raise UserError(
            f"The variable {name} is set ({os.environ[name]}): {reason}. Expected all settings in "
            f"this study's configuration and in profiles/default. Unset it and run again: "
            f"unset {name}"
        )


def homes_file(name: str) -> list[Path]:
    """Return a hidden file of the home and of the working folder, where it is there."""
    folders = [folder for folder in (known(Path.home), Path.cwd()) if folder is not None]
    return [folder / name for folder in folders if known((folder / name).exists)]


def check_temporary_folder() -> None:
    """Raise UserError where TMPDIR, or the system's own folder, takes no temporary file."""
    named = os.environ.get("TMPDIR")
    try:
        with tempfile.TemporaryFile(dir=named or None) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        where = f"TMPDIR names {named}, which" if named else "The system's folder for them"
        raise UserError(
            f"No temporary file can be written: {where} cannot be used ({error.strerror}). "
            "Expected a folder that exists, is not full and can be written. Free space there, or "
            "name another: export TMPDIR=/path/to/folder"
        ) from error


def check_paths(root: Path, interpreter: str = sys.executable) -> None:
    """Raise UserError where the clone or its Python lie in a folder that a shell would take apart.

    Snakemake starts every script with the interpreter's path as it is, without quotes.
    """
    for what, path in (("This clone", str(root)), ("Its Python", interpreter)):
        odd = sorted(set(ODD_IN_PATHS) & set(path))
        if odd:
            raise UserError(
                f"{what} lies in {path}, whose name holds {' '.join(map(repr, odd))}. Expected a "
                "path without white space and without signs that a shell reads: Snakemake hands "
                "it to one. Move or clone it to another folder and run again."
            )


@contextlib.contextmanager
def hidden_from_clients(*own: str) -> Iterator[None]:
    """Hide the user's proxies, hosts and certificates while a client is imported.

    A client of a server on this machine needs none, and some read them at their import: a proxy of
    a kind that they do not know, or a host that is no address, then ends the run. `own` are
    patterns of the client's own variables.
    """
    hidden = {name: os.environ.pop(name) for name in matching([*OF_CLIENTS, *own])}
    try:
        yield
    finally:
        os.environ.update(hidden)
