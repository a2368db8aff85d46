"""Null-safety, truth, equality, order and arithmetic over every kind of value."""

import decimal
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from flowcraft_sdk.protocol.expressions import compile_expression, truthy


def value(source: str, **scope: Any) -> Any:
    return compile_expression(source).evaluate(scope)


@pytest.mark.parametrize(
    "falsy", [None, False, 0, 0.0, -0.0, math.nan, "", Decimal(0), Decimal("NaN"), Decimal("sNaN")]
)
def test_falsy(falsy: Any) -> None:
    assert truthy(falsy) is False
    assert value("!x", x=falsy) is True
    assert value("x ? 1 : 2", x=falsy) == 2


@pytest.mark.parametrize(
    "true", [True, 1, -1, 0.1, math.inf, "0", "false", " ", [], {}, (), Decimal("0.1"), b"", object()]
)
def test_truthy(true: Any) -> None:
    assert truthy(true) is True
    assert value("bool(x)", x=true) is True
    assert value("2 if x else 1", x=true) == 2


@pytest.mark.parametrize(
    "source",
    [
        "x",
        "x.y",
        "x.y.z[0]['k'][1 + 1]",
        "x[y]",
        "known[x]",
        "x + 1",
        "1 - x",
        "x * x",
        "x / 2",
        "x % 2",
        "-x",
        "x + 'a'",
        "known.k.deeper",
        "known[null]",
        "known[[]]",
        "known[{}]",
    ],
)
def test_missing_is_null(source: str) -> None:
    assert value(source, known={"k": 1}) is None
    assert value(source, known={"k": 1}, x=None, y=None) is None


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        (None, 0),
        (0, None),
        (None, None),
        (1, "0"),
        ("1", 0),
        (True, 0),
        (True, False),
        ([1], [0]),
        ([1], 0),
        ({}, {}),
        (math.nan, 1),
        (math.nan, math.nan),
        (Decimal("NaN"), 1),
        (Decimal("sNaN"), 1),
        (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime(2026, 1, 1), date(2026, 1, 1)),
        (b"a", b"b"),
        (object(), object()),
    ],
)
def test_no_order_between_unlike_values(operator: str, left: Any, right: Any) -> None:
    assert value(f"a {operator} b", a=left, b=right) is False


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1, 2),
        (1, 1.5),
        (-(10**400), 1.5),
        (1.5, 10**400),
        (0, math.inf),
        (Decimal("1.1"), 2),
        (1.5, Decimal("1.6")),
        (Decimal("1.1"), Decimal("1.2")),
        ("", "a"),
        ("Z", "a"),
        ("10", "9"),
        (date(2026, 1, 1), date(2026, 1, 2)),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (timedelta(1), timedelta(2)),
    ],
)
def test_order(low: Any, high: Any) -> None:
    assert [value(f"a {op} b", a=low, b=high) for op in ("<", "<=", ">", ">=")] == [True, True, False, False]
    assert [value(f"a {op} b", a=high, b=low) for op in ("<", "<=", ">", ">=")] == [False, False, True, True]
    assert [value(f"a {op} b", a=low, b=low) for op in ("<", "<=", ">", ">=")] == [False, True, False, True]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (None, None, True),
        (None, 0, False),
        (None, False, False),
        (None, "", False),
        (0, False, False),
        (1, True, False),
        (True, True, True),
        (1, 1.0, True),
        (0.1, 0.1, True),
        (1, "1", False),
        ("a", "a", True),
        (math.nan, math.nan, False),
        ([], [], True),
        ([1, [2]], [1.0, [2]], True),
        ([1], [True], False),
        ([1], [1, 2], False),
        ([], {}, False),
        ([], None, False),
        (None, [], False),
        ({"a": 1, "b": [{}]}, {"b": [{}], "a": 1.0}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": None}, {"b": None}, False),
        ({"a": None}, {}, False),
        ((1, 2), [1, 2], True),
        (Decimal("1.0"), 1, True),
        (Decimal("sNaN"), 1, False),
        (date(2026, 1, 1), date(2026, 1, 1), True),
        (UUID(int=1), UUID(int=1), True),
        (b"a", b"a", True),
        (b"a", "a", False),
    ],
)
def test_equality(left: Any, right: Any, expected: bool) -> None:
    for a, b in ((left, right), (right, left)):
        assert value("a == b", a=a, b=b) is expected
        assert value("a === b", a=a, b=b) is expected
        assert value("a != b", a=a, b=b) is not expected
        assert value("a !== b", a=a, b=b) is not expected
        assert value("[a] == [b]", a=a, b=b) is expected
        assert value("{k: a} == {k: b}", a=a, b=b) is expected
        assert value("a in [0, [b], b]", a=a, b=b) is (expected or value("a == 0 || a == [b]", a=a, b=b))


