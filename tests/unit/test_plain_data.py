"""What crosses between judge and program: plain data, exactly; all else as an inert object."""

import collections
import contextlib
import enum
import json
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joules.grade.sandbox.plain_data import MAX_BYTES, NotPlain, Opaque, dumps, loads

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | st.fractions()
    | st.decimals(allow_nan=False, places=3)
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
PLAIN = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.lists(inner, max_size=4).map(collections.deque)
    ),
    max_leaves=12,
)


def exact(value: object) -> object:
    """Make the types part of the value: 1, 1.0 and True are then three values."""
    if isinstance(value, dict):
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(exact(item)) for item in value)
    if isinstance(value, (list, tuple, collections.deque)):
        return type(value), [exact(item) for item in value]
    return type(value), repr(value)


@given(PLAIN)
def test_plain_values_arrive_as_they_were(value):
    assert exact(loads(dumps(value))) == exact(value)


def test_not_a_number_and_large_integers_arrive():
    assert math.isnan(loads(dumps(math.nan)))
    assert loads(dumps(-(7**6000))) == -(7**6000)


def test_views_ranges_and_iterators_arrive_as_what_they_are():
    table = {1: "a", 2: "b"}
    assert loads(dumps(table.keys())) == table.keys()
    assert loads(dumps(table.items())) == table.items()
    assert list(loads(dumps(table.values()))) == ["a", "b"]
    assert loads(dumps(range(3))) == range(3) != [0, 1, 2]
    iterator = loads(dumps(x for x in "ab"))
    assert (next(iterator), list(iterator)) == ("a", ["b"])


class Truthful(int):
    def __repr__(self):
        return "True"

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class Name(str):
    __slots__ = ()

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


class Level(enum.IntEnum):
    LOW = 1


def test_subclasses_arrive_as_their_base_type_with_its_equality():
    point = collections.namedtuple("point", "x y")(1, 2)
    values = (Truthful(5), Name("a"), Level.LOW, point, collections.Counter("aa"))
    assert [exact(loads(dumps(value))) for value in values] == [
        exact(value) for value in (5, "a", 1, (1, 2), {"a": 2})
    ]


class AlwaysEqual:
    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize("value", [AlwaysEqual(), len, int, NotPlain(), object()])
def test_other_objects_arrive_as_equal_to_nothing(value):
    arrived = loads(dumps([value]))[0]
    assert isinstance(arrived, Opaque)
    assert arrived != 0 and arrived != [] and arrived is not None


def test_a_forged_truth_value_of_numpy_does_not_equal_both():
    value = loads(b'["numpy_number", ["|b1", [], "02"]]')
    assert bool(value == True) and not bool(value == False)  # noqa: E712


def test_text_of_numpy_does_not_take_more_memory_than_its_message_allows():
    items = ["x" * 30000, *["y"] * 4000]
    with pytest.raises(NotPlain):
        loads(json.dumps(["numpy_items", ["U", [len(items)], items]]).encode())


def test_types_that_cannot_cross_are_named():
    inert: set[str] = set()
    loads(dumps([AlwaysEqual(), {1: AlwaysEqual()}, [object()]]), inert)
    assert inert == {"AlwaysEqual", "object"}
    inert.clear()
    loads(dumps(["object", "x"]), inert)
    assert inert == set()


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", ["x" * (MAX_BYTES + 1), nested(80), iter(int, 1)])
def test_what_is_too_large_or_too_deep_does_not_leave(value):
    with pytest.raises(NotPlain):
        dumps(value)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"[1]",
        b'["module", "os"]',
        b'[["list"], []]',
        b'["int", "zz"]',
        b'["set", [["list", []]]]',
        b'["range", [0, 1000000000000, 1]]',
        b'["Decimal", "1e999999999"]',
        b'["Fraction", [1, 0]]',
        b'["list", 5]',
        b'["array", ["q", [1e300]]]',
        b'["array", ["z", []]]',
        b'["UserList", [["object", "x"]]]',
        b'["UserDict", [[]]]',
        b'["ChainMap", []]',
        b'["numpy_number", ["|O", [], "00"]]',
        b'["numpy_numbers", ["<f8", [1000000000], "00"]]',
        b'["numpy_items", ["V", [1], ["x"]]]',
        b'["numpy_items", ["U", [9], ["x"]]]',
        b'["dict", [1]]',
        b"[" * 30000 + b"]" * 30000,
        b"\xff",
        b"1" * (MAX_BYTES + 1),
    ],
)
def test_a_forged_message_is_refused(message):
    with pytest.raises(NotPlain):
        loads(message)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_refused(message):
    with contextlib.suppress(NotPlain):
        loads(message)


def test_decimals_and_fractions_keep_their_values():
    assert exact(loads(dumps([Decimal("1.50"), Fraction(1, 3)]))) == exact(
        [Decimal("1.50"), Fraction(1, 3)]
    )
