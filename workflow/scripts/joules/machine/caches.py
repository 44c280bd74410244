"""The folder that programs keep their caches in, where the user's own cannot be written.

Snakemake makes such a folder before it reads a Snakefile, and ends in a traceback where it cannot:
on a home that is mounted read-only, or that is not there. So this is settled as Python starts: the
environments that requirements/install.sh makes hold requirements/caches.pth, which runs this file.
Standard library only, and little of it: every start of those Pythons pays for it.
"""

import os


def writable(folder: str) -> bool:
    """Return whether files can be made in a folder, or else whether the folder can be made.

    The latter is tried, since root may be allowed what the file system refuses, and leaves nothing:
    a process that keeps no cache makes none in the home that it was given.
    """
    if os.path.lexists(folder):
        return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
    above = os.path.dirname(folder)
    while above and not os.path.lexists(above):
        above = os.path.dirname(above)
    trial = os.path.join(above, f".caches-{os.getpid()}")
    try:
        os.mkdir(trial)
        os.rmdir(trial)
    except OSError:
        return False
    return True


def named() -> str:
    """Return the folder of caches by the XDG specification; empty where there is no home."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return "" if folder.startswith("~") else folder


def settle(root: str) -> None:
    """Let this process, and all it starts, keep caches in the clone `root` where it must."""
    folder = named()
    if not folder or not writable(folder):
        os.environ["XDG_CACHE_HOME"] = os.path.join(root, ".snakemake", "cache")
