"""A sensor of a chip below `/sys/class/hwmon` (Linux, hwmon/sysfs-interface).

`energy*_input` is in microjoule, `power*_average` and `power*_input` in microwatt. The numbers of
the folders change from boot to boot, so a chip is named by its file `name` and, where two are
alike, by its device. A driver may hand on a register of 32 bits that wraps; of most the range is
not known, and is stated by `range_j`. The drivers of Intel GPUs make 64 bits of it as long as they
are read once per wrap.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import Channel, Reading, Unreachable, WrongDevice
from joules.meters.shared import option_values, sysfs

NAME = "hwmon"
HWMON = Path("/sys/class/hwmon")
SENSORS = ("energy*_input", "power*_average", "power*_input")


class Meter:
    """One sensor of one chip."""

    LABEL = "hwmon sensor"
    DESCRIPTION = (
        "A chip on the board, or a driver of a device, tells its energy or its power by Linux's "
        "hwmon files [@hwmon]; how well it counts depends on the chip."
    )
    COMPONENTS = ("wall", "cpu", "gpu", "dram", "psys", "soc", "battery")
    ALWAYS_READ = False
    ANSWERS_AT_ONCE = False  # some chips are asked over a slow bus

    def __init__(
        self,
        options: Options | None = None,
        root: Path = HWMON,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        options = options or {}
        check_options(NAME, options, ("chip", "device", "sensor", "component", "range_j"))
        self._chip = option_values.text(NAME, options, "chip")
        if not self._chip:
            raise option_values.refuse(
                NAME, "chip", self._chip, f"the name of a chip, as {root}/*/name has it"
            )
        self._device = option_values.text(NAME, options, "device")
        self._sensor = option_values.text(NAME, options, "sensor")
        self._component = option_values.component(NAME, options)
        range_j = option_values.number(NAME, options, "range_j", 0.0, 0.0)
        self._range_j = range_j or None
        self._root, self._monotonic = root, monotonic
        self._file = Path()
        self._counts = False
        self.channels: Sequence[Channel] = ()

    def __enter__(self) -> "Meter":
        folder = self._folder()
        self._file = self._sensor_of(folder)
        self._counts = self._file.name.startswith("energy")
        self._label = sysfs.word(folder / f"{self._file.name.partition('_')[0]}_label")
        named = f"{self._chip} {self._file.name}"
        self.channels = (
            Channel(
                self._component,
                named,
                f"hwmon {named}",
                self._range_j if self._counts else None,
                counts=self._counts,
            ),
        )
        sysfs.whole_number(self._file)
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> Facts:
        """Return the chip, its sensor with the label that the driver gives, and its range."""
        if not self.channels:
            return {}
        return {
            "model": self._chip,
            "sensor": self._file.name,
            "label": self._label,
            "range_j": self._range_j,
            "emulated": False,
        }

    def read(self) -> list[Reading | None]:
        """Return energy or power. Raises MeterFault where the file cannot be read."""
        asked_s = self._monotonic()
        value = sysfs.whole_number(self._file) / 1e6
        took_s = self._monotonic() - asked_s
        moment_s = asked_s + took_s / 2
        if self._counts:
            return [Reading(moment_s, energy_j=value, round_trip_s=took_s)]
        return [Reading(moment_s, power_w=value, round_trip_s=took_s)]

    def _folder(self) -> Path:
        """Return the chip's folder. Raises Unreachable or WrongDevice."""
        there = {each: sysfs.word(each / "name") for each in sysfs.entries(self._root)}
        fitting = [
            each
            for each, name in there.items()
            if name == self._chip and self._device in ("", device_of(each))
        ]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            listed = ", ".join(sorted({name for name in there.values() if name})) or "none"
            raise Unreachable(
                f"{self._root} has no chip {self._chip} {self._device}".rstrip()
                + f"; expected one of: {listed}. Correct `chip`, or load its driver."
            )
        raise WrongDevice(
            f"{self._root} has {len(fitting)} chips {self._chip}; expected one. Name its device by "
            f"`device`, one of: {', '.join(device_of(each) for each in fitting)}."
        )

    def _sensor_of(self, folder: Path) -> Path:
        """Return the sensor's file: the one that is named, or the only one of the best kind."""
        kinds = [sorted(folder.glob(pattern)) for pattern in SENSORS]
        found = [file for kind in kinds for file in kind]
        if self._sensor:
            fitting = [
                file for file in found if self._sensor in (file.name, file.name.partition("_")[0])
            ][:1]
        else:
            fitting = next((kind for kind in kinds if kind), [])
        if len(fitting) == 1:
            return fitting[0]
        listed = ", ".join(file.name for file in found) or "none"
        raise WrongDevice(
            f"The chip {self._chip} has these sensors of energy and power: {listed}; asked for was "
            f"{self._sensor or 'none by name'}. Expected one that is there. Name it by `sensor`."
        )


def device_of(folder: Path) -> str:
    """Return the name of the device that a chip belongs to, as 0000:03:00.0; empty without one."""
    link = folder / "device"
    return link.resolve().name if link.exists() else ""
