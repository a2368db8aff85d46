"""Values as JSON text: what goes in comes out, with and without orjson, and what cannot be stored says where."""

import dataclasses
import json
import math
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from flowcraft_sdk.errors import PayloadTooLargeError, SerializationError
from flowcraft_sdk.protocol import wire as wire_module
from flowcraft_sdk.protocol.value_size import least_size

wire: Any = wire_module
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=11))])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = TEXTS | st.sampled_from(["$decimal", "$object", "$x", "$", "a"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.uuids().map(str)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.binary()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


@pytest.fixture(params=["orjson", "stdlib"])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test twice: with orjson and without it."""
    if request.param == "stdlib":
        monkeypatch.setattr(wire, "orjson", None)
    return str(request.param)


class Listed(list[Any]):
    """A list of a type of its own, which holds an object twice."""

    def __init__(self, held: Any, *, twice: bool = True) -> None:
        super().__init__([held, held] if twice else [held])


class WithoutOrjson:
    """The module without orjson for a while; not a fixture, since hypothesis runs a test many times."""

    def __enter__(self) -> None:
        self.found = wire.orjson
        wire.orjson = None

    def __exit__(self, *_: object) -> None:
        wire.orjson = self.found


@settings(max_examples=300)
@given(VALUES)
def test_what_goes_in_comes_out_whatever_codec_reads_or_writes(value: Any) -> None:
    fast = wire.dumps(value)
    with WithoutOrjson():
        slow = wire.dumps(value)
        assert same(wire.loads(fast), value)
        assert same(wire.loads(slow), value)
    assert same(wire.loads(slow), value)
    assert same(wire.loads(fast.decode()), value)


@given(
    st.recursive(
        st.floats() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    )
)
def test_both_codecs_refuse_the_same_values_with_the_same_words(value: Any) -> None:
    message = []
    for codec in (None, WithoutOrjson()):
        try:
            if codec is None:
                message.append(wire.loads(wire.dumps(value, path="ctx")))
            else:
                with codec:
                    message.append(wire.loads(wire.dumps(value, path="ctx")))
        except SerializationError as error:
            message.append((str(error), error.path))
    assert message[0] == message[1]


def same(found: Any, expected: Any) -> bool:
    """Equality that distinguishes 1 from 1.0 and True."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and list(found) == list(expected)
            and all(same(found[k], expected[k]) for k in found)
        )
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and bool(found == expected)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Token(Enum):
    ID = UUID("6f1f9c2e-8f4b-4f0e-9d38-5b8f0a1b2c3d")


class Line(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    id: UUID
    lines: list[Line]


class Names(RootModel[list[str]]):
    pass


@dataclasses.dataclass
class Point:
    x: float
    when: date


class Pair(NamedTuple):
    left: int
    right: str


ID = UUID("6f1f9c2e-8f4b-4f0e-9d38-5b8f0a1b2c3d")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        ({Colour.RED: Level.HIGH}, {"red": 3}),
        ([Token.ID], [ID]),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Pair(1, "r"), [1, "r"]),
        (Point(1.5, date(2026, 1, 2)), {"x": 1.5, "when": date(2026, 1, 2)}),
        (Order(id=ID, lines=[Line(sku="a", price=Decimal("1.10"))]), {"id": ID, "lines": [{"sku": "a", "price": Decimal("1.10")}]}),
        (Names(["a", "b"]), ["a", "b"]),
        ({"$decimal": "1"}, {"$decimal": "1"}),
        ({"$object": [["a", 1]]}, {"$object": [["a", 1]]}),
        ({"$x": {"$y": {"$z": None}}}, {"$x": {"$y": {"$z": None}}}),
        ({"$x": 1, "y": 2}, {"$x": 1, "y": 2}),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (time(12, 30, tzinfo=UTC), time(12, 30, tzinfo=UTC)),
        (10**40, 10**40),
        (-(2**63) - 1, -(2**63) - 1),
        ("12345678901234567890", "12345678901234567890"),
        ([None, None], [None, None]),
        (str(ID), str(ID)),
    ],
)  # fmt: skip
def test_forms(codec: str, value: Any, expected: Any) -> None:
    assert same(wire.loads(wire.dumps(value)), expected)


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({"items": [{}, {"price": math.nan}]}, "ctx.order.items[1].price", "nan has no JSON form"),
        ([math.inf], "ctx.order[0]", "inf has no JSON form"),
        ([None, -math.inf], "ctx.order[1]", "-inf has no JSON form"),
        ({"n": None, "x": math.nan}, "ctx.order.x", "nan"),
        ({"a": {1: 2}}, "ctx.order.a", "the key 1 is no text"),
        ({"when": datetime(2026, 1, 1)}, "ctx.order.when", "without a time zone"),
        ({"what": [object()]}, "ctx.order.what[0]", "builtins.object has no JSON form"),
        ({"f": len}, "ctx.order.f", "has no JSON form"),
        ({"type": Point}, "ctx.order.type", "has no JSON form"),
        ({"t": "\ud800"}, "ctx.order.t", "lone surrogate"),
        ({"\ud800": 1}, "ctx.order", "lone surrogate"),
        ({"d": Decimal("NaN")}, "ctx.order.d", "NaN has no JSON form"),
        ({"i": 10**5000}, "ctx.order.i", "more than 4300 digits"),
        (1j, "ctx.order", "builtins.complex has no JSON form"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_says_where(codec: str, value: Any, path: str, message: str) -> None:
    with pytest.raises(SerializationError, match=message) as caught:
        wire.dumps(value, path="ctx.order")
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert isinstance(caught.value, TypeError)


def test_a_value_that_contains_itself_is_refused(codec: str) -> None:
    knot: dict[str, Any] = {"a": []}
    knot["a"].append(knot)
    with pytest.raises(SerializationError, match="contains itself") as caught:
        wire.dumps(knot, path="ctx")
    assert caught.value.path == "ctx.a[0]"


def test_the_same_object_twice_is_no_circle(codec: str) -> None:
    shared = {"n": None}
    assert wire.loads(wire.dumps([shared, shared])) == [{"n": None}, {"n": None}]


@pytest.mark.parametrize("shape", ["list", "dict", "tagged"])
def test_nesting_has_the_same_limit_with_both_codecs(codec: str, shape: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = Decimal(1) if shape == "tagged" else 1
        for _ in range(levels):
            value = [value] if shape == "list" else {"k": value}
        return value

    deepest = nested(wire.DEEPEST)
    assert wire.loads(wire.dumps(deepest)) == deepest
    for levels in (wire.DEEPEST + 1, 100_000):
        with pytest.raises(SerializationError, match="nested deeper than 254 levels"):
            wire.dumps(nested(levels))


def test_a_size_over_the_limit_names_both(codec: str) -> None:
    assert wire.dumps("x" * 8, limit=10) == b'"xxxxxxxx"'
    with pytest.raises(PayloadTooLargeError, match=r"ctx.text: 11 bytes are over the limit of 10") as caught:
        wire.dumps("x" * 9, path="ctx.text", limit=10)
    assert (caught.value.size, caught.value.limit, caught.value.path) == (11, 10, "ctx.text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"$decimal": "no number"}', {"$decimal": "no number"}),
        ('{"$timedelta": 5}', {"$timedelta": 5}),
        ('{"$object": [1, [2, 3], ["a", 1]]}', {"$object": [1, [2, 3], ["a", 1]]}),
        ('{"$unknown": {"$date": "2026-01-02"}}', {"$unknown": date(2026, 1, 2)}),
        ('{"a": 1e3, "b": 0.1234567890123456789}', {"a": 1000.0, "b": 0.12345678901234568}),
        ('["\\u00e9", 123456789012345678901234567890]', ["é", 123456789012345678901234567890]),
    ],
)
def test_json_of_others_is_read_as_far_as_it_goes(codec: str, text: str, expected: Any) -> None:
    assert wire.loads(text) == wire.loads(text.encode()) == expected


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "nope", '{"a": -Infinity}', "\x00"])
def test_what_is_no_json_is_a_value_error(codec: str, text: str) -> None:
    with pytest.raises(ValueError):
        wire.loads(text)


