"""Emulated Shelly devices: a Plus Plug S (generation 2), a Pro 3EM, and a Plug S of generation 1.

Answers are those of real devices, as the fixtures of the library aioshelly hold them, with the
numbers of the load; methods, errors and authentication are those of shelly-api-docs.shelly.cloud.
"""

import base64
import hashlib
import itertools
import re
from typing import Any

from meters.plug import EMULATED, HttpPlug, Reply, Request

JOULES_PER_WH = 3600.0
DEVICE = {
    "name": None,
    "id": "shellyplusplugs-aabbccddeeff",
    "mac": "AABBCCDDEEFF",
    "slot": 0,
    "model": f"SNPL-00112EU ({EMULATED})",
    "gen": 2,
    "fw_id": "20231219-134003/1.1.0-g34b5d4f",
    "ver": "1.1.0",
    "app": "PlusPlugS",
    "auth_en": False,
    "auth_domain": None,
}


class ShellyPlug(HttpPlug):
    """A Plus Plug S. With a password it asks for digest; a nonce lasts for `nonce_lasts` requests.

    `component`: switch, pm1, em1 or em, as other models have.
    """

    def __init__(
        self,
        *arguments: Any,
        password: str | None = None,
        nonce_lasts: int = 1000,
        component: str = "switch",
        **options: Any,
    ) -> None:
        options = {"step_j": 3.6, "power_step_w": 0.1, **options}
        super().__init__(*arguments, **options)
        self._password, self._nonce_lasts, self._component = password, nonce_lasts, component
        self._nonces = (f"{number:08x}" for number in itertools.count(1_700_000_000))
        self._nonce, self._uses = "", 0

    def reply(self, request: Request) -> Reply:
        if request.path == "/shelly":  # free of authentication, as GetDeviceInfo is
            return Reply({**DEVICE, "auth_en": self._password is not None})
        if self._password is not None and not self._is_authentic(request):
            return self._challenge()
        return self._rpc(request)

    def _rpc(self, request: Request) -> Reply:
        namespace = {"switch": "Switch", "pm1": "PM1", "em1": "EM1", "em": "EM"}[self._component]
        if request.path == "/rpc/Shelly.GetStatus":
            sys = {"mac": "AABBCCDDEEFF", "restart_required": False, "uptime": 4319353}
            return Reply({"ble": {}, f"{self._component}:0": self._status(), "sys": sys})
        if request.path != f"/rpc/{namespace}.GetStatus":
            method = request.path.removeprefix("/rpc/")
            return Reply({"code": 404, "message": f"No handler for {method}"}, 404)
        if request.query.get("id") != "0":
            text = f"Argument 'id', value {request.query.get('id')} not found!"
            return Reply({"code": -105, "message": text}, 500)
        return Reply(self._status())

    def _status(self) -> dict[str, Any]:
        power_w = self.power_w()
        if self._component == "em":
            return {"id": 0, "a_act_power": power_w, "total_act_power": power_w}
        if self._component == "em1":
            return {"id": 0, "act_power": power_w, "voltage": 229.0}
        status = {"id": 0, "source": "init", "output": True, "apower": power_w, "voltage": 227.9}
        if self.fault != "no energy":
            total = round(self.energy_j() / JOULES_PER_WH, 3)
            by_minute = [34.786, 45.552, 45.552]
            status["aenergy"] = {"total": total, "by_minute": by_minute, "minute_ts": 1707326925}
        return {**status, "temperature": {"tC": 32.1, "tF": 89.7}}

    def _challenge(self) -> Reply:
        self._nonce, self._uses = next(self._nonces), 0
        value = (
            f'Digest qop="auth", realm="{DEVICE["id"]}", nonce="{self._nonce}", algorithm=SHA-256'
        )
        return Reply("", 401, (("WWW-Authenticate", value),))

    def _is_authentic(self, request: Request) -> bool:
        """Check the digest as RFC 7616 3.4 says: user `admin`, SHA-256, each count once."""
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.authorization))
        first = hash_of(f"admin:{DEVICE['id']}:{self._password}")
        second = hash_of(f"GET:{request.whole}")
        parts = [first, self._nonce, given.get("nc"), given.get("cnonce"), "auth", second]
        is_right = (
            given.get("response") == hash_of(":".join(map(str, parts)))
            and given.get("nonce") == self._nonce
            and given.get("uri") == request.whole
            and int(given.get("nc", "0"), 16) == self._uses + 1
            and self._uses < self._nonce_lasts
        )
        self._uses += is_right
        return is_right


class OldShellyPlug(HttpPlug):
    """A Plug S of generation 1: `/meter/0`, energy in watt-minutes, basic authentication."""

    TYPE = f"SHPLG-S {EMULATED}"

    def __init__(self, *arguments: Any, password: str | None = None, **options: Any) -> None:
        options = {"step_j": 60.0, "power_step_w": 0.01, **options}
        super().__init__(*arguments, **options)
        self._password = password

    def reply(self, request: Request) -> Reply:
        if request.path == "/shelly":
            return Reply(
                {
                    "type": self.TYPE,
                    "mac": "AABBCCDDEEFF",
                    "auth": self._password is not None,
                    "fw": "20230913-113421/v1.14.0-gcb84623",
                    "discoverable": True,
                    "num_outputs": 1,
                    "num_meters": 1,
                }
            )
        wanted = base64.b64encode(f"admin:{self._password}".encode()).decode()
        if self._password is not None and request.authorization != f"Basic {wanted}":
            realm = 'Basic realm="shellyplug-s-DDEEFF"'
            return Reply("401 Unauthorized", 401, (("WWW-Authenticate", realm),))
        if request.path != "/meter/0":
            return Reply("Not Found", 404)
        return Reply(
            {
                "power": self.power_w(),
                "overpower": 0.0,
                "is_valid": self.fault != "no energy",
                "timestamp": 1707335841,
                "counters": [0.0, 0.0, 0.0],
                "total": round(self.energy_j() / 60),
            }
        )


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
