"""One measurement per machine, whatever runs it.

The lock lies at fixed places, which no variable of a user moves. The kernel drops its lock when the
holder ends in any way, so it is never stale. Where a file system cannot lock (network disks), a
file that only one process can make takes its place; it names its holder by boot, process id and
start, so that one whose holder has ended is known.

`filelock` would not do: it opens another user's file for writing, which is refused in /tmp
(fs.protected_regular), knows only one of the errors below, and takes a process id alone, which is
used again, for its holder.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from joules.core.errors import UserError
from joules.machine import identity

NAME = "llm-runtime-energy.lock"
# All that can be written are held, always in this order. Some systems give /tmp, or /tmp and
# /dev/shm, to each user, job or service anew; some have no /run/lock, or let only root write there.
PLACES = (Path("/run/lock") / NAME, Path("/dev/shm") / NAME, Path("/tmp") / NAME)
# Where none of them can be had: other users of the machine do not see this one.
OF_USER = Path(f"/run/user/{os.getuid()}") / NAME
WAIT_S = 1.0
REMIND_S = 60.0
CANNOT_LOCK = (
    *(errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL),
)

Report = Callable[[str], None]


class _Waiting:
    """Waits a little, and says now and then for what."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._reminded_s = -REMIND_S

    def wait(self, line: str) -> None:
        if time.monotonic() - self._reminded_s >= REMIND_S:
            self._reminded_s = time.monotonic()
            self._report(line)
        time.sleep(WAIT_S)


def _opened(place: Path) -> int:
    """Open a lock file that any user may have made. Raises OSError where there can be none."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(place, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except PermissionError:  # another user's file; a look is enough to lock it
        return os.open(place, os.O_RDONLY | flags)
    with contextlib.suppress(OSError):
        os.fchmod(handle, 0o666)
    return handle


def _is_at(handle: int, place: Path) -> bool:
    """Return whether an open file still lies at its place: files in /tmp are cleaned away."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(place))
    except FileNotFoundError:
        return False


def _locked(place: Path, waiting: _Waiting) -> int:
    """Return the open and locked file at a place. Raises OSError where it cannot be had."""
    while True:
        handle = _opened(place)
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waiting.wait(f"waiting: another measurement runs on this machine ({place})")
            if _is_at(handle, place):
                with contextlib.suppress(OSError):
                    os.utime(handle)  # it is in use: not to be cleaned away for its age
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _hold(place: Path, held: contextlib.ExitStack, waiting: _Waiting, report: Report) -> None:
    """Hold the lock at one place until `held` ends. Raises OSError where there can be no file."""
    try:
        held.callback(os.close, _locked(place, waiting))
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        claim = _claim_of(place)
        report(
            f"{place} cannot be locked on its file system ({error.strerror}); {claim.name} beside "
            "it is used instead"
        )
        held.enter_context(_claiming(claim, waiting))


def _claim_of(place: Path) -> Path:
    """Return the file that stands for the lock, of this boot: machines may share the disk."""
    return place.with_name(f"{place.name}.{identity.boot_id()}")


def _ended(claim: str) -> bool:
    """Return whether the holder that a claim names has ended, as far as it can be seen."""
    words = claim.split()
    if len(words) != 3 or not (words[0].isdigit() and words[1].isdigit()):
        return False
    pid, namespace = int(words[0]), words[2]
    if namespace != _own_namespace():
        return False
    ticks = identity.start_ticks(pid)
    if ticks is None:
        try:
            os.kill(pid, 0)
        except PermissionError:  # it runs, and /proc hides the processes of other users
            return False
        except ProcessLookupError:
            pass
    return ticks != int(words[1])


def _own_namespace() -> str:
    return identity.pid_namespace() or "-"


def _made(path: Path, content: str) -> bool:
    """Make a file of this content, whole at once, unless it is there."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(content)
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(content)
    finally:
        part.unlink(missing_ok=True)
    return True


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


@contextlib.contextmanager
def _claiming(path: Path, waiting: _Waiting) -> Iterator[None]:
    """Hold the lock by a file that only one process can make."""
    own = f"{os.getpid()} {identity.start_ticks(os.getpid())} {_own_namespace()}"
    while True:
        if _made(path, own):
            # Who takes away a stale claim may hit this one instead, and puts it back or not.
            time.sleep(WAIT_S)
            if _text(path) == own:
                break
            continue
        held = _text(path)
        if held is not None and _ended(held) and _taken_away(path, held):
            continue
        waiting.wait(
            f"waiting: another measurement runs on this machine ({path}). If none does, "
            "delete that file"
        )
    try:
        yield
    finally:
        if _text(path) == own:
            path.unlink(missing_ok=True)


def _taken_away(path: Path, stale: str) -> bool:
    """Remove a stale claim and none that came in its place; return whether that was allowed."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True
    except PermissionError:  # another user's, in a folder like /tmp
        return False
    taken = _text(aside)
    aside.unlink()
    if taken is not None and taken != stale:
        _made(path, taken)
    return True


@contextlib.contextmanager
def measuring(
    report: Report, places: Sequence[Path] = PLACES, of_user: Path = OF_USER
) -> Iterator[list[Path]]:
    """Hold the machine's measuring lock; wait, saying so, while another process holds it.

    Yields the files that are held: of `places` all that can be had, and where there is none,
    `of_user`, which is said. Raises UserError where no file can be made at any of them.
    """
    waiting, refused, had = _Waiting(report), [], list[Path]()
    with contextlib.ExitStack() as held:
        for place in (*places, of_user):
            if place == of_user and had:
                break
            try:
                _hold(place, held, waiting, report)
                had.append(place)
            except OSError as error:
                refused.append(f"{place} ({error.strerror})")
        if had == [of_user]:
            report(
                f"the lock of this machine is {of_user}, since no other place can be had; "
                "measurements of other users do not wait for it"
            )
        if not had:
            raise UserError(
                f"The lock of this machine can be had nowhere: {', '.join(refused)}. Expected one "
                "file that every user can open, or two measurements could run side by side. "
                "Make one of these folders writable for all, as /tmp is (mode 1777)."
            )
        yield had
