"""Counters of HPE Cray nodes: `/sys/cray/pm_counters`, in joule, about ten times a second.

Each file holds a number, its unit, and the time of the sample in microseconds since the epoch
("User Access to Compute Node Power Data", documentation of the Cray System Management). `energy` is
of the node, the others of parts of it. `generation` counts changes of a power cap.
"""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import BadAnswer, Channel, Reading, Refused, Unreachable
from joules.meters.shared import option_values, sysfs

NAME = "pm_counters"
PM_COUNTERS = Path("/sys/cray/pm_counters")
SAMPLE = re.compile(r"(\d+)(?: J)?(?: (\d+) us)?")
STEP_J, USUAL_HZ = 1.0, 10.0
PARTS = {"energy": "wall", "cpu_energy": "cpu", "memory_energy": "dram"}
OLDEST_S = 60.0  # a time that is further off is by another clock


class Meter:
    """The counters of one node and of its processor, memory and accelerators."""

    LABEL = "Cray pm_counters"
    DESCRIPTION = (
        "The board of an HPE Cray node counts the energy of node, processor, memory and "
        "accelerators in joule, about ten times a second [@craypmcounters]; what the cabinet's "
        "power supplies lose is not in it."
    )
    COMPONENTS = ("wall", "cpu", "dram", "gpu")
    ALWAYS_READ = False
    ANSWERS_AT_ONCE = True

    def __init__(
        self,
        options: Options | None = None,
        root: Path = PM_COUNTERS,
        monotonic: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        options = options or {}
        check_options(NAME, options, ("counters",))
        asked = options.get("counters", [])
        if not isinstance(asked, list) or not all(isinstance(each, str) for each in asked):
            raise option_values.refuse(NAME, "counters", asked, f"a list, as {list(PARTS)}")
        self._asked: list[str] = asked
        self._root, self._monotonic, self._epoch = root, monotonic, epoch
        self._last: dict[str, tuple[str, Reading]] = {}
        self._generation = ""
        self.channels: Sequence[Channel] = ()

    def __enter__(self) -> "Meter":
        names = self._names()
        hertz = sysfs.word(self._root / "raw_scan_hz").partition(" ")[0]
        rate = float(hertz) if hertz.isdigit() and int(hertz) else USUAL_HZ
        self._generation = self._generation_now()
        channels = [
            Channel(
                PARTS.get(name, "gpu"),
                name,
                f"pm_counters/{name}",
                None,
                resolution_j=STEP_J,
                update_interval_s=1 / rate,
            )
            for name in names
        ]
        self.channels = channels
        self.read()
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> Facts:
        """Return version and counters, and whether a power cap changed since it was opened."""
        return {
            "model": "HPE Cray pm_counters",
            "firmware": sysfs.word(self._root / "version").partition(" ")[0],
            "counters": [channel.name for channel in self.channels],
            "power_cap": sysfs.word(self._root / "power_cap").partition(" ")[0],
            "power_cap_changed": self._generation_now() != self._generation,
            "emulated": False,
        }

    def read(self) -> list[Reading | None]:
        """Return the joules of each counter. Raises MeterFault where one cannot be read."""
        return [self._reading_of(channel.name) for channel in self.channels]

    def _reading_of(self, name: str) -> Reading:
        file = self._root / name
        try:
            text = file.read_text(encoding="utf-8").strip()
        except PermissionError:
            raise Refused(
                f"{file} may not be read by this user; expected that users may. Ask the site, or "
                "take the counter out of `counters`."
            ) from None
        except OSError as error:
            raise Unreachable(
                f"{file} cannot be read ({error.strerror}); expected a counter. Measure on a "
                "compute node of an HPE Cray machine."
            ) from None
        before = self._last.get(name)
        if before is not None and before[0] == text and " us" in text:
            return before[1]  # the same sample, with the moment that it was taken at
        sample = SAMPLE.fullmatch(text)
        if sample is None:
            raise BadAnswer(
                f"{file} holds {text[:40]!r}; expected joules and a time, as '123 J 1456789 us'. "
                "Take the counter out of `counters`."
            )
        reading = self._dated(float(sample[1]), sample[2])
        self._last[name] = (text, reading)
        return reading

    def _dated(self, energy_j: float, taken_us: str | None) -> Reading:
        """Return a reading with the time of its sample, where that is by this machine's clock."""
        now_s = self._monotonic()
        age_s = None if taken_us is None else self._epoch() - int(taken_us) / 1e6
        if age_s is None or not 0 <= age_s <= OLDEST_S:
            return Reading(now_s, energy_j)
        return Reading(now_s - age_s, energy_j, age_s=age_s)

    def _names(self) -> list[str]:
        """Return the counters to read: those asked for, or each that counts for itself."""
        there = {each.name for each in sysfs.entries(self._root)}
        if "energy" not in there:
            raise Unreachable(
                f"{self._root} has no counter of the node; expected the file `energy`. Measure on "
                "a compute node of an HPE Cray machine."
            )
        own = sorted(name for name in there if re.fullmatch(r"accel\d+_energy", name))
        if not own and "accel_energy" in there:
            own = ["accel_energy"]  # the sum of all
        known = [*(name for name in PARTS if name in there), *own]
        missing = sorted(set(self._asked) - there)
        if missing:
            raise Unreachable(
                f"{self._root} has no {', '.join(missing)}; expected some of: {', '.join(known)}. "
                "Correct `counters`."
            )
        return self._asked or known

    def _generation_now(self) -> str:
        return sysfs.word(self._root / "generation").partition(" ")[0]
