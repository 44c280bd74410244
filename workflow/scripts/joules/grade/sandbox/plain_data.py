"""Arguments and answers as plain JSON between a judge and a program that it does not trust.

Only plain data crosses: an answer of any other type arrives as an inert `Opaque`. An object that
equals everything, or a subclass with its own `__eq__`, therefore cannot decide its own test.
Loaded inside the sandbox: standard library only.
"""

import itertools
import json
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_BYTES = 65536
MAX_DEPTH = 60
MAX_ITEMS = 20000
MAX_DECIMAL_DIGITS = 1000
_JSON_INT = 1 << 53
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, deque)


class NotPlain(Exception):
    """A value that is too large or too deep to cross, or a message that is not of this format."""


class Opaque:
    """What stands for an object that is not plain data: equal to nothing but itself."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str) -> None:
        """Keep the name of the type that the object had."""
        self.type_name = type_name


def dumps(value: Any) -> bytes:
    """Return `value` as ASCII JSON of at most 64 KiB. Raises NotPlain when it does not fit."""
    data = _ENCODER.encode(encode(value)).encode("ascii")
    if len(data) > MAX_BYTES:
        raise NotPlain(f"{len(data)} bytes")
    return data


def loads(data: bytes) -> Any:
    """Return the value that `dumps` wrote. Raises NotPlain for anything else, whatever it is."""
    if len(data) > MAX_BYTES:
        raise NotPlain(f"{len(data)} bytes")
    try:
        return decode(json.loads(data))
    except Exception as error:
        raise NotPlain(type(error).__name__) from error


def encode(value: Any, depth: int = 0) -> Any:
    """Return `value` as JSON types: scalars as they are, all else as [type name, content].

    Subclasses become their base type through the base type's own methods.
    Raises NotPlain when the value is nested deeper than 60 levels.
    """
    if depth > MAX_DEPTH:
        raise NotPlain("nested too deeply")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        number = int.__int__(value)
        return number if abs(number) < _JSON_INT else ["int", hex(number)]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, str):
        return "".join(str.__iter__(value))
    if isinstance(value, bytes):
        return ["bytes", bytes.hex(value)]
    if isinstance(value, bytearray):
        return ["bytearray", bytearray.hex(value)]
    if isinstance(value, complex):
        plain = complex.__pos__(value)
        return ["complex", [plain.real.hex(), plain.imag.hex()]]
    if isinstance(value, dict):
        return [
            "dict",
            [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in dict.items(value)],
        ]
    for kind in _SEQUENCES:
        if isinstance(value, kind):
            return [kind.__name__, [encode(item, depth + 1) for item in kind.__iter__(value)]]
    return _encode_other(value, depth)


def _encode_other(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is range:
        return ["range", [encode(part) for part in (value.start, value.stop, value.step)]]
    if (kind.__module__, kind.__name__) == ("fractions", "Fraction"):
        return ["Fraction", [encode(value.numerator), encode(value.denominator)]]
    if (kind.__module__, kind.__name__) == ("decimal", "Decimal"):
        return ["Decimal", str(value)]
    if kind.__name__ in ("dict_keys", "dict_values", "dict_items") or hasattr(kind, "__next__"):
        name = kind.__name__ if kind.__name__.startswith("dict_") else "iterator"
        items = list(itertools.islice(iter(value), MAX_ITEMS + 1))
        if len(items) > MAX_ITEMS:
            raise NotPlain(f"more than {MAX_ITEMS} items")
        return [name, [encode(item, depth + 1) for item in items]]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        plain = value.item()
        # As in a test, numpy's True equals True and is not it.
        return encode(int(plain) if plain is True or plain is False else plain, depth + 1)
    return ["object", str(kind.__name__)[:60]]


def decode(data: Any, depth: int = 0) -> Any:
    """Return the value that `encode` described; bad input raises some exception."""
    if depth > MAX_DEPTH + 1:
        raise NotPlain("nested too deeply")
    if type(data) is not list:
        return data
    name, content = data
    if name in _SCALARS:
        return _SCALARS[name](content)
    items = [decode(item, depth + 1) for item in content] if name != "dict" else []
    if name == "dict":
        return {decode(k, depth + 1): decode(v, depth + 1) for k, v in content}
    if name == "dict_items":
        return dict(items).items()
    return _CONTAINERS[name](items)


def _decimal(text: str) -> Any:
    from decimal import Decimal  # seldom needed, slow to load

    value = Decimal(text)
    if value.is_finite() and abs(value.adjusted()) > MAX_DECIMAL_DIGITS:
        raise NotPlain("a Decimal too large to compute with")
    return value


def _fraction(parts: list[int]) -> Any:
    from fractions import Fraction  # seldom needed, slow to load

    return Fraction(parts[0], parts[1])


def _range(parts: list[int]) -> range:
    value = range(*parts)
    if len(value) > MAX_ITEMS:
        raise NotPlain("a range too long to walk through")
    return value


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda parts: complex(float.fromhex(parts[0]), float.fromhex(parts[1])),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "Decimal": _decimal,
    "object": Opaque,
}
_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "range": _range,
    "Fraction": _fraction,
    "dict_keys": lambda items: dict.fromkeys(items).keys(),
    "dict_values": lambda items: dict(enumerate(items)).values(),
    "iterator": iter,
}
