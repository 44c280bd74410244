"""One measurement per machine, whatever runs it."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOCK_FILE = Path(tempfile.gettempdir()) / "llm-runtime-energy.lock"
WAIT_S = 1.0
REMIND_S = 60.0


@contextlib.contextmanager
def measuring(report: Callable[[str], None], lock_file: Path = LOCK_FILE) -> Iterator[None]:
    """Hold the machine's measuring lock; wait, saying so, while another process holds it.

    The kernel drops the lock when its holder ends in any way, so it is never stale.
    """
    try:
        handle = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.suppress(OSError):
            os.chmod(lock_file, 0o666)
    except PermissionError:  # another user's file; a shared look is enough to lock it
        handle = os.open(lock_file, os.O_RDONLY)
    try:
        reminded = 0.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - reminded > REMIND_S:
                    reminded = time.monotonic()
                    report(f"waiting: another measurement runs on this machine ({lock_file})")
                time.sleep(WAIT_S)
        yield
    finally:
        os.close(handle)
