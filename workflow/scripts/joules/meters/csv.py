"""A file that a logger writes: any meter with a program of its own, such as an oscilloscope.

Each line has the time in seconds since the epoch and joules since any start, or watt. Lines before
the first one of numbers are headings. Power is integrated here over every line, however often the
file is read.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import BadAnswer, Channel, Reading, Refused, Unreachable
from joules.meters.shared import option_values

NAME = "csv"
OPTIONS = ("path", "value", "component", "delimiter", "columns", "clock_offset_s", "silent_s")
AHEAD_S = 1.0  # clocks of one machine are no further apart
LARGEST_TAIL = 1 << 16  # what is looked through for the last line when the file is opened


class Meter:
    """The last line of a growing file."""

    LABEL = "logged meter"
    DESCRIPTION = (
        "A meter with a logger of its own writes time and energy, or power, into a file that we "
        "read as it grows; how well it counts is for its maker to say."
    )
    COMPONENTS = ("wall", "cpu", "gpu", "dram", "psys", "soc", "battery")
    ALWAYS_READ = False
    ANSWERS_AT_ONCE = False

    def __init__(
        self,
        options: Options | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        options = options or {}
        check_options(NAME, options, OPTIONS)
        path = option_values.text(NAME, options, "path")
        if not path:
            raise option_values.refuse(NAME, "path", path, "the logger's file")
        self._file = Path(path).expanduser()
        self._counts = _value_of(options) == "joule"
        self._component = option_values.component(NAME, options, "wall")
        self._delimiter = option_values.text(NAME, options, "delimiter", ",")
        self._columns = _columns_of(options)
        self._offset_s = option_values.number(NAME, options, "clock_offset_s", 0.0)
        self._silent_s = option_values.number(NAME, options, "silent_s", 10.0, 0.1)
        self._monotonic, self._epoch = monotonic, epoch
        self._begin()
        self.channels: Sequence[Channel] = (
            Channel(self._component, "logged file", "logger's file", None, counts=self._counts),
        )

    def _begin(self) -> None:
        self._position, self._file_id = 0, -1
        self._last: tuple[float, float] | None = None  # time by the logger's clock, its value
        self._dated: tuple[float, float] = (math.nan, math.nan)  # the same time, and ours
        self._total_j = 0.0
        self._intervals_s: list[float] = []

    def __enter__(self) -> "Meter":
        self._begin()
        self._skip_to_the_end()
        self.read()
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> Facts:
        """Return the unit, the stated offset of the clocks, and how often lines came."""
        usual = sorted(self._intervals_s)
        return {
            "model": "logger",
            "value": "joule" if self._counts else "watt",
            "clock_offset_s": self._offset_s,
            "seconds_between_lines": usual[len(usual) // 2] if usual else None,
            "emulated": False,
        }

    def read(self) -> list[Reading | None]:
        """Return the newest line. Raises MeterFault where the file is gone, silent or no table."""
        for line in self._new_lines():
            self._take(line)
        if self._last is None:
            raise Unreachable(
                f"{self._file} holds no line of numbers; expected seconds since the epoch and "
                f"{'joule' if self._counts else 'watt'}. Start the logger before the study."
            )
        logged_s, value = self._last
        age_s = self._epoch() - (logged_s - self._offset_s)
        if age_s > self._silent_s:
            raise Unreachable(
                f"{self._file} did not grow for {age_s:.0f} s; expected a line every "
                f"{self._silent_s:g} s or sooner. Look whether the logger runs; if its clock is "
                "another one, state clock_offset_s; if it writes less often, state silent_s."
            )
        if age_s < -AHEAD_S:
            raise BadAnswer(
                f"{self._file} has a line that is {-age_s:.1f} s in the future; expected the clock "
                "of this machine. State by how much the logger's clock is ahead: clock_offset_s."
            )
        if self._dated[0] != logged_s:  # a line that is read again keeps its moment
            self._dated = (logged_s, self._monotonic() - max(age_s, 0.0))
        moment_s, age_s = self._dated[1], max(age_s, 0.0)
        if self._counts:
            return [Reading(moment_s, value, age_s=age_s)]
        return [Reading(moment_s, self._total_j, value, age_s=age_s)]

    def _skip_to_the_end(self) -> None:
        """Begin with the last whole line: what was logged before the run is not ours."""
        try:
            size = self._file.stat().st_size
        except OSError as error:
            raise self._cannot_be_read(error) from None
        start = max(0, size - LARGEST_TAIL)
        lines = [line for line in self._new_lines(start) if self._numbers_in(line) is not None]
        if lines:
            self._take(lines[-1])

    def _new_lines(self, start: int | None = None) -> list[str]:
        """Return the whole lines since the last call; a file that is new or shorter begins anew."""
        try:
            with self._file.open("rb") as stream:
                state = os.fstat(stream.fileno())
                if state.st_ino != self._file_id or state.st_size < self._position:
                    self._position, self._file_id = 0, state.st_ino
                if start is not None:
                    self._position = start
                stream.seek(self._position)
                content = stream.read()
        except OSError as error:
            raise self._cannot_be_read(error) from None
        whole, newline, _ = content.rpartition(b"\n")
        self._position += len(whole) + len(newline)
        return whole.decode("utf-8", errors="replace").splitlines()

    def _cannot_be_read(self, error: OSError) -> Unreachable | Refused:
        if isinstance(error, PermissionError):
            return Refused(
                f"{self._file} may not be read by this user; expected a file that may. Change its "
                "rights, or let the logger write elsewhere."
            )
        return Unreachable(
            f"{self._file} cannot be read ({error.strerror}); expected the file that the logger "
            "writes. Start the logger, and correct `path`."
        )

    def _numbers_in(self, line: str) -> tuple[float, float] | None:
        cells = line.split(self._delimiter)
        try:
            pair = tuple(float(cells[each]) for each in self._columns)
        except (IndexError, ValueError):
            return None
        return (pair[0], pair[1]) if all(map(math.isfinite, pair)) else None

    def _take(self, line: str) -> None:
        now = self._numbers_in(line)
        if now is None:
            if self._last is None or not line.strip() or line.startswith("#"):
                return  # a heading, or a remark
            raise BadAnswer(
                f"{self._file} has the line {line[:60]!r}; expected two numbers, divided by "
                f"{self._delimiter!r}. Correct `delimiter` and `columns`, or the logger."
            )
        if self._last is not None:
            passed_s = now[0] - self._last[0]
            if passed_s < 0:
                raise BadAnswer(
                    f"{self._file} goes back in time by {-passed_s:g} s; expected lines in order. "
                    "Give the logger a clock that is not set back, and start it anew."
                )
            self._total_j += (now[1] + self._last[1]) / 2 * passed_s
            self._intervals_s.append(passed_s)
        self._last = now


def _value_of(options: Options) -> str:
    value = option_values.one_of(NAME, options, "value", ("joule", "watt"), "")
    if not value:
        raise option_values.refuse(NAME, "value", value, "joule or watt, what the file holds")
    return value


def _columns_of(options: Options) -> tuple[int, int]:
    """Return which columns hold time and value, counted from 0."""
    columns = options.get("columns", [0, 1])
    if (
        not isinstance(columns, list)
        or len(columns) != 2
        or not all(isinstance(each, int) and each >= 0 for each in columns)
    ):
        raise option_values.refuse(
            NAME, "columns", columns, "two whole numbers, those of time and value, from 0 on"
        )
    return columns[0], columns[1]
