"""The keys of a configuration, read from its type: defaults, limits, meaning, and plain errors.

A type says all that is known of a key, once. The schema, the tables of config/README.md and what a
user is told about a mistake come from there.
"""

import difflib
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from joules.core.errors import UserError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXPLAINED = "config/README.md explains every key."

Schema = dict[str, Any]  # a JSON schema
T = TypeVar("T")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a configuration.

    Attributes:
        name: with the keys above it, as `windows.idle_s`.
        default: as YAML; None for a key that must be given.
        description: what it means.
        expected: what its value may be, in words.
    """

    name: str
    default: str | None
    description: str
    expected: str


def keys_of(kind: type[msgspec.Struct], above: str = "") -> list[Key]:
    """Return all keys of a type and of the types inside it, in their order."""
    found: list[Key] = []
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        name, inner = f"{above}{field.encode_name}", _struct_in(field.type)
        if inner is not None:
            found += keys_of(inner.cls, f"{name}.")
            continue
        default = field.default
        if field.default_factory is not inspect.NODEFAULT:
            default = field.default_factory()
        found.append(
            Key(
                name=name,
                default=None if field.required else as_yaml(default),
                description=_said(field.type).get("description", ""),
                expected=expected(field.type),
            )
        )
    return found


def as_yaml(value: object) -> str:
    """Return a default as it would be written in a configuration: `true`, `[task]`, `600`."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) and value else json.dumps(value)


def expected(kind: inspect.Type) -> str:
    """Return in words what a value of this type may be."""
    match kind:
        case inspect.Metadata():
            return _said(kind).get("title") or expected(kind.type)
        case inspect.UnionType():
            some = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
            return " or ".join(map(expected, some))
        case inspect.LiteralType():
            named = ", ".join(f"`{value}`" for value in kind.values)
            return named if len(kind.values) == 1 else f"one of {named}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}"
        case inspect.StrType():
            return "a text" + (f" of the form {kind.pattern}" if kind.pattern else "")
        case inspect.VarTupleType():
            few = f"at least {kind.min_length}" if kind.min_length else "none or more"
            return f"a list, {few}, each of them {expected(kind.item_type)}"
        case inspect.TupleType():
            return f"a list of {len(kind.item_types)}: {', '.join(map(expected, kind.item_types))}"
    return "a mapping of keys to values"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    known = [(word, getattr(kind, name)) for name, word in words.items()]
    said = " and ".join(f"{word} {bound:g}" for word, bound in known if bound is not None)
    return f", {said}" if said else ""


def _said(kind: inspect.Type) -> Mapping[str, str]:
    return (kind.extra_json_schema or {}) if isinstance(kind, inspect.Metadata) else {}


def _struct_in(kind: inspect.Type) -> inspect.StructType | None:
    if isinstance(kind, inspect.Metadata):
        return _struct_in(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, map(_struct_in, kind.types)), None)
    return kind if isinstance(kind, inspect.StructType) else None


def schema_of(kind: type[msgspec.Struct], title: str) -> Schema:
    """Return the JSON schema (draft 2020-12) of a type."""
    return {"$schema": DIALECT, "title": title, **msgspec.json.schema(kind)}


