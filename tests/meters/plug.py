"""What every emulated plug has: a load, a clock, a counter that steps, and faults.

The emulated thing is the device. What it answers is built from what its maker documents and from
answers that real ones gave; none of it is taken from our code. It says in its model that it is
emulated.
"""

import contextlib
import dataclasses
import json
import math
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from meters.load import Load, RealClock, SimulatedClock

EMULATED = "emulated"
# What a Hue bridge answers at /api/config: JSON, and another device's.
ANOTHER_DEVICES = {
    "name": "Philips hue",
    "datastoreversion": "131",
    "swversion": "1953188020",
    "apiversion": "1.53.0",
    "mac": "00:17:88:00:00:00",
    "bridgeid": "001788FFFE000000",
    "modelid": "BSB002",
}
FAULTS = ("silent", "trickle", "cut", "another", "stale", "no energy", "error")
TRICKLE_S = 0.05


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked: path and query, and the header `Authorization`."""

    whole: str
    path: str
    query: dict[str, str]
    authorization: str


@dataclasses.dataclass(frozen=True)
class Reply:
    """What is answered. `body`: JSON, or text as it is."""

    body: Any
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Metered:
    """A meter between wall and load: what it shows at its last update, and what is wrong with it.

    Args:
        load: what it meters, from the moment on that it is made.
        clock: of the device.
        step_j: the step of its energy; `power_step_w` that of its power.
        update_s: how often it renews both.
        latency_s: how long it takes to answer.
        counted_before_j: what its counter shows at the start.
    """

    def __init__(
        self,
        load: Load | None = None,
        clock: RealClock | SimulatedClock | None = None,
        *,
        step_j: float,
        power_step_w: float,
        update_s: float = 1.0,
        latency_s: float = 0.0,
        counted_before_j: float = 0.0,
    ) -> None:
        self.load, self.clock = load or Load(), clock or RealClock()
        self.step_j, self.power_step_w, self.update_s = step_j, power_step_w, update_s
        self.latency_s, self._before_j = latency_s, counted_before_j
        self.started_s = self.clock()
        self.fault: str | None = None
        self.asked = 0
        self.released = threading.Event()
        self._stands_at_s = 0.0

    def true_j(self, start_s: float, end_s: float) -> float:
        """Return the joules that the load took between two moments of the clock."""
        start, end = start_s - self.started_s, end_s - self.started_s
        return self.load.energy_j(end) - self.load.energy_j(start)

    def reset(self) -> None:
        """Let the counter begin at 0."""
        self._before_j = -self.load.energy_j(self._updated_s())

    def _updated_s(self) -> float:
        """Return the time of the last update; one that stands still shows its last one for ever."""
        if self.fault != "stale":
            passed_s = self.clock() - self.started_s
            self._stands_at_s = math.floor(passed_s / self.update_s) * self.update_s
        return self._stands_at_s

    def power_w(self) -> float:
        """Return the power that it shows."""
        shown = self.load.power_w(self._updated_s())
        return round(round(shown / self.power_step_w) * self.power_step_w, 6)

    def energy_j(self) -> float:
        """Return the energy that it shows."""
        counted_j = self._before_j + self.load.energy_j(self._updated_s())
        return math.floor(counted_j / self.step_j + 1e-9) * self.step_j


class HttpPlug(Metered):
    """A plug that answers HTTP on 127.0.0.1. Used as a context manager; `address` is HOST:PORT."""

    def __init__(self, *arguments: Any, port: int = 0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        plug = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                plug._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "HttpPlug":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take it from the wall: its port answers nothing any more."""
        self.released.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def reply(self, request: Request) -> Reply:
        """Return what the device answers."""
        raise NotImplementedError

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        fault = self.fault
        if fault == "silent":
            self.released.wait()
            return
        self.clock.sleep(self.latency_s / 2)
        split = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
        asked = Request(handler.path, split.path, query, handler.headers.get("Authorization", ""))
        reply = Reply(ANOTHER_DEVICES) if fault == "another" else self.reply(asked)
        if fault == "error":
            reply = Reply("", 503)
        self.clock.sleep(self.latency_s / 2)
        content = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        sent = content.encode()
        handler.send_response(reply.status)
        for name, value in (("Content-Type", "application/json"), *reply.headers):
            handler.send_header(name, value)
        length = 10_000 if fault == "trickle" else len(sent)
        handler.send_header("Content-Length", str(length))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        if fault == "trickle":
            self._trickle(handler)
            return
        handler.wfile.write(sent[: len(sent) // 2] if fault == "cut" else sent)

    def _trickle(self, handler: BaseHTTPRequestHandler) -> None:
        """Send blanks, which are no end of an answer, until it is taken from the wall."""
        with contextlib.suppress(OSError):
            while not self.released.wait(TRICKLE_S):
                handler.wfile.write(b" ")
                handler.wfile.flush()
