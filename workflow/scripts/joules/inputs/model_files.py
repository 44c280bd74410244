"""The model files of the catalogue, put into their place once they are checked."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from filelock import FileLock

from joules.core.catalogue import FILE as CATALOGUE
from joules.core.catalogue import Source
from joules.core.errors import UserError
from joules.core.files import sha256_of, to_json, write_atomic
from joules.core.places import REPOSITORY
from joules.inputs.gguf_facts import MAGIC
from joules.machine.download import Pin, check_space, download, for_people, forget, full_disk

SLOW_BYTES = 100_000_000  # from here on, checking is worth a line of its own


def fetch(
    name: str,
    source: Source,
    target: Path,
    *,
    trust_on_first_use: bool = False,
    lock_file: Path,
    report: Callable[[str], None] = print,
) -> None:
    """Put the GGUF file that `source` of the catalogue names at `target`, or leave `target` alone.

    A `url` is downloaded to `<target>.part`, which a later call resumes. A `path` is hard linked,
    or copied where that is not possible. The file gets its final name only once its size, sha256
    and GGUF magic are as expected. A file whose sha256 is not known is refused unless
    `trust_on_first_use`; then what came is pinned in `lock_file`, and every later call must get
    the same bytes.

    Raises UserError for a missing, refused or wrong file, a failing connection or a full disk.
    """
    origin = source.url or str(REPOSITORY / (source.path or ""))
    pin = _pin(name, source, origin, lock_file)
    if pin.sha256 is None and not trust_on_first_use:
        raise UserError(
            f"{name}: the sha256 of {origin} is not known, so what comes could not be checked. "
            f"Add `sha256` to its entry in {CATALOGUE}, or set `trust_on_first_use: true` in the "
            f"config to take the file as it is and pin it in {lock_file}."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{target}.part")
    if source.url is not None:
        status = download(name, origin, part, pin, report)
        origin_and_status = f"{origin} (HTTP status {status})"
    else:
        _take(name, Path(origin), part)
        origin_and_status = origin
    sha256 = _check(name, part, pin, origin_and_status, report)
    if pin.sha256 is None:
        _lock(name, origin, sha256, part.stat().st_size, lock_file)
        report(f"fetch {name}: trusted on first use, pinned in {lock_file}")
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    forget(part)  # rename leaves both names where they are one file already
    report(f"fetch {name}: {target} is complete, sha256 {sha256}")


class LockedFile(msgspec.Struct, frozen=True):
    """A file that was trusted on first use: what came then must come again."""

    sha256: str
    bytes: int
    url: str


def locked_files(lock_file: Path) -> dict[str, LockedFile]:
    """Return the files that were trusted on first use, by model. Raises UserError for another file.

    `lock_file` is JSON: name to sha256, bytes and url. There are none where it is missing.
    """
    try:
        return msgspec.json.decode(lock_file.read_bytes(), type=dict[str, LockedFile])
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError as error:
        raise UserError(
            f"{lock_file} does not hold sha256, bytes and url of each model ({error}). Expected "
            "what was written there on first use. Restore it, or delete it to trust anew."
        ) from error


def _pin(name: str, source: Source, origin: str, lock_file: Path) -> Pin:
    """Return the expected sha256 and size, from the catalogue or else from the lock file."""
    locked = None if source.sha256 else locked_files(lock_file).get(name)
    if locked is not None and locked.url == origin:
        return Pin(locked.sha256, locked.bytes, str(lock_file))
    return Pin(source.sha256, source.bytes, CATALOGUE)


def _lock(name: str, origin: str, sha256: str, size: int, lock_file: Path) -> None:
    """Add a file to the lock file; downloads that run side by side wait for each other."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{lock_file}.lock"):
        locked = {**locked_files(lock_file), name: LockedFile(sha256, size, origin)}
        write_atomic(lock_file, to_json(msgspec.to_builtins(locked)))


def _take(name: str, source: Path, part: Path) -> None:
    """Make `part` a hard link to `source`, or a copy where a link is not possible."""
    if not source.is_file():
        raise UserError(
            f"{name}: there is no file {source}. Expected the GGUF file of this model. "
            f"Put it there or correct `path` in its entry in {CATALOGUE} or under the study's "
            "`catalogue`."
        )
    source = source.resolve()  # a link to a symbolic link would break when that is moved
    forget(part)
    try:
        os.link(source, part)
    except OSError:
        check_space(name, part.parent, source.stat().st_size)
        with full_disk(part):
            shutil.copyfile(source, part)


def _check(name: str, part: Path, pin: Pin, origin: str, report: Callable[[str], None]) -> str:
    """Return the sha256 of a complete part file; remove it and raise UserError if it is wrong."""
    size = part.stat().st_size
    if size >= SLOW_BYTES:
        report(f"fetch {name}: checking the sha256 of {for_people(size)}")
    sha256 = sha256_of(part)
    with open(part, "rb") as file:
        head = file.read(16)
    wrong = []
    if pin.size is not None and size != pin.size:
        wrong.append(f"expected {pin.size} bytes, got {size}")
    if pin.sha256 is not None and sha256 != pin.sha256:
        wrong.append(f"expected sha256 {pin.sha256}, got {sha256} ({size} bytes)")
    if not head.startswith(MAGIC):
        wrong.append(f"expected a GGUF file, which begins with {MAGIC!r}, got {head!r}")
    if not wrong:
        return sha256
    forget(part)
    raise UserError(
        f"{name}: wrong bytes from {origin}: {'; '.join(wrong)}. They were not kept. Expected is "
        f"what {pin.source} says. Try again; if it stays so, the file was changed there: find out "
        "why, and only then correct the entry."
    )