def merged(below: object, above: object) -> object:
    """Return `above` laid over `below`: mappings are merged, all else is replaced, lists too."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def near(name: str, known: Collection[str]) -> str:
    """Return a sentence that names what is nearest to a name that is not known, or all known."""
    matches = difflib.get_close_matches(name, known, n=3)
    if matches:
        return f"Did you mean {' or '.join(matches)}?"
    return f"Known: {', '.join(sorted(known)) or 'none'}."


def converted(value: object, kind: type[T], named: str) -> T:
    """Return a value of foreign origin as `kind`.

    Raises UserError that says where in `named` (a file, or words for one) something is wrong, what
    was seen there and what is expected.
    """
    _refuse_infinite(value, named, "")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{_explained(str(error), value, kind, named)} {EXPLAINED}") from error


def _refuse_infinite(value: object, named: str, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{named}: `{where}` is {value}. Expected a finite number. {EXPLAINED}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_infinite(item, named, f"{where}.{key}".lstrip("."))


def _explained(message: str, value: object, kind: type, named: str) -> str:
    """Return what msgspec found, with the value that it saw and what the type allows there."""
    said, _, place = message.partition(" - at ")
    where, seen, expects = "", value, inspect.type_info(kind)
    for name, index in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", place):
        if index == "..." and isinstance(seen, Mapping):  # msgspec does not say which
            name = next((key for key in seen if not _fits(seen[key], _inside(expects, ""))), "...")
        where = f"{where}.{name}".lstrip(".") if name else f"{where}[{index}]"
        expects = _inside(expects, name)
        seen = _item(seen, name or index)
    if place.startswith("`key`"):
        odd = ", ".join(map(repr, _odd_keys(seen, _pattern_of_keys(expects))))
        inside = f" in `{where}`" if where else ""
        return f"{named} has the key {odd}{inside}, which is not allowed. Correct it or quote it."
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", said):
        return _unknown(unknown[1], where, expects, kind, named)
    if missing := re.fullmatch(r"Object missing required field `(.*)`", said):
        return f"{named} has no `{f'{where}.{missing[1]}'.lstrip('.')}`, which it needs. Add it."
    if re.match(r"Expected `|Invalid enum value", said):
        begin = f"{named}: `{where}` is" if where else f"{named} is"
        return f"{begin} {_short(seen)}. Expected {expected(expects)}. Correct it."
    return f"{named}: {f'`{where}`: ' if where else ''}{said}"


def _fits(value: object, kind: inspect.Type) -> bool:
    """Return whether a value of a mapping is of the type that the mapping's values have."""
    struct = _struct_in(kind)
    if struct is None:
        return not _odd_keys(value)
    try:
        msgspec.convert(value, struct.cls)
    except msgspec.ValidationError:
        return False
    return True


def _odd_keys(value: object, pattern: str = "") -> list[object]:
    """Return the keys of a mapping that are no text of that form; what is no mapping itself."""
    if not isinstance(value, Mapping):
        return [value]
    return [key for key in value if not (isinstance(key, str) and re.search(pattern, key))]


def _pattern_of_keys(kind: inspect.Type) -> str:
    inner = kind.type if isinstance(kind, inspect.Metadata) else kind
    key = inner.key_type if isinstance(inner, inspect.DictType) else None
    key = key.type if isinstance(key, inspect.Metadata) else key
    return (key.pattern or "") if isinstance(key, inspect.StrType) else ""


def _item(value: object, key: str) -> object:
    if isinstance(value, Mapping):
        return value.get(key)
    return value[int(key)] if isinstance(value, (list, tuple)) else None


def _inside(kind: inspect.Type, name: str) -> inspect.Type:
    struct = _struct_in(kind)
    if struct is not None:
        return next(field.type for field in struct.fields if field.encode_name == name)
    inner = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(inner, inspect.DictType):
        return inner.value_type
    if isinstance(inner, inspect.TupleType):
        return inner.item_types[0]  # all of one type
    return inner.item_type if isinstance(inner, inspect.VarTupleType) else inspect.AnyType()


def _unknown(key: str, where: str, found: inspect.Type, kind: type, named: str) -> str:
    struct = _struct_in(found)
    assert struct is not None
    elsewhere = [each.name for each in keys_of(kind) if each.name.rpartition(".")[2] == key]
    here = [field.encode_name for field in struct.fields]
    hint = f"Did you mean {' or '.join(elsewhere)}?" if elsewhere else near(key, here)
    full = f"{where}.{key}".lstrip(".")
    return f"{named} has the key `{full}`, which is not known. {hint} Correct it or take it out."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
