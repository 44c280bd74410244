"""Files that are written whole or not at all."""

import errno
import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from joules.core.errors import UserError

SIGNIFICANT_DIGITS = 9


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write `content` to `path` by a temporary file in the same folder, fsync and rename.

    Raises UserError when the disk is full; the old file, if any, is then still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk is full: {path} ({len(data)} bytes) could not be written. "
                "Nothing that was finished is lost. Free some space and run the same command again."
            ) from error
        raise


def rounded(value: Any) -> Any:
    """Return `value` with every float, at any depth, rounded to 9 significant digits.

    The last bit of one CPU then does not change a file. NaN and infinities become None.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value


def to_json(value: Any) -> str:
    """Return `value` as JSON text with sorted keys; equal values give equal text."""
    return json.dumps(rounded(value), indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON (see `to_json`), whole or not at all."""
    write_atomic(path, to_json(value))


def read_json(path: str | Path) -> Any:
    """Read one JSON file. Raises UserError when it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing. Run the rule that makes it.") from error
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON ({error}). It should hold one JSON value. Delete it and run again."
        ) from error


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file as 64 lower-case hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
