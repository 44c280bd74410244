"""Files of /sys that a meter reads: numbers, words, and what is in the way, told apart.

Folders of `/sys/class` hold links. They are followed one step, by name, and never searched: each
device holds links back (`device`, `subsystem`).
"""

import re
from pathlib import Path

from joules.meters.meter import BadAnswer, Refused, Unreachable


def word(path: Path) -> str:
    """Return what a file says; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def whole_number(path: Path) -> int:
    """Return the number in a file. Raises Unreachable, Refused or BadAnswer."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except PermissionError:
        mode, owner = _rights(path)
        raise Refused(
            f"{path} has mode {mode:04o} and owner {owner}; expected a file that this user may "
            f"read. Make it readable before the study: sudo chmod a+r {path}"
        ) from None
    except OSError as error:
        raise Unreachable(
            f"{path} cannot be read ({error.strerror or error}); expected a number there. Look "
            "whether its driver is loaded, and whether this is a container that hides /sys."
        ) from None
    if not re.fullmatch(r"-?\d+", text):
        raise BadAnswer(
            f"{path} holds {text[:40]!r}; expected a whole number. Name another sensor of that "
            "chip, or take the meter out."
        )
    return int(text)


def optional_number(path: Path) -> int | None:
    """Return the number in a file; None where there is none."""
    text = word(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _rights(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_mode & 0o777, state.st_uid


def entries(root: Path) -> list[Path]:
    """Return what lies in a folder of /sys/class, by name; empty where there is no such folder."""
    try:
        return sorted(root.iterdir(), key=lambda each: _natural(each.name))
    except OSError:
        return []


def _natural(name: str) -> list[tuple[str, int]]:
    """Return a key by which hwmon10 comes after hwmon9."""
    return [(rest, int(part or 0)) for rest, part in re.findall(r"(\D*)(\d*)", name)]
