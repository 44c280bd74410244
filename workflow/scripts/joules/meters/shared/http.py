"""HTTP to a device in the local network: JSON, times, credentials, and faults told apart.

Each request has a connection of its own, as plugs hold few of them open. Proxies are not asked: the
device is in the local network.
"""

import base64
import contextlib
import dataclasses
import http.client
import json
import time
from collections.abc import Callable
from typing import Any

from joules.meters.meter import BadAnswer, Refused, Unreachable, WrongDevice
from joules.meters.shared.digest import Digest
from joules.meters.shared.option_values import Address

TIMEOUT_S = 3.0  # plugs answer in 30 to 150 ms
LARGEST_BYTES = 1 << 20  # a plug's whole status has some kilobytes
UNAUTHORISED, FORBIDDEN = 401, 403


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a device answered: its JSON, and when it did.

    Attributes:
        status: of HTTP.
        body: the JSON value, or None where the answer is no JSON.
        moment_s: by the monotonic clock, the end of the answer less half the round trip.
        round_trip_s: from the request that was answered to the end of its answer.
    """

    status: int
    body: Any
    moment_s: float
    round_trip_s: float


@dataclasses.dataclass(frozen=True)
class Login:
    """Who asks. `remedy`: what the owner does who has no or another password."""

    user: str
    password: str | None
    remedy: str


class Client:
    """Asks one device. `label` is what messages call it."""

    def __init__(
        self,
        label: str,
        address: Address,
        login: Login,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label, self._address, self._login = label, address, login
        self._timeout_s, self._monotonic = TIMEOUT_S, monotonic
        self._digest: Digest | None = None
        self._basic = False

    def get(self, path: str) -> Answer:
        """Ask for a path with its query. Raises Unreachable, Refused, WrongDevice or BadAnswer.

        An answer without JSON, or of another status than 200, 401 and 403, is returned: what it
        means depends on what was asked.
        """
        answer, challenge = self._ask(path)
        if answer.status == UNAUTHORISED and challenge:  # at first, or for a nonce that ran out
            self._take_up(challenge)
            answer, challenge = self._ask(path)
        if answer.status in (UNAUTHORISED, FORBIDDEN):
            raise self.refused(self._login.password is not None)
        return answer

    def json_of(self, path: str) -> tuple[dict[str, Any], Answer]:
        """Return the JSON object at a path, and its answer. Raises what `get` raises.

        WrongDevice where there is no such path, or something else than a JSON object.
        """
        answer = self.get(path)
        if answer.status >= http.client.INTERNAL_SERVER_ERROR:
            raise self.bad_answer(f"answers {shown(path)} with status {answer.status}")
        if answer.status != http.client.OK:
            raise self.wrong_device(f"answers {shown(path)} with status {answer.status}")
        if not isinstance(answer.body, dict):
            raise self.wrong_device(f"answers {shown(path)} with something else than JSON")
        return answer.body, answer

    def refused(self, had_password: bool) -> Refused:
        """Return the fault of credentials that are missing or wrong."""
        what = "another password" if had_password else "a password, and none is configured"
        return Refused(
            f"The {self._label} at {self._address} wants {what}. Expected the one that was set on "
            f"the device. {self._login.remedy}"
        )

    def wrong_device(self, what: str) -> WrongDevice:
        """Return the fault of something else at this address; `what` it does."""
        return WrongDevice(
            f"What is at {self._address} {what}; expected a {self._label}. Look whether the "
            "address is still the device's (the router may have given it away), and whether "
            "`module` names its kind."
        )

    def bad_answer(self, what: str) -> BadAnswer:
        """Return the fault of an answer that cannot be used; `what` is wrong with it."""
        return BadAnswer(
            f"The {self._label} at {self._address} {what}; expected a whole reading. Look at its "
            "own page whether it shows power, restart it, and bring its firmware up to date."
        )

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"Nothing usable answers at {self._address} ({why}); expected a {self._label} within "
            f"{self._timeout_s:g} s. Look whether it has power and is in this network, and "
            "whether `host` is its address."
        )

    def _take_up(self, challenge: str) -> None:
        """Answer a challenge from now on. Raises Refused where that cannot be done."""
        if self._login.password is None:
            raise self.refused(False)
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic":
            self._basic = True
            return
        try:
            self._digest = Digest(challenge, self._login.user, self._login.password)
        except (KeyError, ValueError) as error:
            raise Refused(
                f"The {self._label} at {self._address} asks for a login that is not known here "
                f"({scheme or 'no scheme'}, {error}). Expected digest with SHA-256, or basic. "
                "Bring its firmware up to date."
            ) from None

    def _headers(self, path: str) -> dict[str, str]:
        headers = {"Connection": "close", "Accept": "application/json"}
        if self._digest is not None:
            headers["Authorization"] = self._digest.header("GET", path)
        elif self._basic:
            pair = f"{self._login.user}:{self._login.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def _ask(self, path: str) -> tuple[Answer, str]:
        """Return the answer to one request, and its challenge. Raises Unreachable or BadAnswer."""
        connection = http.client.HTTPConnection(
            self._address.host, self._address.port or 80, timeout=self._timeout_s
        )
        deadline_s = time.monotonic() + self._timeout_s
        try:
            connection.connect()
            sent_s = self._monotonic()
            connection.request("GET", path, headers=self._headers(path))
            response = connection.getresponse()
            content = self._content(response, deadline_s)
            answered_s = self._monotonic()
        except TimeoutError:
            raise self._unreachable("no answer in time") from None
        except http.client.IncompleteRead:
            raise self.bad_answer(f"broke off its answer to {shown(path)}") from None
        except http.client.RemoteDisconnected:
            raise self._unreachable("it closed the connection without an answer") from None
        except http.client.HTTPException:
            raise self.wrong_device("does not speak HTTP") from None
        except (OSError, UnicodeError) as error:  # the latter for names that are none
            why = getattr(error, "strerror", None) or "no connection"
            raise self._unreachable(why) from None
        finally:
            with contextlib.suppress(OSError):
                connection.close()
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        took_s = answered_s - sent_s
        challenge = response.headers.get("WWW-Authenticate", "")
        return Answer(response.status, body, answered_s - took_s / 2, took_s), challenge

    def _content(self, response: http.client.HTTPResponse, deadline_s: float) -> bytes:
        """Return the body; raises TimeoutError for one that only trickles in."""
        content = b""
        while piece := response.read1(1 << 16):
            content += piece
            if len(content) > LARGEST_BYTES:
                raise self.wrong_device("sends more than a reading")
            if time.monotonic() > deadline_s:
                raise TimeoutError
        if response.length:  # read1 does not say that the rest is missing
            raise http.client.IncompleteRead(content, response.length)
        return content


def shown(path: str) -> str:
    """Return a path for a message: the query of some devices holds the password."""
    return path.partition("?")[0]


def number_in(body: Any, *keys: str | int) -> float | None:
    """Return the finite number at a place in JSON; None where there is none."""
    for key in keys:
        try:
            body = body[key]
        except (KeyError, IndexError, TypeError):
            return None
    if isinstance(body, bool) or not isinstance(body, int | float):
        return None
    return float(body) if body == body and abs(body) != float("inf") else None


def names_itself_emulated(*words: object) -> bool:
    """Return whether a device says in its model or firmware that it is no real one."""
    return any("emulated" in str(word).lower() for word in words)
