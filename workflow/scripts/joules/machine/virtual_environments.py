"""The Python environment that a runtime's packages lie in: `.venvs/<name>`, or this one."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from joules.core.errors import UserError

INSTALL = ("bash", "requirements/install.sh")  # by bash: an archive may have lost the run bits


def python_of(name: str) -> str:
    """Return the Python interpreter that has the packages of the runtime `name`.

    That is `.venvs/<name>` below the working directory where it exists, else this interpreter.
    """
    own = Path(".venvs") / name / "bin" / "python"
    return str(own.absolute()) if own.exists() else sys.executable


def command(name: str) -> str:
    """Return the command that makes the environment of the runtime `name`."""
    own = Path(f"requirements/runtime-{name}.txt").exists()
    return f"make runtime NAME={name}" if own else f"{' '.join(INSTALL)} main"


def is_here(package: str) -> bool:
    """Return whether this interpreter has the package, as in a conda environment."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def make(name: str) -> None:
    """Make `.venvs/<name>`, unless it is up to date. Raises UserError when it cannot be made."""
    done = subprocess.run([*INSTALL, "runtime", name], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(
            f"The environment of the runtime {name} could not be made: "
            f"{done.stderr.strip() or 'no message'} Expected .venvs/{name}. Put that right "
            f"and run: {command(name)}"
        )


def provide(name: str, package: str, version: str, here: bool | None = None) -> None:
    """Make `.venvs/<name>` where requirements name one, and check the version of `package` in it.

    Nothing is made where this interpreter has the package (`here`, where that is known better), or
    the environment is up to date. Raises UserError when it cannot be made or the version is not
    `version`.
    """
    here = is_here(package) if here is None else here
    if Path(f"requirements/runtime-{name}.txt").exists() and not here:
        make(name)
    found = _installed(python_of(name), package)
    if found != version:
        raise UserError(
            f"{package} {found or 'not at all'} is installed for the runtime {name}; expected "
            f"{version}, as runtime_options.{name}.version says. Correct it, or install that "
            f"version: {command(name)}"
        )


def _installed(python: str, package: str) -> str | None:
    """Return the version of a package by this Python; None where it has none.

    Raises UserError where that Python cannot be run, which is another fault than a missing package.
    """
    code = (
        "import importlib.metadata as known, sys\n"
        "try:\n    print(known.version(sys.argv[1]))\n"
        "except known.PackageNotFoundError:\n    pass\n"
    )
    try:
        done = subprocess.run([python, "-I", "-c", code, package], capture_output=True, text=True)
    except OSError as error:
        said = error.strerror
    else:
        if done.returncode == 0:
            return done.stdout.strip() or None
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise UserError(
        f"{python} cannot be run ({said}). Expected a Python with {package}. Likely the one it "
        "was made from is gone: delete its environment and run again, so that it is made anew."
    )