def test_plain_json_is_left_to_orjson_and_costs_little() -> None:
    if wire.orjson is None:
        pytest.skip("orjson is not installed")
    document = {"items": [{"id": i, "name": f"n{i}", "share": i / 7, "tags": ["a", "b"]} for i in range(1000)]}
    assert wire._fast(document) == wire.orjson.dumps(document)
    assert wire._fast({**document, "nothing": None, "id": str(ID)}) is not None
    assert json.loads(wire.dumps(document)) == document


class TestValuesWithoutEnd:
    """Few objects may stand for any amount of JSON; what is written is bounded in bytes and in items."""

    @pytest.mark.parametrize("leaf", [1, "text", UUID(int=1), Decimal(1)])
    @pytest.mark.parametrize("hold", [lambda x: [x, x], lambda x: {"a": x, "b": x}, lambda x: (x, [x]), Listed])
    def test_lists_that_hold_each_other_are_refused_by_their_size(self, codec: str, leaf: Any, hold: Any) -> None:
        value = leaf
        for _ in range(60):
            value = hold(value)
        with pytest.raises(PayloadTooLargeError, match="value: ") as caught:
            wire.dumps(value, limit=1_000_000)
        assert caught.value.size > 1_000_000

    def test_a_text_that_occurs_many_times_counts_each_time(self, codec: str) -> None:
        with pytest.raises(PayloadTooLargeError):
            wire.dumps(["x" * 1_000_000] * 1_000_000)

    def test_what_is_shared_is_written_as_often_as_it_occurs(self, codec: str) -> None:
        shared = {"at": datetime(2026, 1, 1, tzinfo=UTC)}
        assert wire.loads(wire.dumps([shared, [shared], shared])) == [shared, [shared], shared]

    def test_a_shared_chain_is_no_way_round_the_limit_of_nesting(self, codec: str) -> None:
        chain: Any = UUID(int=1)
        for _ in range(20):
            for _ in range(200):
                chain = Listed(chain, twice=False)
            chain = [chain, chain]
        with pytest.raises(SerializationError, match="nested deeper"):
            wire.dumps(chain)

    def test_an_honest_subclass_may_be_large(self, codec: str) -> None:
        large = OrderedDict((str(number), number) for number in range(150_000))
        assert wire.loads(wire.dumps(large)) == large

    def test_the_least_size_is_never_more_than_the_size(self) -> None:
        for value in ([], {}, [1], {"a": 1}, "x", ["x", ["y", {"z": None}]], [[], {}, ()], {"ä": "ö"}, [0.5, True]):
            assert least_size(value, 1_000, "value") <= len(wire.dumps(value))


@settings(deadline=None)
@given(VALUES)
def test_no_value_is_refused_for_its_size_that_fits(value: Any) -> None:
    size = len(wire.dumps(value))
    assert wire.dumps(value, limit=size)
    with WithoutOrjson():
        assert wire.dumps(value, limit=len(wire.dumps(value)))
