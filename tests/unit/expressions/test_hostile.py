"""Expressions and data that mean harm: no way to Python's objects, and no cost without a bound."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression

WORST_LEVEL = "n ?? n || 1 && 1 == 1 + 1 * abs("


@pytest.mark.parametrize(
    "source",
    [
        "x.__class__",
        "x['__class__']",
        "x.__class__.__mro__[1].__subclasses__",
        "x.__init__.__globals__",
        "x.append",
        "x.keys",
        "x.get",
        "x.real",
        "x.constructor.prototype",
        "x.__proto__",
        "__builtins__",
        "__import__",
        "self",
        "scope",
        "''.format",
        "''.__class__",
        "[].__len__",
        "{}.__getitem__",
        "(1).denominator",
    ],
)
@pytest.mark.parametrize("x", [1, "text", [1], {"k": 1}, (1,), Exception("x"), print, type])
def test_attributes_of_python_objects_cannot_be_read(source: str, x: Any) -> None:
    assert compile_expression(source).evaluate({"x": x}) is None


def test_such_names_are_ordinary_keys() -> None:
    assert compile_expression("x.__class__ + x['__import__']").evaluate({"x": {"__class__": 1, "__import__": 2}}) == 3


@pytest.mark.parametrize(
    "source",
    [
        "__import__('os').system('id')",
        "eval('1')",
        "x.format('{0.__class__}')",
        "lambda: 1",
        "[y for y in x]",
        "(x := 1)",
        "x['a'](1)",
        "{**x}",
        "[*x]",
        "f'{x}'",
        "new Function('1')",
        "x[0:1000]",
        "'a' 'b'",
        "#",
        "1 // comment",
        "/* comment */ 1",
        "\\",
        "x,",
    ],
)
def test_code_is_no_expression(source: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(source)


class Trap:
    """A value whose every method raises."""

    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("a method of the data was called")

    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __bool__ = __len__ = __contains__ = __getitem__ = _raise
    __iter__ = __add__ = __radd__ = __sub__ = __mul__ = __neg__ = __str__ = __float__ = __int__ = __index__ = _raise
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "source",
    ["x == x", "x != 1", "x < x", "x + x", "-x", "!x", "x in x", "x in [x]", "[x] == [x]", "{}[x]", "[1][x]", "x.k"]
    + ["len(x)", "str(x)", "int(x)", "sum([x])", "max(x, x)", "join([x], x)", "default(x, 1)", "'a'[x]", "x ? 1 : 2"],
)
def test_methods_of_the_data_are_never_called(source: str) -> None:
    compile_expression(source).evaluate({"x": Trap()})


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"k": value}])
def test_data_nested_deeper_than_the_stack(wrap: Callable[[Any], Any]) -> None:
    scope = {"x": nested(100_000, wrap), "y": nested(100_000, wrap), "z": nested(100_001, wrap)}
    source = "[x == y, x == z, x in [y], x < y, str(x), len(x), x[0] ?? x.k ?? 1, sum([x]), join([x], ''), !x, x + 1]"
    result = compile_expression(source).evaluate(scope)
    assert result[:6] == [True, False, True, False, None, 1]
    assert result[7:] == [None, None, False, None]


def test_data_that_holds_itself() -> None:
    x: dict[str, Any] = {"list": []}
    x["list"].append(x)
    y: dict[str, Any] = {"list": []}
    y["list"].append(y)
    assert compile_expression("x == y").evaluate({"x": x, "y": y}) is True
    y["list"].append(1)
    assert compile_expression("x == y").evaluate({"x": x, "y": y}) is False
    assert compile_expression("x.list[0].list[0].list.length").evaluate({"x": x}) == 1


@pytest.mark.parametrize(
    "source",
    ["(" * 33 + "1" + ")" * 33, "[" * 33 + "]" * 33, "{a:" * 33 + "1" + "}" * 33, "!" * 33 + "a", "-" * 33 + "a"]
    + ["not " * 33 + "a", "a[" * 33 + "0" + "]" * 33, "abs(" * 33 + "1" + ")" * 33, "a ? b : " * 33 + "c"]
    + ["a if b else " * 33 + "c", "(" * 4096, "[" * 4096, "{a:" * 1365, "!" * 4096, "a?" * 2048, "abs(" * 1024],
)
def test_nesting_is_limited(source: str) -> None:
    with pytest.raises(ExpressionError, match="nested too deeply; at most 32 levels are allowed"):
        compile_expression(source)


def test_the_deepest_expression_that_is_allowed_needs_little_of_the_stack() -> None:
    source = WORST_LEVEL * 31 + "1" + ")" * 31

    def below(frames: int) -> Any:
        return below(frames - 1) if frames else compile_expression(source).evaluate({})

    assert below(200) is False


@pytest.mark.parametrize(
    "source",
    [
        " + ".join(["1"] * 1024),
        "+".join(["1"] * 2048),
        " && ".join(["a"] * 819),
        "??".join(["n"] * 1365),
        "a" + ".k" * 2047,
        "a" + "[0]" * 1365,
        "[" + "1," * 2047 + "]",
        "max(" + "1," * 2000 + ")",
        "{" + ",".join(f"k{i}:1" for i in range(500)) + "}",
        "'" + "x" * 4094 + "'",
        "a" * 4096,
        "8" * 308,
        "0." + "1" * 4094,
        "1e-" + "9" * 4093,
        " " * 4095 + "1",
    ],
)
def test_long_flat_expressions_are_fine(source: str) -> None:
    compile_expression(source).evaluate({"a": 1})


def test_whole_numbers_do_not_grow_without_bound() -> None:
    def run(source: str, **scope: Any) -> Any:
        return compile_expression(source).evaluate(scope)

    assert run("x * x", x=2**511) == 2**1022
    assert run("x * x", x=2**512) is None
    assert run("x + x", x=2**1022) is None
    assert run("*".join(["x"] * 2048), x=2) is None
    assert run("*".join(["x"] * 1023), x=2) is None
    assert run("*".join(["x"] * 1022), x=2) == 2**1022
    assert run("x * 1", x=10**5000) is None
    assert run("-x", x=10**5000) is None
    assert run("x / 3", x=10**5000) is None
    assert run("x * 1.5", x=10**5000) is None
    assert run("str(x)", x=10**5000) is None
    assert run("{}[x] ?? [1][x]", x=10**5000) is None
    assert run("x > 1 && x == x && x != 1.5", x=10**5000) is True
    assert run("x", x=10**5000) == 10**5000


def test_texts_do_not_grow_without_bound() -> None:
    text = "x" * 600_000
    scope = {"t": text, "xs": [text, text], "many": ["a"] * 1_000_000}
    for source in ("t + t", "join(xs, '')", "join(many, t)", "join(split(t, ''), t)", "split(t, '')", "split(t, 'x')"):
        assert compile_expression(source).evaluate(scope) is None
    assert compile_expression("len(t + '!')").evaluate(scope) == 600_001
    assert compile_expression("t.length").evaluate(scope) == 600_000


def test_nan_and_infinity_of_the_data_do_no_harm() -> None:
    scope = {"nan": math.nan, "inf": math.inf}
    source = "[nan == nan, nan < 1, nan > 1, nan ? 1 : 2, nan + 1, inf - inf, inf * 0, inf % 2, inf > 1, int(inf), max(nan, 1)]"
    expected = [False, False, False, 2, None, None, None, None, True, None, None]
    assert compile_expression(source).evaluate(scope) == expected


class Elsewhere(Mapping[str, Any]):
    """A scope that is no dict."""

    def __getitem__(self, key: str) -> Any:
        return {"a": {"b": 1}}[key]

    def __iter__(self) -> Any:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def test_the_scope_may_be_any_mapping() -> None:
    assert compile_expression("[a.b, missing]").evaluate(Elsewhere()) == [1, None]


def test_a_usual_condition_takes_about_a_microsecond() -> None:
    expression = compile_expression("result.output > 5")
    scope = {"result": {"output": 7}}
    fastest = math.inf
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(1000):
            expression.evaluate(scope)
        fastest = min(fastest, time.perf_counter() - start)
    # Measured at 0.2 microseconds; the margin is for slow and busy machines.
    assert fastest / 1000 < 5e-6
