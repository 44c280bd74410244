"""An emulated HS110: TP-Link's older protocol on a TCP port, as softScheck described it in 2016.

Each message is JSON, each byte of it XORed with the byte before in cipher text, 171 at first, after
its length in four bytes. Its answers are those of a real HS110(EU), as the fixtures of python-kasa
hold them, with the numbers of the load.
"""

import json
import socketserver
import struct
import threading
from typing import Any

from meters.plug import ANOTHER_DEVICES, EMULATED, Metered

KEY = 171
SYSTEM = {
    "active_mode": "schedule",
    "alias": "plug",
    "dev_name": "Wi-Fi Smart Plug With Energy Monitoring",
    "deviceId": "0" * 40,
    "err_code": 0,
    "feature": "TIM:ENE",
    "fwId": "0" * 32,
    "hwId": "0" * 32,
    "hw_ver": "1.0",
    "icon_hash": "",
    "latitude": 0,
    "led_off": 1,
    "longitude": 0,
    "mac": "50:C7:BF:00:00:00",
    "model": "HS110(EU)",
    "oemId": "0" * 32,
    "on_time": 6023162,
    "relay_state": 1,
    "rssi": -71,
    "sw_ver": f"1.2.5 Build 171213 {EMULATED}",
    "type": "IOT.SMARTPLUGSWITCH",
    "updating": 0,
}
TIME = {
    ("time", "get_time"): {
        "year": 2026,
        "month": 11,
        "mday": 26,
        "hour": 10,
        "min": 0,
        "sec": 0,
        "err_code": 0,
    },
    ("time", "get_timezone"): {"index": 39, "err_code": 0},
}


def scrambled(text: str) -> bytes:
    key, content = KEY, bytearray()
    for byte in text.encode():
        key ^= byte
        content.append(key)
    return struct.pack(">I", len(content)) + bytes(content)


def clear(content: bytes) -> str:
    before = bytes([KEY]) + content[:-1]
    return bytes(now ^ last for now, last in zip(content, before, strict=True)).decode()


class KasaPlug(Metered):
    """The plug, on 127.0.0.1. `without_meter`: an HS100, which has none."""

    def __init__(self, *arguments: Any, without_meter: bool = False, **options: Any) -> None:
        options = {"step_j": 3600.0, "power_step_w": 0.000001, **options}
        super().__init__(*arguments, **options)
        self._without_meter = without_meter
        plug = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while length := self.rfile.read(4):
                    content = self.rfile.read(struct.unpack(">I", length)[0])
                    if not plug._answer(self, json.loads(clear(content))):
                        return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "KasaPlug":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler: socketserver.StreamRequestHandler, asked: dict[str, Any]) -> bool:
        """Answer one message; return whether the connection stays open."""
        self.asked += 1
        fault = self.fault
        if fault == "silent":
            self.released.wait()
            return False
        self.clock.sleep(self.latency_s)
        answer: Any = {
            module: {command: self._result(module, command) for command in commands}
            for module, commands in asked.items()
            if isinstance(commands, dict)
        }
        if fault == "another":
            answer = ANOTHER_DEVICES
        content = scrambled(json.dumps(answer))
        handler.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
        handler.wfile.flush()
        return fault != "cut"

    def _result(self, module: str, command: str) -> dict[str, Any]:
        if (module, command) == ("system", "get_sysinfo"):
            if self._without_meter:
                return {**SYSTEM, "model": "HS100(EU)", "feature": "TIM"}
            return SYSTEM
        if module == "emeter" and not self._without_meter:
            if command == "get_realtime" and self.fault != "no energy":
                return {
                    "current": 0.29,
                    "voltage": 231.067823,
                    "power": self.power_w(),
                    "total": round(self.energy_j() / 3.6e6, 3),
                    "err_code": 0,
                }
            lists = {"get_daystat": "day_list", "get_monthstat": "month_list"}
            if command in lists:
                return {lists[command]: [], "err_code": 0}
        return TIME.get((module, command), {"err_code": -1, "err_msg": "module not support"})
