"""Source text to tokens: names, keys, numbers, texts and operators in their canonical spelling."""

import math
import re
from dataclasses import dataclass
from datetime import timedelta

from flowcraft_sdk.protocol.durations import parse_duration
from flowcraft_sdk.protocol.expressions.errors import ExpressionError
from flowcraft_sdk.protocol.expressions.limits import MAX_INTEGER_BITS, MAX_SOURCE
from flowcraft_sdk.protocol.expressions.texts import read_text

CONSTANTS: dict[str, bool | None] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
    "undefined": None,
}
WORD_OPERATORS = frozenset({"and", "or", "not", "in", "if", "else"})
_SAME_AS = {"===": "==", "!==": "!=", "&&": "and", "||": "or", "?.": "."}

_SPACE = re.compile(r"[ \t\r\n]+")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# A hyphen joins two parts of a name, so that the usual ids of nodes are names: `my-node`, `step-2`.
_NAME = re.compile(r"(?:[^\W\d]|\$)[\w$]*(?:-[\w$]+)*")
_KEY = re.compile(r"[\w$]+(?:-[\w$]+)*")
_OPERATOR = re.compile(r"===|!==|\?\?|\?\.|==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}]")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d|w))+(?![\w$])")
_WORD_OR_NUMBER = re.compile(r"[\w$.]+")

_NOT_OFFERED = (
    ("**", "powers are not offered"),
    ("//", "'//' is not offered; write int(a / b)"),
    ("++", "'++' is not offered"),
    ("=>", "functions cannot be defined here"),
    ("=", "'=' does not compare; write '=='"),
    ("&", "'&' is not offered; write '&&' or 'and'"),
    ("|", "'|' is not offered; write '||' or 'or'"),
    ("`", "template strings are not offered; write 'a' + str(b)"),
    (";", "an expression is one value; ';' is not offered"),
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an expression.

    Attributes:
        kind: "name", "key" (a name after a dot), "constant" (its value in `value`), "operator" or "end".
        text: the canonical spelling of an operator (`and` for `&&`), the text of anything else.
        written: what the source says, for messages.
        offset: index of its first character in the source.
        value: what a constant stands for.
    """

    kind: str
    text: str
    written: str
    offset: int
    value: str | int | float | bool | timedelta | None = None

    @property
    def is_word(self) -> bool:
        """Whether it is written as a name is, be it one of the language's own words."""
        return _NAME.fullmatch(self.written) is not None


def tokenize(source: str) -> list[Token]:
    """The tokens of `source`; the last one is always of kind "end".

    Raises:
        ExpressionError: the text is too long or holds something that is no part of the language.
    """
    if len(source) > MAX_SOURCE:
        raise ExpressionError(
            f"the expression has {len(source):,} characters; at most {MAX_SOURCE:,} are allowed", source, MAX_SOURCE
        )
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        if space := _SPACE.match(source, position):
            position = space.end()
            continue
        after_dot = bool(tokens) and tokens[-1].kind == "operator" and tokens[-1].text == "."
        token = _key(source, position) if after_dot else _token(source, position)
        tokens.append(token)
        position += len(token.written)
    tokens.append(Token("end", "", "", len(source)))
    return tokens


def _key(source: str, position: int) -> Token:
    if match := _KEY.match(source, position):
        return Token("key", match[0], match[0], position)
    return _token(source, position)


def _token(source: str, position: int) -> Token:
    if match := _NAME.match(source, position):
        return _word(match[0], position)
    char = source[position]
    if char in "0123456789":
        return _number(source, position)
    if char in "\"'":
        value, end = read_text(source, position)
        return Token("constant", "text", source[position:end], position, value)
    for spelling, hint in _NOT_OFFERED:
        # A single '=', '&' or '|' is only wrong when no longer operator starts with it.
        if source.startswith(spelling, position) and not source.startswith(("==", "&&", "||"), position):
            raise ExpressionError(hint, source, position)
    if match := _OPERATOR.match(source, position):
        return Token("operator", _SAME_AS.get(match[0], match[0]), match[0], position)
    shown = f"'{char}'" if char.isprintable() else f"U+{ord(char):04X}"
    raise ExpressionError(f"unexpected character {shown}", source, position)


def _word(word: str, position: int) -> Token:
    if word in CONSTANTS:
        return Token("constant", word, word, position, CONSTANTS[word])
    return Token("operator" if word in WORD_OPERATORS else "name", word, word, position)


def _number(source: str, position: int) -> Token:
    match = _NUMBER.match(source, position)
    written = match[0] if match else ""
    if duration := _DURATION.match(source, position):
        return _span(source, duration[0], position)
    follows = source[position + len(written) : position + len(written) + 1]
    if follows.isalnum() or follows in ("_", "$"):
        whole = _WORD_OR_NUMBER.match(source, position)
        shown = whole[0] if whole else written
        raise ExpressionError(f"'{shown}' is neither a number nor a name", source, position)
    value: int | float = float(written) if any(char in written for char in ".eE") else int(written)
    if math.isinf(value) if isinstance(value, float) else value.bit_length() > MAX_INTEGER_BITS:
        raise ExpressionError("the number is too large", source, position)
    return Token("constant", "number", written, position, value)


def _span(source: str, written: str, position: int) -> Token:
    """A duration such as `10m` or `1h30m`."""
    try:
        value = timedelta(seconds=parse_duration(written))
    except ValueError as error:
        raise ExpressionError(str(error), source, position) from error
    return Token("constant", "duration", written, position, value)
