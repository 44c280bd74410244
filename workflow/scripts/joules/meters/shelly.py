"""Shelly plugs and meters, over their own HTTP interface in the local network.

Generation 2 and later speak RPC (shelly-api-docs.shelly.cloud, gen2: Switch, PM1, EM, EM1,
Authentication); generation 1 answers at `/meter/<id>` (the same site, gen1). `GET /shelly` is free
of authentication on both and tells them apart. Asked is the device, never Shelly's cloud.
"""

import dataclasses
import http.client
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from joules.core.errors import UserError
from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import Channel, Reading, WrongDevice
from joules.meters.secrets import SECRET_OPTIONS, secret_of
from joules.meters.shared import option_values
from joules.meters.shared.http import Answer, Client, Login, names_itself_emulated, number_in

NAME = "shelly"
JOULES_PER_WH = 3600.0
JOULES_PER_WATT_MINUTE = 60.0
STEP_WH = 0.001  # `aenergy.total` is given with three decimals
NO_SUCH_ID = -105  # `code` of the error, "Common Errors" of its documentation
REMEDY = (
    "Name it by `password_env` or `password_file`; the device's page has it under Settings, "
    "Authentication."
)


@dataclasses.dataclass(frozen=True)
class Component:
    """A kind of metering component: its RPC namespace, and where its numbers stand.

    `energy_wh` is None for those whose energy is stored once a minute; their power is integrated.
    """

    namespace: str
    power_w: str
    energy_wh: tuple[str, ...] | None


COMPONENTS = {
    "switch": Component("Switch", "apower", ("aenergy", "total")),
    "pm1": Component("PM1", "apower", ("aenergy", "total")),
    "em1": Component("EM1", "act_power", None),
    "em": Component("EM", "total_act_power", None),
}


class _Dialect(Protocol):
    channel: Channel

    def facts(self) -> Facts: ...

    def read(self) -> Reading: ...


class _Rpc:
    """A device of generation 2 or later, and one metering component of it."""

    def __init__(
        self, client: Client, device: dict[str, Any], kind: str, index: int | None
    ) -> None:
        self._client, self._device = client, device
        self._kind, self._index = self._find(kind, index)
        self._component = COMPONENTS[self._kind]
        counts = self._component.energy_wh is not None
        self.channel = Channel(
            "wall",
            f"Shelly {self._kind}:{self._index}",
            f"{self._component.namespace}.GetStatus",
            None,
            counts=counts,
            resolution_j=STEP_WH * JOULES_PER_WH if counts else None,
        )

    def _find(self, kind: str, index: int | None) -> tuple[str, int]:
        """Return the component that is asked for, or the only one. Raises WrongDevice."""
        status, _ = self._client.json_of("/rpc/Shelly.GetStatus")
        there = []
        for key, value in sorted(status.items()):
            name, _, number = key.partition(":")
            meters = name in COMPONENTS and number_in(value, COMPONENTS[name].power_w) is not None
            if meters and number.isdigit():
                there.append((name, int(number)))
        fitting = [each for each in there if kind in ("", each[0]) and index in (None, each[1])]
        if len(fitting) == 1:
            return fitting[0]
        listed = ", ".join(f"{name}:{number}" for name, number in there) or "none"
        wanted = f"{kind or 'any component'}{'' if index is None else f' with id {index}'}"
        raise WrongDevice(
            f"The {self.model} meters power by the components {listed}; asked for was {wanted}. "
            "Expected one that fits. Name it by `component` and `id`, or take a device that meters."
        )

    @property
    def model(self) -> str:
        return str(self._device.get("model") or "Shelly device")

    def facts(self) -> Facts:
        return {
            "model": self.model,
            "firmware": str(self._device.get("ver") or ""),
            "generation": self._device.get("gen"),
            "component": f"{self._kind}:{self._index}",
            "emulated": names_itself_emulated(self.model),
        }

    def read(self) -> Reading:
        path = f"/rpc/{self._component.namespace}.GetStatus?id={self._index}"
        answer = self._client.get(path)
        is_gone = number_in(answer.body, "code") == NO_SUCH_ID
        if is_gone or answer.status == http.client.NOT_FOUND:
            raise self._client.wrong_device(f"has no component {self._kind}:{self._index}")
        if answer.status != http.client.OK:
            raise self._client.bad_answer(f"answers with status {answer.status}")
        power_w = number_in(answer.body, self._component.power_w)
        energy_wh = None
        if self._component.energy_wh is not None:
            energy_wh = number_in(answer.body, *self._component.energy_wh)
            if energy_wh is None:
                raise self._unusable(answer)
        if power_w is None:
            raise self._unusable(answer)
        return _reading(answer, power_w, energy_wh, JOULES_PER_WH)

    def _unusable(self, answer: Answer) -> UserError:
        if not isinstance(answer.body, dict) or answer.body.get("id") != self._index:
            return self._client.wrong_device("answers with something else than a Shelly's status")
        return self._client.bad_answer("gives no power or no energy")


