"""Arguments and answers as plain JSON between a judge and a program that it does not trust.

Only plain data crosses, the standard library's and numpy's containers of it among them: the judge
builds them anew. An answer of any other type arrives as an inert `Opaque`. An object that equals
everything, or a subclass with its own `__eq__`, therefore cannot decide its own test.
Loaded inside the sandbox: standard library only.
"""

import array
import itertools
import json
import re
import sys
import types
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any

MAX_BYTES = 65536
MAX_DEPTH = 60
MAX_ITEMS = 20000
MAX_DECIMAL_DIGITS = 1000
_JSON_INT = 1 << 53
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_WRAPPERS: tuple[Any, ...] = (UserList, UserDict, UserString)
_MAPPINGS: tuple[Any, ...] = (ChainMap, types.MappingProxyType)
_VIEWS = {KeysView: "dict_keys", ItemsView: "dict_items", ValuesView: "dict_values"}
_NUMBERS_OF_NUMPY = re.compile(r"[<|=](b1|[iu][1248]|f2|f4|f8|f16|c8|c16|c32)")


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


def loads(data: bytes, inert: set[str] | None = None) -> Any:
    """Return the value that `dumps` wrote. Raises NotPlain for anything else, whatever it is.

    Adds to `inert` the names of the types that could not cross.
    """
    if len(data) > MAX_BYTES:
        raise NotPlain(f"{len(data)} bytes")
    try:
        return decode(json.loads(data), 0, inert)
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
    return _encode_standard(value, depth) or _encode_other(value, depth)


def _encode_standard(value: Any, depth: int) -> Any:
    """Return what `encode` does for less usual types of the standard library, else None."""
    if isinstance(value, array.array):
        items = array.array.tolist(value)
        return ["array", [value.typecode, [encode(item, depth + 1) for item in items]]]
    if isinstance(value, memoryview):
        return ["bytes", memoryview.tobytes(value).hex()]
    for kind in _WRAPPERS:
        if isinstance(value, kind):
            return [kind.__name__, [encode(value.data, depth + 1)]]
    for kind in _MAPPINGS:
        if isinstance(value, kind):
            pairs = [[key, kind.__getitem__(value, key)] for key in kind.__iter__(value)]
            return [kind.__name__, [encode(dict(pairs), depth + 1)]]
    return None


def _encode_other(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is range:
        return ["range", [encode(part) for part in (value.start, value.stop, value.step)]]
    if (kind.__module__, kind.__name__) == ("fractions", "Fraction"):
        return ["Fraction", [encode(value.numerator), encode(value.denominator)]]
    if (kind.__module__, kind.__name__) == ("decimal", "Decimal"):
        return ["Decimal", str(value)]
    view = next((_VIEWS[base] for base in _VIEWS if isinstance(value, base)), "")
    if view or hasattr(kind, "__next__"):
        name = view or "iterator"
        items = list(itertools.islice(iter(value), MAX_ITEMS + 1))
        if len(items) > MAX_ITEMS:
            raise NotPlain(f"more than {MAX_ITEMS} items")
        return [name, [encode(item, depth + 1) for item in items]]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        return _encode_numpy(numpy, value, depth)
    return ["object", ascii(str(kind.__name__))[1:-1][:60]]


def _encode_numpy(numpy: Any, value: Any, depth: int) -> Any:
    """Return numbers as their bytes, text and objects one by one; other types are inert."""
    scalar = isinstance(value, numpy.generic)
    plain = numpy.asarray(value)
    dtype, shape = plain.dtype.newbyteorder("<").str, list(plain.shape)
    if _NUMBERS_OF_NUMPY.fullmatch(dtype):
        name = "numpy_number" if scalar else "numpy_numbers"
        return [name, [dtype, shape, plain.astype(dtype).tobytes().hex()]]
    if plain.dtype.kind in "OUS":
        items = [encode(item, depth + 1) for item in plain.ravel().tolist()]
        return ["numpy_items", [plain.dtype.kind, shape, items]]
    return ["object", "numpy." + str(plain.dtype)[:40]]


def decode(data: Any, depth: int = 0, inert: set[str] | None = None) -> Any:
    """Return the value that `encode` described; bad input raises some exception."""
    if depth > MAX_DEPTH + 1:
        raise NotPlain("nested too deeply")
    if type(data) is not list:
        return data
    name, content = data
    if name == "object" and inert is not None:
        inert.add(content[:60])
    if name in _SCALARS:
        return _SCALARS[name](content)
    if name in ("array", "numpy_items"):
        *head, items = content
        return _FILLED[name](*head, [decode(item, depth + 1, inert) for item in items])
    items = [decode(item, depth + 1, inert) for item in content] if name != "dict" else []
    if name == "dict":
        return {decode(k, depth + 1, inert): decode(v, depth + 1, inert) for k, v in content}
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


def _numpy_numbers(parts: list[Any]) -> Any:
    import numpy  # seldom needed, slow to load

    dtype, shape, content = parts
    if not _NUMBERS_OF_NUMPY.fullmatch(dtype):
        raise NotPlain("not numbers of numpy")
    raw = bytes.fromhex(content)
    values = numpy.frombuffer(raw, numpy.uint8 if dtype == "|b1" else numpy.dtype(dtype))
    # A truth value of another byte than 0 or 1 could equal both.
    values = values != 0 if dtype == "|b1" else values.copy()
    return values.reshape(tuple(shape))


def _numpy_items(kind: str, shape: list[int], items: list[Any]) -> Any:
    import numpy  # seldom needed, slow to load

    values = numpy.empty(len(items), dtype=object)
    for number, item in enumerate(items):
        values[number] = item
    if kind != "O":
        longest = max((len(item) for item in items), default=0)
        if longest * len(items) > 8 * MAX_BYTES or kind not in ("U", "S"):
            raise NotPlain("text of numpy too large to hold")
        values = values.astype(kind)
    return values.reshape(tuple(shape))


def _array(typecode: str, items: list[Any]) -> Any:
    return array.array(typecode, items)


def _dict_of(items: list[Any]) -> dict[Any, Any]:
    (content,) = items
    if type(content) is not dict:
        raise NotPlain("not a dict")
    return content


def _list_of(items: list[Any]) -> list[Any]:
    (content,) = items
    if type(content) is not list:
        raise NotPlain("not a list")
    return content


_FILLED: dict[str, Callable[..., Any]] = {"array": _array, "numpy_items": _numpy_items}
_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda parts: complex(float.fromhex(parts[0]), float.fromhex(parts[1])),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "Decimal": _decimal,
    "object": Opaque,
    "numpy_numbers": _numpy_numbers,
    "numpy_number": lambda parts: _numpy_numbers(parts)[()],
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
    "UserList": lambda items: UserList(_list_of(items)),
    "UserDict": lambda items: UserDict(_dict_of(items)),
    "UserString": lambda items: UserString(str(*items)),
    "ChainMap": lambda items: ChainMap(_dict_of(items)),
    "mappingproxy": lambda items: types.MappingProxyType(_dict_of(items)),
}