@pytest.mark.parametrize(
    ("item", "container", "expected"),
    [
        (1, [1, 2], True),
        (1.0, [1], True),
        (True, [1], False),
        ({"k": [1]}, [{"k": [1]}], True),
        (None, [None], True),
        (None, [], False),
        ("b", "abc", True),
        ("", "abc", True),
        (1, "1", False),
        (None, "None", False),
        ("k", {"k": None}, True),
        ("v", {"k": "v"}, False),
        (1, {"1": 1}, False),
        ([], {"k": 1}, False),
        ("a", None, False),
        ("a", 5, False),
    ],
)
def test_membership(item: Any, container: Any, expected: bool) -> None:
    assert value("i in c", i=item, c=container) is expected
    assert value("i not in c", i=item, c=container) is not expected
    assert value("contains(c, i)", i=item, c=container) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("7 / 2", 3.5),
        ("6 / 3", 2),
        ("-6 / 3", -2),
        ("6.0 / 3", 2.0),
        ("7 % 3", 1),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-7.5 % 2", -1.5),
        ("1 / 0", None),
        ("1.0 / 0", None),
        ("0 / 0", None),
        ("1 % 0", None),
        ("1.5 % 0.0", None),
        ("1 + true", None),
        ("true + true", None),
        ("-true", None),
        ("-'1'", None),
        ("'3' * 2", None),
        ("'ab' * 2", None),
        ("[1] + [2]", None),
        ("'a' + null", None),
        ("'a' - 'b'", None),
        ("1e308 * 10", None),
        ("1e308 + 1e308", None),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("1 - 1.0", 0.0),
    ],
)
def test_arithmetic(source: str, expected: Any) -> None:
    result = value(source)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("d + 1", Decimal("2.10")),
        ("d - d", Decimal("0.00")),
        ("d * 2", Decimal("2.20")),
        ("d / 2", Decimal("0.55")),
        ("d % 1", Decimal("0.10")),
        ("-d", Decimal("-1.10")),
        ("d + 0.5", 1.6),
        ("d / 0", None),
        ("d + big", None),
        ("abs(-d)", Decimal("1.10")),
        ("round(d, 1)", Decimal("1.1")),
        ("round(d)", 1),
        ("int(d)", 1),
        ("float(d)", 1.1),
        ("str(d)", "1.10"),
        ("d > 1 and d < 1.2 and d == 1.1 and 1.1 == d", True),
        ("d >= 1.1 and d <= 1.1 and 1.1 <= d and [d] == [1.1]", True),
        ("d == 1.1000000000000003", False),
        ("int(big)", None),
        ("float(big)", None),
        ("round(big)", None),
    ],
)
def test_decimals(source: str, expected: Any) -> None:
    result = value(source, d=Decimal("1.10"), big=Decimal("9E+999999"))
    if source == "d + big":
        assert result == Decimal("9E+999999")
    else:
        assert (result, type(result)) == (expected, type(expected))


def test_decimals_do_not_depend_on_the_context_of_the_thread() -> None:
    with decimal.localcontext() as context:
        context.prec = 2
        context.traps[decimal.Inexact] = True
        context.traps[decimal.FloatOperation] = True
        assert value("x + 1", x=Decimal("123.456")) == Decimal("124.456")
        assert value("round(x, 2)", x=Decimal("123.456")) == Decimal("123.46")
        assert value("abs(x)", x=Decimal("-123.456")) == Decimal("123.456")
