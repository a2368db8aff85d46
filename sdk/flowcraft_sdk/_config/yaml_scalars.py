"""What an unquoted YAML scalar is, by the core schema of YAML 1.2.

`on`, `off`, `yes`, `no` and `12:30` are texts, and `010` is ten: the older rules turned them into something else.
"""

import math
import re

WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
"""Unquoted values that are neither texts nor numbers; an empty one is null."""
BEGIN_NUMBERS = "+-.0123456789"
"""Characters that unquoted numbers begin with."""
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST = 400
_PREFIX = "tag:yaml.org,2002:"

ScalarValue = str | int | float | bool | None


def core_scalar(text: str) -> ScalarValue:
    """The value of an unquoted scalar.

    Raises:
        ValueError: a number that JSON cannot hold; the message says what to do.
    """
    if text in WORDS:
        return WORDS[text]
    return number(text) if text[0] in BEGIN_NUMBERS else text


def number(text: str) -> int | float | str:
    """The number that a text is written as, or the text itself.

    Raises:
        ValueError: a number that JSON cannot hold.
    """
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST:
        return int(text)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} cannot be stored as JSON; put it in quotes if it is a text")
    whole = _INT.fullmatch(text) or _BASED.fullmatch(text)
    if not whole and not _FLOAT.fullmatch(text):
        return text
    if len(text) > _LONGEST:
        raise ValueError(f"a number of {len(text)} digits; put it in quotes if it is a text")
    if whole:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number; put it in quotes if it is a text")
    return value


def tagged_scalar(tag: str, text: str) -> ScalarValue:
    """The value of a scalar with one of YAML's own tags, such as `!!str`.

    Raises:
        ValueError: the text is not of that kind.
        KeyError: the tag is none of them.
    """
    kind = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}[tag.removeprefix(_PREFIX)]
    if kind is str:
        return text
    value = core_scalar(text)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"'{text}' is not of the type of its tag !!{tag.removeprefix(_PREFIX)}")
    return value
