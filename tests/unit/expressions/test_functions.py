"""The functions, over what they are for and over everything else."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression
from flowcraft_sdk.protocol.expressions.functions import FUNCTIONS

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    10**5000,
    1.5,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "text",
    "\ud800",
    [],
    [None],
    ["a", 1],
    [math.nan, 1],
    {},
    {"k": 1},
    (1, 2),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("-Infinity"),
    Decimal("1E+999999"),
    Decimal("1E-999999"),
    b"bytes",
    date(2026, 1, 2),
    object(),
]
TRUE_OR_FALSE = {"bool", "contains", "startsWith", "endsWith", "exists", "any", "all"}


def value(source: str, **scope: Any) -> Any:
    return compile_expression(source).evaluate(scope)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("len('añb')", 3),
        ("len([1, 2])", 2),
        ("len({a: 1})", 1),
        ("len(5)", None),
        ("len(null)", None),
        ("int(2.9)", 2),
        ("int(-2.9)", -2),
        ("int(' 42 ')", 42),
        ("int('-7')", -7),
        ("int('4.2')", None),
        ("int('x')", None),
        ("int('1_000')", None),
        ("int('٣')", None),
        ("int(true)", 1),
        ("int(null)", None),
        ("int([])", None),
        ("float(2)", 2.0),
        ("float('1.5e2')", 150.0),
        ("float('nan')", None),
        ("float('1e999')", None),
        ("float(false)", 0.0),
        ("float({})", None),
        ("str('a')", "a"),
        ("str(5)", "5"),
        ("str(5.0)", "5"),
        ("str(5.25)", "5.25"),
        ("str(1e21)", "1e+21"),
        ("str(true)", "true"),
        ("str(null)", "null"),
        ("str([1])", None),
        ("str({})", None),
        ("lower('ÀB')", "àb"),
        ("upper('ab')", "AB"),
        ("trim('\\t a b \\n')", "a b"),
        ("lower(5)", None),
        ("startsWith('abc', 'ab')", True),
        ("startsWith('abc', 'b')", False),
        ("startsWith(null, 'b')", False),
        ("endsWith('abc', 'bc')", True),
        ("endsWith('abc', 1)", False),
        ("min(3, 1, 2)", 1),
        ("min([3, 1, 2])", 1),
        ("min([3, 1.5])", 1.5),
        ("max('a', 'c', 'b')", "c"),
        ("max(7)", 7),
        ("max([])", None),
        ("max(1, 'a')", None),
        ("max('a', 1)", None),
        ("max(1, null)", None),
        ("max(1, true)", None),
        ("min([1], [2])", None),
        ("sum([])", 0),
        ("sum([1, 2, 3.5])", 6.5),
        ("sum([1, '2'])", None),
        ("sum(['a', 'b'])", None),
        ("sum(5)", None),
        ("round(2.5)", 3),
        ("round(-2.5)", -3),
        ("round(3.5)", 4),
        ("round(2.4)", 2),
        ("round(7)", 7),
        ("round(2.675, 2)", 2.68),
        ("round(1.005, 2)", 1.01),
        ("round(5, 2)", 5),
        ("round(1e300)", int(1e300)),
        ("round(1e300, 2)", 1e300),
        ("round(1.5, -1)", None),
        ("round(1.5, 16)", None),
        ("round(1.5, '1')", None),
        ("round(1.5, null)", 2),
        ("round('1.5')", None),
        ("round(true)", None),
        ("abs(-2)", 2),
        ("abs(-2.5)", 2.5),
        ("abs('-2')", None),
        ("keys({b: 1, a: 2})", ["b", "a"]),
        ("keys([1])", None),
        ("values({b: 1, a: [2]})", [1, [2]]),
        ("values(1)", None),
        ("join(['a', 1, 2.5, true], '-')", "a-1-2.5-true"),
        ("join([], '-')", ""),
        ("join(['a', null], '-')", None),
        ("join(['a', []], '-')", None),
        ("join(['a'], null)", None),
        ("join('abc', '-')", None),
        ("split('a,b,,c', ',')", ["a", "b", "", "c"]),
        ("split('', ',')", [""]),
        ("split('abc', '')", ["a", "b", "c"]),
        ("split('abc', null)", None),
        ("split(5, ',')", None),
        ("default(null, 5)", 5),
        ("default(0, 5)", 0),
        ("default(missing.path, null)", None),
        ("coalesce(null, missing, '', 5)", ""),
        ("coalesce(null)", None),
        ("exists(missing)", False),
        ("exists(0)", True),
        ("any([0, '', 1])", True),
        ("any([0, ''])", False),
        ("any([])", False),
        ("any(1)", False),
        ("all([1, []])", True),
        ("all([1, 0])", False),
        ("all([])", True),
        ("all('x')", False),
    ],
)
def test_function(source: str, expected: Any) -> None:
    result = value(source)
    assert (result, type(result)) == (expected, type(expected))


def test_dates_and_ids_have_texts() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert value("str(x)", x=moment) == "2026-01-02T03:04:05+00:00"
    assert value("str(x)", x=date(2026, 1, 2)) == "2026-01-02"
    assert value("'id ' + str(x)", x=UUID(int=1)) == "id 00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_no_function_raises_and_tests_give_booleans(name: str) -> None:
    function = FUNCTIONS[name]
    if function.takes(1):
        expression = compile_expression(f"{name}(x)")
        results = [expression.evaluate({"x": x}) for x in ODD]
    else:
        expression = compile_expression(f"{name}(x, y)")
        results = [expression.evaluate({"x": x, "y": y}) for x in ODD for y in ODD]
    if function.takes(2):
        expression = compile_expression(f"{name}(x, y)")
        results += [expression.evaluate({"x": x, "y": y}) for x in ODD for y in ODD]
    if name in TRUE_OR_FALSE:
        assert all(type(result) is bool for result in results)


@pytest.mark.parametrize(
    "operator", ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "and", "or", "??"]
)
def test_no_operator_raises(operator: str) -> None:
    expression = compile_expression(f"x {operator} y")
    for x in ODD:
        for y in ODD:
            expression.evaluate({"x": x, "y": y})


def test_no_step_raises() -> None:
    expression = compile_expression("[x[y], x.k, x.length, -x, !x, x[0], x[-1]]")
    for x in ODD:
        for y in ODD:
            expression.evaluate({"x": x, "y": y})


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_number_of_arguments_is_checked_when_loading(name: str) -> None:
    function = FUNCTIONS[name]
    for count in range(5):
        source = f"{name}({', '.join(['1'] * count)})"
        if function.takes(count):
            compile_expression(source)
        else:
            with pytest.raises(ExpressionError, match=rf"{name} takes .* arguments?, not {count}"):
                compile_expression(source)
