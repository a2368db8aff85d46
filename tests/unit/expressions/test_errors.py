"""What an expression that cannot be read says: the exact text, line and caret."""

import copy

import pytest

from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression

KNOWN = (
    "abs, all, any, bool, coalesce, contains, default, endsWith, exists, float, int, join, keys, len, lower, max, min, "
    "round, split, startsWith, str, sum, trim, upper, values"
)


def error(source: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as raised:
        compile_expression(source)
    return raised.value


@pytest.mark.parametrize(
    ("source", "column", "message"),
    [
        ("", 1, "the expression is empty"),
        ("   ", 1, "the expression is empty"),
        ("a >", 3, "expected a value after '>'"),
        ("a && ", 3, "expected a value after '&&'"),
        ("a > > b", 5, "expected a value after '>', found '>'"),
        ("> 5", 1, "expected a value, found '>'"),
        (")", 1, "expected a value, found ')'"),
        ("!", 1, "expected a value after '!'"),
        ("a not in", 7, "expected a value after 'in'"),
        ("()", 2, "expected a value after '(', found ')'"),
        ("[,]", 2, "expected a value after '[', found ','"),
        ("a b", 3, "expected an operator or the end, found 'b'"),
        ("a 'b'", 3, "expected an operator or the end, found ''b''"),
        ("a not b", 3, "expected an operator or the end, found 'not'"),
        ("x is None", 3, "expected an operator or the end, found 'is'; write '=='"),
        ("a)", 2, "expected an operator or the end, found ')'"),
        ("(a", 1, "'(' is never closed"),
        ("1 + (a b)", 8, "'(' is never closed; found 'b'"),
        ("[1, 2", 1, "'[' is never closed"),
        ("[1, 2)", 6, "'[' is never closed; found ')'"),
        ("{a: 1", 1, "'{' is never closed"),
        ("len(a", 4, "'(' is never closed"),
        ("a[1", 2, "'[' is never closed"),
        ("a[]", 3, "expected a key or an index between '[' and ']'"),
        ("a.", 2, "expected a key after '.'"),
        ("a..b", 3, "expected a key after '.'"),
        ("a.[0]", 3, "expected a key after '.'"),
        ("a.'b'", 3, "expected a key after '.'"),
        (".5", 1, "expected a value, found '.'"),
        ("{1: 2}", 2, "expected a key: a name, or a text in quotes"),
        ("{[a]: 2}", 2, "expected a key: a name, or a text in quotes"),
        ("{a 1}", 4, "expected ':' after the key 'a'; found '1'"),
        ("{true}", 6, "expected ':' after the key 'true'; found '}'"),
        ("{a: 1, 'a': 2}", 8, "the key 'a' is written twice"),
        ("a ? b", 3, "'?' needs a ':' and a second value"),
        ("a ? b c", 7, "'?' needs a ':' and a second value; found 'c'"),
        ("a if b", 3, "'if' needs an 'else' and a second value"),
        ("a if b else", 8, "expected a value after 'else'"),
        ("1 < 2 < 3", 7, "comparisons do not chain; write 'a < b and b < c'"),
        ("a == b == c", 8, "comparisons do not chain; write 'a < b and b < c'"),
        ("a in b not in c", 8, "comparisons do not chain; write 'a < b and b < c'"),
        ("a == not b", 6, "put parentheses around 'not ...' here"),
        ("1 + not b", 5, "put parentheses around 'not ...' here"),
        ("a = 1", 3, "'=' does not compare; write '=='"),
        ("a ** 2", 3, "powers are not offered"),
        ("a // 2", 3, "'//' is not offered; write int(a / b)"),
        ("a++", 2, "'++' is not offered"),
        ("a & b", 3, "'&' is not offered; write '&&' or 'and'"),
        ("a | b", 3, "'|' is not offered; write '||' or 'or'"),
        ("a; b", 2, "an expression is one value; ';' is not offered"),
        ("`a`", 1, "template strings are not offered; write 'a' + str(b)"),
        ("x => x", 3, "functions cannot be defined here"),
        ("a @ b", 3, "unexpected character '@'"),
        ("a\x00", 2, "unexpected character U+0000"),
        ("a\u00a0> 1", 2, "unexpected character U+00A0"),
        ("a \u2265 1", 3, "unexpected character '≥'"),
        ("'abc", 1, "the text is not closed; a ' is missing"),
        ("a == \"abc'", 6, 'the text is not closed; a " is missing'),
        (r"'a\'", 1, "the text is not closed; a ' is missing"),
        (r"'a\q'", 3, r"unknown escape '\q'; a backslash is written '\\'"),
        (r"'\u12'", 2, r"unknown escape '\u'; a backslash is written '\\'"),
        (r"'\ud83d'", 1, "the text holds half of a character (a lone surrogate)"),
        ("1 + 2x", 5, "'2x' is neither a number nor a name"),
        ("007", 1, "'007' is neither a number nor a name"),
        ("0x1F", 1, "'0x1F' is neither a number nor a name"),
        ("1_000", 1, "'1_000' is neither a number nor a name"),
        ("1e999", 1, "the number is too large"),
        ("9" * 309, 1, "the number is too large"),
        ("len()", 1, "len takes 1 argument, not 0"),
        ("a + contains(b)", 5, "contains takes 2 arguments, not 1"),
        ("round(1, 2, 3)", 1, "round takes 1 or 2 arguments, not 3"),
        ("max()", 1, "max takes at least 1 argument, not 0"),
        ("lenght(a)", 1, "there is no function 'lenght'; did you mean 'len'?"),
        ("LEN(a)", 1, "there is no function 'LEN'; did you mean 'len'?"),
        ("startswith(a, 'b')", 1, "there is no function 'startswith'; write startsWith(text, part)"),
        ("range(3)", 1, f"there is no function 'range'; there are {KNOWN}"),
        ("__import__('os')", 1, f"there is no function '__import__'; there are {KNOWN}"),
        ("context.get('a')", 1, 'values have no methods; write context["key"]'),
        ("1 + a.b.includes(1)", 5, "values have no methods; write contains(list, value)"),
        ("Math.round(a)", 1, "values have no methods; write round(...)"),
        ("a.b.run()", 1, "only functions can be called, and values have no methods"),
        ("len(a)(b)", 1, "only functions can be called, and values have no methods"),
        ("a['len'](b)", 1, "values have no methods; write len(...)"),
    ],
)
def test_message_and_place(source: str, column: int, message: str) -> None:
    caught = error(source)
    assert (caught.message, caught.column, caught.line) == (message, column, 1)
    assert caught.offset == column - 1
    assert caught.source == source


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "result.output.score >",
            "line 1, column 21: expected a value after '>'\n    result.output.score >\n                        ^",
        ),
        ("", "line 1, column 1: the expression is empty\n    \n    ^"),
        (
            "a > 1\n  && b c\n  || d",
            "line 2, column 8: expected an operator or the end, found 'c'\n      && b c\n           ^",
        ),
        (
            "\ta\t=\t1\r\n",
            "line 1, column 4: '=' does not compare; write '=='\n     a = 1 \n       ^",
        ),
        (
            "'日本' == e\u0301 = 1",
            "line 1, column 10: unexpected character '\u0301'\n    '日本' == e\u0301 = 1\n               ^",
        ),
        (
            "'e\u0301' = 1",
            "line 1, column 6: '=' does not compare; write '=='\n    'e\u0301' = 1\n        ^",
        ),
        (
            "'\x1b[2J' @",
            "line 1, column 8: unexpected character '@'\n    '\ufffd[2J' @\n           ^",
        ),
    ],
)
def test_exact_text(source: str, text: str) -> None:
    assert str(error(source)) == text


def test_a_long_line_is_cut_around_the_spot() -> None:
    text = str(error("a + " * 100 + "= " + "+ b" * 100))
    _, excerpt, caret = text.split("\n")
    assert len(excerpt) < 110
    assert excerpt.startswith("    …")
    assert excerpt.endswith("…")
    assert excerpt[caret.index("^")] == "="


@pytest.mark.parametrize("place", [0, 1, 50, 99, 100, 101, 500, 999])
def test_the_caret_is_below_the_spot_wherever_it_is(place: int) -> None:
    source = " " * place + "@" + " " * (1000 - place)
    _, excerpt, caret = str(error(source)).split("\n")
    assert excerpt[caret.index("^")] == "@"


def test_the_length_is_limited() -> None:
    compile_expression(" " * 4095 + "1")
    caught = error(" " * 4096 + "1")
    assert caught.message == "the expression has 4,097 characters; at most 4,096 are allowed"
    assert caught.offset == 4096


def test_an_error_survives_copying() -> None:
    caught = error("a =")
    copied = copy.copy(caught)
    assert str(copied) == str(caught)
    assert copied.offset == caught.offset
    assert isinstance(caught, ValueError)
