"""Downloads that resume, check free space first and keep nothing wrong.

Bytes are collected in `<target>.part`; beside it, `<target>.part.json` holds the address and the
ETag they belong to. Both stay when a transfer breaks off, and the next one goes on from there.

This is our own because pooch begins anew when a transfer breaks off, and huggingface_hub serves
addresses of its hub alone. Neither asks by If-Range whether the rest belongs to what came, refuses
to start where the disk is too small, and leaves alone a file of the user's that is hard linked.
"""

import contextlib
import errno
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import read_json, write_json

ATTEMPTS = 6  # that bring less than PROGRESS_BYTES between them; then a download is given up
PROGRESS_BYTES = 1_000_000
BACKOFF_S = 1.0  # doubled by every such attempt
CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 60.0  # without one byte
CHUNK_BYTES = 1 << 16  # at most this much is lost when a connection is cut
REPORT_EVERY_S = 5.0
MARGIN_SHARE = 0.05  # of the file, left free on the disk
MARGIN_BYTES = 500_000_000  # at least


@dataclass(frozen=True)
class Pin:
    """The sha256 and size in bytes that a file must have, where known, and who says so."""

    sha256: str | None
    size: int | None
    source: str


@dataclass(frozen=True)
class Origin:
    """What the bytes of a part file belong to, as it is kept beside them."""

    url: str
    etag: str


class Cut(Exception):
    """A transfer that ended early and may be tried again."""


def download(name: str, url: str, part: Path, pin: Pin, report: Callable[[str], None]) -> int:
    """Bring the whole of `url` into `part`, over as many connections as it takes.

    Returns the HTTP status of the last answer. The bytes are not checked here beyond their number.
    Raises UserError when the address does not serve the file, its size is not as `pin` says, the
    disk is too small, or too many attempts in a row bring too little.
    """
    import requests

    failures, largest = 0, _size_of(part)
    while True:
        try:
            with full_disk(part):
                return _receive(name, url, part, pin, report)
        except (requests.RequestException, Cut) as error:
            size = _size_of(part)
            failures += 1
            if size >= largest + PROGRESS_BYTES:
                failures, largest = 0, size
            if failures >= ATTEMPTS:
                raise UserError(
                    f"{name}: {url} could not be downloaded: {error}. The last {ATTEMPTS} attempts "
                    f"brought next to nothing; {for_people(size)} are kept in {part}. Check the "
                    "network and the address, then run the same command again: it resumes."
                ) from error
            pause = BACKOFF_S * 2 ** max(failures - 1, 0)
            report(f"fetch {name}: {error}; next attempt in {pause:.0f} s")
            time.sleep(pause)


def forget(part: Path) -> None:
    """Remove a part file. It is never truncated: it may be a hard link to a file of the user's."""
    part.unlink(missing_ok=True)
    notes(part).unlink(missing_ok=True)


def notes(part: Path) -> Path:
    """Return the file that says which address and ETag a part file belongs to."""
    return Path(f"{part}.json")


def check_space(name: str, folder: Path, needed: int) -> None:
    """Raise UserError when `needed` bytes and a margin do not fit into `folder`."""
    margin = max(int(needed * MARGIN_SHARE), MARGIN_BYTES)
    free = shutil.disk_usage(folder).free
    if needed + margin > free:
        raise UserError(
            f"{name}: {for_people(needed)} are to be written to {folder} and {for_people(margin)} "
            f"are to stay free, but only {for_people(free)} are free. Free at least "
            f"{for_people(needed + margin - free)} and run the same command again."
        )


@contextlib.contextmanager
def full_disk(part: Path) -> Iterator[None]:
    """Turn the error of a disk that is full after all into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk is full: {part} could not be written further. Expected room for the whole "
            "file. What came is kept. Free some space and run the same command again."
        ) from error


def for_people(count: int) -> str:
    """Return a number of bytes with a unit that suits its size."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count} bytes"


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(name: str, url: str, part: Path, pin: Pin, report: Callable[[str], None]) -> int:
    """Append to `part` what one connection brings; return its HTTP status when all is there.

    Ranges and validators: RFC 9110, sections 13.1.5 (If-Range) and 14 (Range, 206, 416).
    Raises Cut or requests.RequestException when the transfer may be tried again.
    """
    import requests

    start, etag = _resumable(url, part, pin)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag:
            headers["If-Range"] = etag
    timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        status = answer.status_code
        content_range = answer.headers.get("Content-Range", "")
        if status == 416:
            if content_range == f"bytes */{start}":
                return status  # all was there already
            forget(part)
            raise Cut("the server's file is shorter than what was kept, so that was dropped")
        _refuse(name, url, status)
        if status == 206 and not content_range.startswith(f"bytes {start}-"):
            forget(part)
            raise Cut(f"the server sent {content_range!r} instead of byte {start} onwards")
        if status == 200:
            if start:
                report(f"fetch {name}: the server sends the file from its beginning again")
            forget(part)
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else pin.size
        if pin.size is not None and total != pin.size:
            forget(part)
            raise UserError(
                f"{name}: {url} (HTTP status {status}) is {total} bytes long; expected "
                f"{pin.size} bytes as {pin.source} says. Nothing was kept. Check the address and "
                "the revision in the entry."
            )
        check_space(name, part.parent, (total or start) - start)
        write_json(notes(part), asdict(Origin(url, answer.headers.get("ETag", ""))))
        size = start
        progress = _progress(name, start, total, report)
        with open(part, "ab") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
                size += len(chunk)
                progress(size)
                if total is not None and size > total:
                    break  # too long already; whoever checks the size refuses it
        if total is not None and size < total:
            raise Cut(f"the connection ended after {size} of {total} bytes")
        return status


def _resumable(url: str, part: Path, pin: Pin) -> tuple[int, str]:
    """Return how many bytes of `part` may be kept, and the strong ETag they belong to.

    They are kept if they come from the same address and it can be told whether the file there is
    still the same: by its ETag, or in the end by a known sha256.
    """
    if part.exists() and notes(part).exists():
        known = Origin(**read_json(notes(part)))
        etag = "" if known.etag.startswith("W/") else known.etag
        if known.url == url and (etag or pin.sha256):
            return _size_of(part), etag
    forget(part)
    return 0, ""


def _refuse(name: str, url: str, status: int) -> None:
    """Raise UserError for a status that will not change, Cut for one that may."""
    if status in (200, 206):
        return
    if status in (408, 425, 429) or status >= 500:
        raise Cut(f"the server answered with HTTP status {status}")
    closed = "The file may not be public, or its licence may have to be accepted there first"
    cause = {
        401: closed,
        403: closed,
        404: "The revision or the file name may be wrong, or the file was taken away",
    }.get(status, "Expected 200 or 206")
    raise UserError(
        f"{name}: {url} answered with HTTP status {status}. {cause}. Correct the address, or "
        "download the file by hand and name it by `path` instead of `url`."
    )


def _progress(
    name: str, start: int, total: int | None, report: Callable[[str], None]
) -> Callable[[int], None]:
    """Return a function that is told how many bytes are there and reports every few seconds."""
    began = reported = time.monotonic()

    def tell(size: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported < REPORT_EVERY_S and size != total:
            return
        reported = now
        rate = (size - start) / max(now - began, 1e-9)
        if total and rate:
            line = f"{100 * size / total:.0f} % ({for_people(size)} of {for_people(total)}"
            line += f", {rate / 1e6:.1f} MB/s, {(total - size) / rate:.0f} s left)"
        else:
            line = f"{for_people(size)} ({rate / 1e6:.1f} MB/s, whole size not known)"
        report(f"fetch {name}: {line}")

    return tell
