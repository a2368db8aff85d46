"""Literals, names, paths, operators and their ranks, in both spellings."""

from typing import Any

import pytest

from flowcraft_sdk.protocol.expressions import compile_expression

SCOPE: dict[str, Any] = {
    "a": 6,
    "b": 4,
    "n": None,
    "t": True,
    "f": False,
    "s": "text",
    "xs": [10, 20, [30]],
    "o": {"k": 1, "in": 2, "0": "zero", "x y": 3, "length": 99, "a-1": 4, "é": 5, "2nd": 6},
    "my-node": "hyphen",
    "step-2": "two",
    "a-b": "one name",
    "len": "a key named like a function",
    "$v": 7,
    "größe": 8,
}


def check(source: str, expected: Any) -> None:
    value = compile_expression(source).evaluate(SCOPE)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", 0),
        ("12", 12),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        ("-5", -5),
        ("--5", 5),
        ("-0.5", -0.5),
        ("'a'", "a"),
        ('"a"', "a"),
        ("''", ""),
        ('"it\'s"', "it's"),
        (r"'it\'s \"x\" \\ \/'", 'it\'s "x" \\ /'),
        (r"'\n\t\r\b\f'", "\n\t\r\b\f"),
        (r"'\x41\u00e9\ud83d\ude00'", "Aé😀"),
        ("'😀'.length", 1),
        ("true", True),
        ("True", True),
        ("false", False),
        ("False", False),
        ("null", None),
        ("None", None),
        ("undefined", None),
        ("[]", []),
        ("[1, 'a', [null],]", [1, "a", [None]]),
        ("{}", {}),
        ("{k: 1, 'x y': 2, \"z\": {q: []},}", {"k": 1, "x y": 2, "z": {"q": []}}),
        ("{in: 1, true: 2, my-node: 3, not: 4}", {"in": 1, "true": 2, "my-node": 3, "not": 4}),
        ("{a, my-node, n}", {"a": 6, "my-node": "hyphen", "n": None}),
    ],
)
def test_literals(source: str, expected: Any) -> None:
    check(source, expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a", 6),
        ("my-node", "hyphen"),
        ("step-2", "two"),
        ("a-b", "one name"),
        ("a - b", 2),
        ("a -b", 2),
        ("a- b", 2),
        ("5-3", 2),
        ("xs[0]-3", 7),
        ("(a)-3", 3),
        ("len", "a key named like a function"),
        ("len(s)", 4),
        ("len (s)", 4),
        ("$v", 7),
        ("größe", 8),
        ("o.k", 1),
        ("o . k", 1),
        ("o['k']", 1),
        ('o["x y"]', 3),
        ("o[s[9] ?? 'k']", 1),
        ("o.in", 2),
        ("o.a-1", 4),
        ("o.é", 5),
        ("o.2nd", 6),
        ("o.0", "zero"),
        ("o[0]", "zero"),
        ("o[0.0]", "zero"),
        ("xs[1]", 20),
        ("xs.1", 20),
        ("xs['1']", 20),
        ("xs[1.0]", 20),
        ("xs[-1]", [30]),
        ("xs[2][0]", 30),
        ("xs.2.0", 30),
        ("xs[a - 5]", 20),
        ("xs[3]", None),
        ("xs[-4]", None),
        ("xs[true]", None),
        ("xs[0.5]", None),
        ("xs['x']", None),
        ("o?.k", 1),
        ("o?.['k']", 1),
        ("n?.k?.[0]", None),
        ("xs.length", 3),
        ("s.length", 4),
        ("'abc'.length", 3),
        ("[1, 2].length", 2),
        ("{q: 5}.q", 5),
        ("(o).k", 1),
        ("o.length", 99),
        ("{}.length", None),
        ("a.length", None),
        ("s[0]", None),
    ],
)
def test_names_and_paths(source: str, expected: Any) -> None:
    check(source, expected)


@pytest.mark.parametrize(
    ("javascript", "python", "expected"),
    [
        ("t && f", "t and f", False),
        ("f || t", "f or t", True),
        ("!t", "not t", False),
        ("a === 6", "a == 6", True),
        ("a !== 6", "a != 6", False),
        ("t ? 1 : 2", "1 if t else 2", 1),
        ("f ? 1 : f ? 2 : 3", "1 if f else 2 if f else 3", 3),
        ("t ? f ? 1 : 2 : 3", "(1 if f else 2) if t else 3", 2),
        ("a > 5 && !(b > 5) || f", "a > 5 and not b > 5 or f", True),
        ("n == null && n === undefined", "n == None and n == None", True),
        ("true && !false", "True and not False", True),
    ],
)
def test_both_spellings(javascript: str, python: str, expected: Any) -> None:
    check(javascript, expected)
    check(python, expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("10 - 4 - 3", 3),
        ("24 / 4 / 3", 2),
        ("2 * 7 % 4", 2),
        ("-2 * -3", 6),
        ("-(2 + 3)", -5),
        ("1 + 2 == 3", True),
        ("1 < 2 == true", "chained"),
        ("not 1 == 2", True),
        ("!1 == 2", False),
        ("not t or t", True),
        ("not (t or t)", False),
        ("not not t", True),
        ("!!s", True),
        ("t and not f", True),
        ("f and f or t", True),
        ("t or f and f", True),
        ("n ?? f || t", True),
        ("!n.x in [true]", True),
        ("1 in [1] and 2 not in [1]", True),
        ("not 1 in [2]", True),
        ("1 + 1 in [2]", True),
        ("f or t ? 'y' : 'n'", "y"),
        ("'y' if f or t else 'n'", "y"),
        ("t ? 1 : 2 + 10", 1),
        ("f ? 1 : 2 + 10", 12),
        ("-o.k", -1),
        ("!o.k", False),
        ("[t ? 1 : 2, 3]", [1, 3]),
        ("{k: t ? 1 : 2}", {"k": 1}),
        ("a\n\t > \r\n 5", True),
    ],
)
def test_precedence(source: str, expected: Any) -> None:
    if expected == "chained":
        with pytest.raises(ValueError, match="comparisons do not chain"):
            compile_expression(source)
    else:
        check(source, expected)


def test_and_and_or_stop_at_the_operand_that_decides_and_give_it() -> None:
    check("0 || '' || s || a", "text")
    check("s && 0 && a", 0)
    check("n || f", False)
    check("t && [] && {}", {})
    check("n ?? n ?? 0 ?? 1", 0)


def test_a_result_is_a_new_list_each_time() -> None:
    expression = compile_expression("[[1], {k: []}]")
    first, second = expression.evaluate({}), expression.evaluate({})
    first[0].append(2)
    first[1]["k"].append(3)
    assert second == [[1], {"k": []}] == expression.evaluate({})


def test_an_expression_is_a_value() -> None:
    assert compile_expression("a.b") == compile_expression("a.b")
    assert "closure" not in repr(compile_expression("a.b"))
    assert compile_expression(" a.b ").source == " a.b "
