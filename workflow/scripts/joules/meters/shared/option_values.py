"""The values of a meter's options, checked: each refusal says what was given and what to do."""

import dataclasses
import math
from collections.abc import Sequence

from joules.core.errors import UserError
from joules.core.inference import Options
from joules.meters.meter import COMPONENTS


@dataclasses.dataclass(frozen=True)
class Address:
    """A host, and a port where one was given. Not published: it is of a private network."""

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def refuse(meter: str, key: str, value: object, expected: str) -> UserError:
    """Return the error for a value that is not of the expected kind."""
    return UserError(
        f"The meter {meter} has {key}: {value!r}; expected {expected}. "
        f"Correct it under `meters`, or in OPTIONS of `make meter`."
    )


def address(meter: str, options: Options) -> Address:
    """Return the address that the option `host` names: HOST or HOST:PORT.

    Raises UserError where it is missing, holds more than that, or has no such port.
    """
    if not options.get("host"):
        raise UserError(
            f"The meter {meter} has no `host`; expected the address of the device in the local "
            "network, as host: 192.0.2.7. The device's own page or the router's list shows it."
        )
    text = str(options["host"]).strip()
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
    host = host.removeprefix("[").removesuffix("]")
    wrong = any(sign in text for sign in "/@?# ") or not host
    if wrong or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise refuse(meter, "host", text, "a name or an address, with :PORT where it needs one")
    return Address(host, int(port) if port else None)


def text(meter: str, options: Options, key: str, default: str = "") -> str:
    """Return an option that is a word; the default where it is not given."""
    value = options.get(key, default)
    if not isinstance(value, str):
        raise refuse(meter, key, value, "a word")
    return value


def one_of(meter: str, options: Options, key: str, allowed: Sequence[str], default: str) -> str:
    """Return an option that is one of some words; an empty default is allowed as well."""
    value = options.get(key, default)
    if value not in allowed and value != default:
        raise refuse(meter, key, value, f"one of {', '.join(allowed)}")
    return str(value)


def number(
    meter: str, options: Options, key: str, default: float, lowest: float = -math.inf
) -> float:
    """Return an option that is a finite number, not below `lowest`."""
    value = options.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < lowest:
        bound = "" if lowest == -math.inf else f", {lowest:g} or more"
        raise refuse(meter, key, value, f"a number{bound}")
    return float(value)


def index(meter: str, options: Options, key: str) -> int | None:
    """Return an option that is a whole number from 0 on; None where it is not given."""
    value = options.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise refuse(meter, key, value, "a whole number, 0 or more")
    return value


def component(meter: str, options: Options, default: str = "") -> str:
    """Return what the energy belongs to; raises UserError where it must be said and is not."""
    value = one_of(meter, options, "component", COMPONENTS, default)
    if not value:
        raise UserError(
            f"The meter {meter} has no `component`: it cannot tell what its source feeds. Expected "
            f"one of {', '.join(COMPONENTS)}. Say it, as component: gpu."
        )
    return value