class _Generation1:
    """A device of generation 1, and one of its meters."""

    def __init__(self, client: Client, device: dict[str, Any], index: int | None) -> None:
        self._client, self._device, self._index = client, device, index or 0
        self.channel = Channel(
            "wall",
            f"Shelly meter {self._index}",
            "meter",
            None,
            resolution_j=JOULES_PER_WATT_MINUTE,
        )
        meters = number_in(device, "num_meters")
        if not meters or self._index >= meters:
            raise WrongDevice(
                f"The {self.model} has {int(meters or 0)} meters; asked for was meter "
                f"{self._index}. Expected one that is there. Correct `id`, or take a device that "
                "meters."
            )

    @property
    def model(self) -> str:
        return str(self._device["type"])

    def facts(self) -> Facts:
        return {
            "model": self.model,
            "firmware": str(self._device.get("fw") or ""),
            "generation": 1,
            "component": f"meter {self._index}",
            "emulated": names_itself_emulated(self.model),
        }

    def read(self) -> Reading:
        body, answer = self._client.json_of(f"/meter/{self._index}")
        power_w, total = number_in(body, "power"), number_in(body, "total")
        if "is_valid" not in body:
            raise self._client.wrong_device("answers with something else than a Shelly's meter")
        if power_w is None or total is None or body["is_valid"] is not True:
            raise self._client.bad_answer("says itself that its reading is not valid")
        return _reading(answer, power_w, total, JOULES_PER_WATT_MINUTE)


def _reading(
    answer: Answer, power_w: float, energy: float | None, joules_per_unit: float
) -> Reading:
    return Reading(
        answer.moment_s,
        None if energy is None else energy * joules_per_unit,
        power_w,
        round_trip_s=answer.round_trip_s,
    )


class Meter:
    """One metering component of a Shelly device."""

    LABEL = "Shelly plug"
    DESCRIPTION = (
        "A Shelly plug or meter counts the energy that passes it, and tells counter and power in "
        "the local network [@shellyapi]. Its maker states no accuracy there."
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
        check_options(NAME, options, ("host", "component", "id", "user", *SECRET_OPTIONS))
        address = option_values.address(NAME, options)
        login = Login(option_values.text(NAME, options, "user", "admin"), password, REMEDY)
        self._kind = option_values.one_of(NAME, options, "component", tuple(COMPONENTS), "")
        self._index = option_values.index(NAME, options, "id")
        self._client = Client("Shelly", address, login, monotonic=monotonic)
        self._dialect: _Dialect | None = None
        self.channels: Sequence[Channel] = ()

    def __enter__(self) -> "Meter":
        device, _ = self._client.json_of("/shelly")
        if "mac" not in device or not ("gen" in device or "type" in device):
            raise self._client.wrong_device("answers /shelly, and is no Shelly")
        if "gen" in device:
            self._dialect = _Rpc(self._client, device, self._kind, self._index)
        elif self._kind:
            raise WrongDevice(
                f"The {device['type']} is a Shelly of generation 1, which has no component "
                f"{self._kind}. Expected `id` alone, the number of its meter. Take `component` out."
            )
        else:
            self._dialect = _Generation1(self._client, device, self._index)
        self.channels = (self._dialect.channel,)
        self._dialect.read()  # so that a wrong password is told before anything is measured
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> Facts:
        """Return model, firmware, generation, and which part of it is read."""
        return {} if self._dialect is None else self._dialect.facts()

    def read(self) -> list[Reading | None]:
        """Return energy and power. Raises MeterFault where the device cannot be read."""
        return [] if self._dialect is None else [self._dialect.read()]
