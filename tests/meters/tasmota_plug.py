"""An emulated plug with Tasmota: web requests as its documentation has them (Commands).

The answers have the fields of a Gosund SP111's, as public logs show them.
"""

from typing import Any

from meters.plug import EMULATED, HttpPlug, Reply, Request

JOULES_PER_KWH = 3.6e6
NEED = {"WARNING": "Need user=<username>&password=<password>"}


class TasmotaPlug(HttpPlug):
    """A plug with today's firmware. `old`: one that answers `Status 8` alone, and no 401.

    `channels`: how many it meters; the load is on the last one. `without_meter`: it has none.
    """

    def __init__(
        self,
        *arguments: Any,
        password: str | None = None,
        old: bool = False,
        channels: int = 1,
        without_meter: bool = False,
        **options: Any,
    ) -> None:
        options = {"step_j": 3600.0, "power_step_w": 1.0, **options}
        super().__init__(*arguments, **options)
        self._password, self._old, self._channels = password, old, channels
        self._without_meter = without_meter

    def reply(self, request: Request) -> Reply:
        if request.path != "/cm":
            return Reply("File Not Found", 404)
        if self._password is not None and (
            request.query.get("user") != "admin" or request.query.get("password") != self._password
        ):
            return Reply(NEED, 200 if self._old else 401)
        command = request.query.get("cmnd", "").lower()
        return Reply(self._results().get(command, {"Command": "Unknown"}))

    def _results(self) -> dict[str, Any]:
        firmware = {"Version": f"14.4.1({EMULATED})", "Hardware": "ESP8266EX"}
        results = {
            "status 2": {"StatusFWR": firmware},
            "module": {"Module": {"0": "Gosund SP111"}},
        }
        if self._old:
            return {**results, "status 10": {"StatusSNS": {}}, "status 8": self._old_status()}
        energy = {"TotalStartTime": "2019-08-18T11:21:09", **self._energy()}
        sensors = {"Time": "2019-12-30T11:46:52", "ENERGY": energy}
        if self._without_meter:
            del sensors["ENERGY"]
        status = {"StatusSNS": sensors}
        decimals = {"WattRes": len(f"{self.power_step_w:g}".partition(".")[2])}
        results["wattres"] = decimals
        results["energyres"] = {"EnergyRes": 3}
        return {**results, "status 10": status, "status 8": status}

    def _old_status(self) -> dict[str, Any]:
        return {"StatusPWR": self._energy()}

    def _energy(self) -> dict[str, Any]:
        power_w = self.power_w()
        shown: Any = int(power_w) if self.power_step_w >= 1 else power_w
        total: Any = round(self.energy_j() / JOULES_PER_KWH, 3)
        if self._channels > 1:
            shown = [0] * (self._channels - 1) + [shown]
            total = [0.0] * (self._channels - 1) + [total]
        energy = {"Total": total, "Yesterday": 0.008, "Today": 0.004, "Power": shown}
        if self.fault == "no energy":
            del energy["Power"]
        return {**energy, "Factor": 0.94, "Voltage": 233, "Current": 0.209}
