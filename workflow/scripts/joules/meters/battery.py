"""A laptop's battery while it discharges: `/sys/class/power_supply` (Linux, power_supply_class).

`power_now` is in microwatt, or the product of `current_now` and `voltage_now`, in microampere and
microvolt. `energy_now`, in microwatt-hours, is held against the integral. The battery's own chip
renews its values in 1 to 30 s. While the charger feeds the machine the battery says nothing of it.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import Channel, Reading, Unreachable, WrongDevice
from joules.meters.shared import option_values, sysfs
from joules.meters.shared.held_against import HeldAgainst

NAME = "battery"
POWER_SUPPLY = Path("/sys/class/power_supply")
JOULES_PER_MICROWATT_HOUR = 0.0036
SLOWEST_S = 30.0  # that a battery's chip takes to renew its values


class Meter:
    """The power that flows out of one battery."""

    LABEL = "battery"
    DESCRIPTION = (
        "While it discharges, a laptop's battery tells the power that it gives to the whole "
        "machine [@powersupply]; its chip renews that in 1 to 30 s, so that it is sampled."
    )
    COMPONENTS = ("battery",)
    ALWAYS_READ = False
    ANSWERS_AT_ONCE = False  # the firmware may be asked over a slow bus

    def __init__(
        self,
        options: Options | None = None,
        root: Path = POWER_SUPPLY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        options = options or {}
        check_options(NAME, options, ("battery",))
        self._name = option_values.text(NAME, options, "battery")
        self._root, self._monotonic = root, monotonic
        self._folder = Path()
        self._held = HeldAgainst(None)
        self.channels: Sequence[Channel] = ()

    def __enter__(self) -> "Meter":
        self._folder = self._find()
        self._held = HeldAgainst(None)
        self.read()
        self.channels = (
            Channel(
                "battery",
                self._folder.name,
                f"power_supply {self._folder.name}",
                None,
                counts=False,
                update_interval_s=SLOWEST_S,
            ),
        )
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> Facts:
        """Return the battery's model, and what its charge says beside the integral of its power."""
        if not self.channels:
            return {}
        return {
            "model": sysfs.word(self._folder / "model_name"),
            "maker": sysfs.word(self._folder / "manufacturer"),
            "emulated": False,
            "held_against_charge": self._held.facts(),
        }

    def read(self) -> list[Reading | None]:
        """Return the power. Raises Unreachable while it does not discharge, and MeterFault."""
        status = sysfs.word(self._folder / "status")
        if status != "Discharging":
            raise Unreachable(
                f"The battery {self._folder.name} is {status or 'of unknown state'}; expected "
                "Discharging: while the charger feeds the machine it says nothing of it. Pull the "
                "charger out for the whole study, or measure at the wall."
            )
        asked_s = self._monotonic()
        power_w = self._power_w()
        took_s = self._monotonic() - asked_s
        moment_s = asked_s + took_s / 2
        charge_uwh = sysfs.optional_number(self._folder / "energy_now")
        given_j = None if charge_uwh is None else -charge_uwh * JOULES_PER_MICROWATT_HOUR
        self._held.take(moment_s, power_w, given_j)
        return [Reading(moment_s, power_w=power_w, round_trip_s=took_s)]

    def _power_w(self) -> float:
        """Return the power; some drivers give it a sign, which is that of the direction."""
        if (self._folder / "power_now").exists():
            return abs(sysfs.whole_number(self._folder / "power_now")) / 1e6
        current_ua = sysfs.whole_number(self._folder / "current_now")
        return abs(current_ua) * sysfs.whole_number(self._folder / "voltage_now") / 1e12

    def _find(self) -> Path:
        """Return the battery's folder: the one that is named, or the machine's only one."""
        there = [
            each
            for each in sysfs.entries(self._root)
            if sysfs.word(each / "type") == "Battery" and sysfs.word(each / "scope") != "Device"
        ]
        fitting = [each for each in there if self._name in ("", each.name)]
        if len(fitting) == 1:
            return fitting[0]
        listed = ", ".join(each.name for each in there) or "none"
        if not there:
            raise Unreachable(
                f"{self._root} has no battery of the machine; expected one. Measure at the wall."
            )
        raise WrongDevice(
            f"{self._root} has the batteries {listed}; asked for was {self._name or 'none'}. "
            "Expected one of them. Name it by `battery`; with two, the machine uses one after the "
            "other, so take one out."
        )
