"""The folder that programs keep their caches in, where the user's own cannot be written.

Snakemake makes such a folder before it reads a Snakefile, and ends in a traceback where it cannot:
on a home that is mounted read-only, or that is not there. So this is settled as Python starts: the
environments that requirements/install.sh makes hold requirements/caches.pth, which runs this file.
Standard library only, and little of it: every start of those Pythons pays for it.
"""

import os


def writable(folder: str) -> bool:
    """Return whether files can be made in a folder; make it, as its first user would."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def named() -> str:
    """Return the folder of caches by the XDG specification; empty where there is no home."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return "" if folder.startswith("~") else folder


def settle(root: str) -> None:
    """Let this process, and all it starts, keep caches in the clone `root` where it must."""
    folder = named()
    if not folder or not writable(folder):
        os.environ["XDG_CACHE_HOME"] = os.path.join(root, ".snakemake", "cache")
