"""Properties over generated expressions, texts and data."""

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression

NAMES = ("a", "b", "my-node")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
NUMBERS = st.integers(-50, 50) | st.sampled_from([0.5, 1.5, -2.25, 10.0])
SIMPLE = st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "x", "y"])

# A tree is a value (as itself), ("name", n), ("not", t), ("neg", t) or (operator, left, right).
BINARY = ("+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "and", "or")
TREES = st.recursive(
    SIMPLE | st.tuples(st.just("name"), st.sampled_from(NAMES)),
    lambda inner: st.tuples(st.sampled_from(("not", "neg")), inner) | st.tuples(st.sampled_from(BINARY), inner, inner),
    max_leaves=12,
)
RANK = {"or": 1, "and": 2, "not": 3, "compare": 4, "+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "neg": 7}
JAVASCRIPT = {"and": "&&", "or": "||", "==": "===", "!=": "!==", "not": "!"}


def fenced(tree: Any) -> str:
    """The expression of a tree with parentheses everywhere."""
    if not isinstance(tree, tuple):
        return json.dumps(tree)
    if tree[0] == "name":
        return str(tree[1])
    if len(tree) == 2:
        return f"({JAVASCRIPT['not'] if tree[0] == 'not' else '-'}({fenced(tree[1])}))"
    return f"({fenced(tree[1])} {JAVASCRIPT.get(tree[0], tree[0])} {fenced(tree[2])})"


def sparse(tree: Any, least: int = 0) -> str:
    """The expression of a tree in Python's words, with parentheses only where the ranks need them."""
    if not isinstance(tree, tuple) or tree[0] == "name":
        return fenced(tree)
    rank = RANK.get(tree[0], RANK["compare"])
    if len(tree) == 2:
        text = ("not " if tree[0] == "not" else "-") + sparse(tree[1], rank)
    else:
        left = rank + 1 if rank == RANK["compare"] else rank
        text = f"{sparse(tree[1], left)} {tree[0]} {sparse(tree[2], rank + 1)}"
    return f"({text})" if rank < least else text


def is_true(value: Any) -> bool:
    return value is not None and value not in (False, 0, "")


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def reference(tree: Any, scope: dict[str, Any]) -> Any:
    """What a tree means, written down a second time and as plainly as can be."""
    if not isinstance(tree, tuple):
        return tree
    if tree[0] == "name":
        return scope.get(tree[1])
    a = reference(tree[1], scope)
    if tree[0] == "not":
        return not is_true(a)
    if tree[0] == "neg":
        return -a if number(a) else None
    b = reference(tree[2], scope)
    if tree[0] in ("and", "or"):
        return b if is_true(a) == (tree[0] == "and") else a
    if tree[0] in ("==", "!="):
        alike = (number(a) and number(b)) or type(a) is type(b)
        return (alike and a == b) == (tree[0] == "==")
    texts = isinstance(a, str) and isinstance(b, str)
    if tree[0] in ("<", "<=", ">", ">="):
        if not texts and not (number(a) and number(b)):
            return False
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[tree[0]]
    if texts and tree[0] == "+":
        return a + b
    return calculated(tree[0], a, b) if number(a) and number(b) else None


def calculated(operator: str, a: Any, b: Any) -> Any:
    if operator in ("/", "%") and b == 0:
        return None
    if operator == "/":
        return a / b
    if operator == "%":
        return math.copysign(abs(a) % abs(b), a)
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


def same(left: Any, right: Any) -> bool:
    if number(left) and number(right):
        return math.isclose(left, right, rel_tol=1e-12)
    return type(left) is type(right) and bool(left == right)


@given(TREES, st.dictionaries(st.sampled_from(NAMES), SIMPLE))
@settings(max_examples=600, deadline=None)
def test_the_core_agrees_with_a_second_evaluation(tree: Any, scope: dict[str, Any]) -> None:
    expected = reference(tree, scope)
    for source in (fenced(tree), sparse(tree)):
        assert same(compile_expression(source).evaluate(scope), expected), source


TOKENS = """a b.c my-node 1 2.5 'x' "y" ( ) [ ] { } , : ? . ?. ?? ! - + * / % == === != < <= > >= && || and or not in if
    else true None len( max( sum( join( split( str( [0] .length ' " \\ ** = &"""
PIECES = st.sampled_from([*TOKENS.split(), "\n"])


@given(st.text(max_size=80) | st.lists(PIECES, max_size=25).map(" ".join) | st.lists(PIECES, max_size=25).map("".join))
@settings(max_examples=1500, deadline=None)
def test_any_text_compiles_or_is_an_expression_error(source: str) -> None:
    try:
        expression = compile_expression(source)
    except ExpressionError as error:
        assert 0 <= error.offset <= len(source)
        assert "\n" not in error.message.replace(source, "")
        assert str(error).endswith("^")
    else:
        expression.evaluate({"a": [1, {"k": 2}], "b": {"c": "text"}})


@given(st.lists(PIECES, max_size=12).map(" ".join), JSON, JSON)
@settings(max_examples=600, deadline=None)
def test_no_data_makes_an_evaluation_raise(source: str, a: Any, b: Any) -> None:
    try:
        expression = compile_expression(source)
    except ExpressionError:
        return
    expression.evaluate({"a": a, "b": b})


@given(JSON, JSON)
@settings(max_examples=300, deadline=None)
def test_equality_is_symmetric_and_membership_follows_it(a: Any, b: Any) -> None:
    scope = {"a": a, "b": b}
    equal = compile_expression("a == b").evaluate(scope)
    assert compile_expression("b == a").evaluate(scope) is equal
    assert compile_expression("a != b").evaluate(scope) is not equal
    assert compile_expression("a in [b]").evaluate(scope) is equal
    assert compile_expression("{k: [a]} == {k: [b]}").evaluate(scope) is equal


@given(st.dictionaries(st.text(min_size=1), SIMPLE), st.text(min_size=1))
def test_every_key_can_be_written_in_brackets(data: dict[str, Any], key: str) -> None:
    expression = compile_expression(f"context[{json.dumps(key)}]")
    assert same(expression.evaluate({"context": data}), data.get(key))
    assert expression.reads == {("context", key)}


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9), st.integers(0, 6))
def test_rounding_is_near(value: float, digits: int) -> None:
    result = compile_expression("round(x, n)").evaluate({"x": value, "n": digits})
    assert abs(result - value) <= 0.5 * 10**-digits * (1 + 1e-6) + 1e-6
