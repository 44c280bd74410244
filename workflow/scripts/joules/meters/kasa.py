"""TP-Link Kasa and Tapo plugs, by the library python-kasa in an environment of its own.

The plug's own counter advances by 1 Wh = 3.6 kJ, too coarse for a run: its power is integrated, and
the counter is held against it. Older Kasa plugs need no login; newer ones and Tapo want the
account's, although they are asked in the local network.
"""

from collections.abc import Sequence
from typing import Any

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import (
    BadAnswer,
    Channel,
    MeterFault,
    Reading,
    Refused,
    Unreachable,
    WrongDevice,
)
from joules.meters.secrets import SECRET_OPTIONS, secret_of
from joules.meters.shared import option_values
from joules.meters.shared.child import Child
from joules.meters.shared.held_against import HeldAgainst
from joules.meters.shared.http import names_itself_emulated

NAME = "kasa"
ENVIRONMENT = "meter-kasa"
ANSWER_S = 6.0  # the library asks a plug that does not answer more than once
COUNTER_STEP_J = 3600.0


class Meter:
    """The power of one plug, integrated, with its own counter held against it."""

    LABEL = "Kasa or Tapo plug"
    DESCRIPTION = (
        "A Kasa or Tapo plug tells its power in the local network, which python-kasa asks for "
        "[@pythonkasa]; we integrate it, and hold the plug's own counter against the sum."
    )
    COMPONENTS = ("wall",)
    ALWAYS_READ = False
    ANSWERS_AT_ONCE = False

    def __init__(self, options: Options | None = None) -> None:
        options = options or {}
        password = secret_of(NAME, options)
        check_options(NAME, options, ("host", "user", *SECRET_OPTIONS))
        self._address = option_values.address(NAME, options)
        user = option_values.text(NAME, options, "user")
        if (password is None) != (user == ""):
            raise option_values.refuse(
                NAME, "user", user, "the account's e-mail address beside its password, or neither"
            )
        greeting = {"host": self._address.host, "port": self._address.port}
        greeting |= {"user": user, "password": password}
        self._had_password = password is not None
        self._child = Child(ENVIRONMENT, "kasa_child.py", greeting, ANSWER_S)
        self._held = HeldAgainst(COUNTER_STEP_J)
        self._facts: Facts = {}
        self.channels: Sequence[Channel] = ()

    def __enter__(self) -> "Meter":
        answer = self._without_fault(self._child.first())
        self._held = HeldAgainst(COUNTER_STEP_J)
        self._facts = {
            "model": answer["model"],
            "firmware": answer["firmware"],
            "emulated": names_itself_emulated(answer["model"], answer["firmware"]),
        }
        self.channels = (Channel("wall", "Kasa power", "energy module", None, counts=False),)
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.close()

    def facts(self) -> Facts:
        """Return model, firmware, and what its counter says beside the integral of its power."""
        return {**self._facts, "held_against_total": self._held.facts()}

    def read(self) -> list[Reading | None]:
        """Return the power. Raises MeterFault where the device cannot be read."""
        answer = self._without_fault(self._child.ask())
        took_s = answer["answered_s"] - answer["asked_s"]
        moment_s = answer["answered_s"] - took_s / 2
        self._held.take(moment_s, answer["power_w"], answer["total_j"])
        return [Reading(moment_s, power_w=answer["power_w"], round_trip_s=took_s)]

    def _without_fault(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer that is a reading; raises MeterFault for another one."""
        if "fault" not in answer:
            return answer
        if not self.channels:  # it is not open yet, so that nobody closes it
            self._child.close()
        raise self._fault(answer["fault"], answer["why"])

    def _fault(self, kind: str, why: str) -> MeterFault:
        where = f"The plug at {self._address}"
        if kind == Refused.__name__:
            what = "another user or password" if self._had_password else "a user and a password"
            return Refused(
                f"{where} wants {what}; expected those of the TP-Link account that it was set up "
                "with. Name them by `user`, and `password_env` or `password_file`."
            )
        if kind == WrongDevice.__name__:
            return WrongDevice(
                f"{where} {why}; expected a Kasa or Tapo plug that meters. Correct `host`, or take "
                "another plug."
            )
        if kind == BadAnswer.__name__:
            return BadAnswer(
                f"{where} {why}; expected its power. Restart it, and bring its firmware up to date."
            )
        return Unreachable(
            f"{where} does not answer ({why}); expected a Kasa or Tapo plug. Look whether it has "
            "power and is in this network, and whether `host` is its address. Newer ones want "
            "`user` and a password."
        )
