"""Reads a TP-Link Kasa or Tapo plug by python-kasa; asked by joules.meters.shared.child.

First line: host, port (null for the usual one), user and password (null for plugs without). Then
one line for each reading, answered by one: `power_w`, `total_j`, when it was asked and answered by
the monotonic clock, and what the device is; or `fault`, the name of a class of joules.meters.meter.
"""

import asyncio
import json
import sys
import time
from typing import Any

try:
    import kasa
except ImportError:
    sys.stdin.readline()
    sys.stdin.readline()
    print(json.dumps({"missing": "python-kasa"}), flush=True)
    sys.exit()

TIMEOUT_S = 3
JOULES_PER_KWH = 3.6e6
NOT_KASA = {"fault": "WrongDevice", "why": "answers, and not as a Kasa plug that meters"}
# The first that one of an error's causes is; EOFError: the answer ended too early.
MEANINGS = (
    (kasa.AuthenticationError, "Refused", ""),
    (kasa.UnsupportedDeviceError, "WrongDevice", "is of a kind that python-kasa does not know"),
    ((OSError, kasa.TimeoutError), "Unreachable", ""),
    ((EOFError, kasa.DeviceError), "BadAnswer", "breaks its answers off, or answers with an error"),
)


async def connect(greeting: dict[str, Any]) -> kasa.Device:
    """Return the device: straight where it needs no login, else found by the library."""
    host, port = greeting["host"], greeting["port"]
    if greeting["password"] is None:
        config = kasa.DeviceConfig(host=host, port_override=port, timeout=TIMEOUT_S)
        return await kasa.Device.connect(config=config)
    device = await kasa.Discover.discover_single(
        host,
        discovery_timeout=TIMEOUT_S,
        port=port,
        timeout=TIMEOUT_S,
        username=greeting["user"],
        password=greeting["password"],
    )
    if device is None:
        raise kasa.TimeoutError("no answer")
    await device.update()
    return device


async def reading_of(device: kasa.Device) -> dict[str, Any]:
    """Return one reading; asks for the present values alone, in one round trip."""
    energy = device.modules.get(kasa.Module.Energy)
    if energy is None:
        return {"fault": "WrongDevice", "why": "has no meter"}
    asked_s = time.monotonic()
    status = await energy.get_status()
    answered_s = time.monotonic()
    if status.power is None:
        return {"fault": "BadAnswer", "why": "gives no power"}
    total_kwh = status.total
    return {
        "power_w": float(status.power),
        "total_j": None if total_kwh is None else float(total_kwh) * JOULES_PER_KWH,
        "asked_s": asked_s,
        "answered_s": answered_s,
        "model": str(device.model),
        "firmware": str(device.hw_info.get("sw_ver", "")),
    }


def fault_of(error: BaseException) -> dict[str, Any]:
    """Return what an error of the library means: it wraps the first cause, sometimes twice."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    for kinds, fault, why in MEANINGS:
        for each in chain:
            if isinstance(each, kinds):
                return {"fault": fault, "why": why or type(each).__name__}
    return NOT_KASA


async def main() -> None:
    """Answer line by line until the input ends. What fails is told, and tried anew when asked."""
    greeting = json.loads(sys.stdin.readline())
    device = None
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            if device is None:
                device = await connect(greeting)
            answer = await reading_of(device)
        except (kasa.KasaException, OSError, LookupError, TypeError, ValueError) as error:
            answer = fault_of(error)
        if "fault" in answer and device is not None:
            await device.disconnect()
            device = None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
