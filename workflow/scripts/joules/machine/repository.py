"""What git knows of this checkout: its commit, whether all is committed, and the files of it."""

import os
import subprocess
from pathlib import Path

from joules.core.errors import UserError
from joules.core.places import REPOSITORY

SHOWN = 5  # names of changed files in a refusal


def git(*arguments: str, repository: Path = REPOSITORY) -> bytes:
    """Return what git prints for the repository, without the user's own settings of git.

    Raises UserError where git is missing, or refuses.
    """
    # The user's GIT_DIR and the like would have git look elsewhere.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    settings = ["-c", f"safe.directory={repository}"]  # whoever owns the checkout
    settings += ["-c", "core.autocrlf=false", "-c", "tar.umask=0022"]
    command = ["git", *settings, "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, env=own)
    except FileNotFoundError as error:
        raise UserError(
            "git is not installed, or not on the PATH. Expected git, which this command asks for "
            "the committed files. Install it."
        ) from error
    if done.returncode:
        raise UserError(
            f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}. Expected "
            f"a git repository in {repository}. Work in a clone of the repository."
        )
    return done.stdout


def clean_commit(repository: Path = REPOSITORY) -> str:
    """Return the hash of the commit that the files here are, all of them.

    Raises UserError outside a repository of its own, and where a file was changed or is not
    committed: then what lies here has no name.
    """
    top = git("rev-parse", "--show-toplevel", repository=repository).decode().strip()
    if Path(top).resolve() != repository.resolve():
        raise UserError(
            f"{repository} lies in another repository ({top}). Expected a clone of its own. Clone "
            "it, and give the command there."
        )
    changed = git("status", "--porcelain", repository=repository).decode().splitlines()
    if changed:
        names = ", ".join(line[3:] for line in changed[:SHOWN])
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise UserError(
            f"Not all of {repository} is committed: {names}{more}. Expected a checkout in which "
            "nothing was changed or added. Commit it or put it aside, and give the command again."
        )
    return git("rev-parse", "HEAD", repository=repository).decode().strip()


def committed_files(prefix: str, repository: Path = REPOSITORY) -> bytes:
    """Return all files of the commit as a tar archive, below the folder `prefix`.

    The archive bears the commit's date: a commit gives equal bytes everywhere. Raises UserError.
    """
    return git("archive", "--format=tar", f"--prefix={prefix}/", "HEAD", repository=repository)
