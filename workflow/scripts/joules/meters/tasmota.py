"""Plugs with the Tasmota firmware, over its web requests (tasmota.github.io/docs, Commands).

`Total` advances by 1 Wh = 3.6 kJ unless `EnergyRes` says otherwise, too coarse for a run: `Power`
is integrated, and `Total` is held against it. Asked is `Status 10`; older firmware answers
`Status 8`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import Channel, Reading, WrongDevice
from joules.meters.secrets import SECRET_OPTIONS, secret_of
from joules.meters.shared import option_values
from joules.meters.shared.held_against import HeldAgainst
from joules.meters.shared.http import Answer, Client, Login, names_itself_emulated, number_in

NAME = "tasmota"
JOULES_PER_KWH = 3.6e6
DECIMALS_OF_TOTAL, DECIMALS_OF_POWER = 3, 0  # the firmware's defaults
PLACES = (("StatusSNS", "ENERGY"), ("StatusPWR",))  # today's, and that of old firmware
REMEDY = (
    "Name it by `password_env` or `password_file`; the device's page has it under Configuration, "
    "Configure Other, Web Admin Password."
)


class Meter:
    """The power of one plug, integrated, with its own counter held against it."""

    LABEL = "Tasmota plug"
    DESCRIPTION = (
        "A plug with the firmware Tasmota tells its power in the local network [@tasmota]; we "
        "integrate it, and hold the plug's own counter against the sum."
    )
    COMPONENTS = ("wall",)
    ALWAYS_READ = False
    ANSWERS_AT_ONCE = False

    def __init__(
        self,
        options: Options | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        options = options or {}
        password = secret_of(NAME, options)
        check_options(NAME, options, ("host", "channel", "user", *SECRET_OPTIONS))
        address = option_values.address(NAME, options)
        user = option_values.text(NAME, options, "user", "admin")
        self._login = Login(user, password, REMEDY)
        self._channel = option_values.index(NAME, options, "channel")
        self._client = Client("plug with Tasmota", address, self._login, monotonic=monotonic)
        self._facts: Facts = {}
        self._status = 10  # 8 for older firmware
        self._held = HeldAgainst(None)
        self.channels: Sequence[Channel] = ()

    def __enter__(self) -> "Meter":
        firmware, _ = self._command("Status 2")
        if "StatusFWR" not in firmware:
            raise self._client.wrong_device("answers, and not as Tasmota does")
        module, _ = self._command("Module")
        version = str(firmware["StatusFWR"].get("Version", ""))
        names = module.get("Module")
        model = ", ".join(map(str, names.values())) if isinstance(names, dict) else str(names or "")
        decimals = [self._decimals("EnergyRes"), self._decimals("WattRes")]
        total_decimals = DECIMALS_OF_TOTAL if decimals[0] is None else decimals[0]
        power_decimals = DECIMALS_OF_POWER if decimals[1] is None else decimals[1]
        self._held = HeldAgainst(JOULES_PER_KWH / 10**total_decimals)
        self._facts = {
            "model": model,
            "firmware": version,
            "emulated": names_itself_emulated(model, version),
            "power_step_w": 10.0**-power_decimals,
        }
        if not self._energy_of(self._command(f"Status {self._status}")[0]):
            self._status = 8
        self.channels = (
            Channel("wall", "Tasmota Power", f"Status {self._status}", None, counts=False),
        )
        self.read()
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> Facts:
        """Return model, firmware, the step of its power, and what its counter says beside ours."""
        return {**self._facts, "held_against_total": self._held.facts()}

    def read(self) -> list[Reading | None]:
        """Return the power. Raises MeterFault where the device cannot be read."""
        body, answer = self._command(f"Status {self._status}")
        energy = self._energy_of(body)
        if not energy:
            if any(each in body for each in ("StatusSNS", "StatusPWR")):
                raise WrongDevice(
                    "The plug with Tasmota gives no ENERGY; expected one that meters power. Look "
                    "whether its template has the metering chip, or take another plug."
                )
            raise self._client.wrong_device("answers, and not as Tasmota does")
        power_w = self._number(energy, "Power")
        if power_w is None:
            raise self._client.bad_answer("gives no power")
        total_kwh = self._number(energy, "Total", must=False)
        total_j = None if total_kwh is None else total_kwh * JOULES_PER_KWH
        self._held.take(answer.moment_s, power_w, total_j)
        return [Reading(answer.moment_s, None, power_w, round_trip_s=answer.round_trip_s)]

    def _energy_of(self, body: dict[str, Any]) -> dict[str, Any]:
        for place in PLACES:
            found: Any = body
            for key in place:
                found = found.get(key) if isinstance(found, dict) else None
            if isinstance(found, dict) and "Power" in found:
                return found
        return {}

    def _number(self, energy: dict[str, Any], key: str, must: bool = True) -> float | None:
        """Return a number, of one channel where the device has several."""
        value = energy.get(key)
        if not isinstance(value, list):
            return number_in(energy, key)
        if self._channel is None or self._channel >= len(value):
            if not must:
                return None
            raise WrongDevice(
                f"The plug with Tasmota meters {len(value)} channels, and asked for was "
                f"{'none' if self._channel is None else self._channel}; expected one from 0 to "
                f"{len(value) - 1}. Name the machine's by `channel`."
            )
        return number_in(value, self._channel)

    def _decimals(self, command: str) -> int | None:
        """Return how many decimals the firmware prints; None where it does not say."""
        body, _ = self._command(command)
        decimals = number_in(body, command)
        return None if decimals is None or not 0 <= decimals <= 5 else int(decimals)

    def _command(self, command: str) -> tuple[dict[str, Any], Answer]:
        """Return what the device answers to one command. Raises MeterFault."""
        login = ""
        if self._login.password is not None:
            user, password = quote(self._login.user, safe=""), quote(self._login.password, safe="")
            login = f"user={user}&password={password}&"
        body, answer = self._client.json_of(f"/cm?{login}cmnd={quote(command)}")
        if "WARNING" in body:  # older firmware says so with status 200
            raise self._client.refused(self._login.password is not None)
        return body, answer
