"""What the language says about data: kinds, truth, equality, order, membership and steps into a value.

Nothing here raises, whatever the value. Values are what the JSON on the wire decodes to: null, booleans, numbers,
texts, lists and objects, and the tagged scalars such as decimals and dates. Types are compared exactly, so that the
methods of a foreign class are never called; such a value is an object without keys.
"""

import operator
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import repeat
from math import isnan
from typing import Any
from uuid import UUID

from flowcraft_sdk.protocol.expressions.limits import MAX_INTEGER_BITS

_ORDERED: dict[type, str] = {
    int: "number",
    float: "number",
    Decimal: "number",
    str: "text",
    datetime: "datetime",
    date: "date",
    time: "time",
    timedelta: "duration",
}
_SCALARS: dict[type, str] = {**_ORDERED, bool: "boolean", type(None): "null", bytes: "bytes", UUID: "uuid"}
_LARGEST_INDEX_TEXT = 10


def truthy(value: Any) -> bool:
    """JavaScript's truth: null, false, 0, NaN and "" are false, all else is true, empty lists and objects too."""
    if value is None or value is False:
        return False
    kind = type(value)
    if kind is float:
        return not (isnan(value) or value == 0)
    if kind is int or kind is str:
        return bool(value)
    if kind is Decimal:
        return not (value.is_nan() or value.is_zero())
    return True


def equal(left: Any, right: Any) -> bool:
    """Equality by value between values of one kind: numbers, texts, booleans, null, lists and objects (deeply)."""
    kind = type(left)
    if kind is type(right) and (kind is str or kind is int):
        return bool(left == right)
    return _equal_deeply(left, right) if isinstance(left, (dict, list, tuple)) else _equal_scalars(left, right)


def ordered(test: Callable[[Any, Any], Any], left: Any, right: Any) -> bool:
    """`test`, one of the four order operators, between two numbers or two texts (or two dates, ...); else False."""
    kind = _ORDERED.get(type(left))
    if kind is None or kind != _ORDERED.get(type(right)):
        return False
    try:
        return bool(test(*_alike(left, right)))
    except (ArithmeticError, TypeError):
        # A decimal NaN, or a datetime with a zone against one without.
        return False


def contains(container: Any, item: Any) -> bool:
    """Whether a list has an equal item, a text has that part, or an object has that key."""
    if isinstance(container, (list, tuple)):
        return any(map(equal, container, repeat(item)))
    if type(item) is not str:
        return False
    return (type(container) is str or isinstance(container, dict)) and item in container


def member(value: Any, key: Any) -> Any:
    """One step into a value: the key of an object, the index of a list (from its end if negative), or a length.

    Null when there is no such key or index, or nothing to step into.
    """
    if isinstance(value, dict):
        text = key if type(key) is str else number_text(key)
        return value.get(text) if text is not None else None
    if isinstance(value, (list, tuple)):
        index = _index(key)
        if index is not None:
            return value[index] if -len(value) <= index < len(value) else None
        return len(value) if type(key) is str and key == "length" else None
    return len(value) if type(value) is str and type(key) is str and key == "length" else None


def number_text(value: Any) -> str | None:
    """A number as text, a whole one without decimals; None for anything else and for a number of excessive length."""
    kind = type(value)
    if kind is float and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if kind is int:
        return str(value) if value.bit_length() <= MAX_INTEGER_BITS else None
    return str(value) if kind is float or kind is Decimal else None


def _index(key: Any) -> int | None:
    if type(key) is int:
        return key
    if type(key) is float and key.is_integer():
        return int(key)
    if type(key) is str and len(key) <= _LARGEST_INDEX_TEXT and key.isascii() and key.isdigit():
        return int(key)
    return None


def _equal_scalars(left: Any, right: Any) -> bool:
    kind = _SCALARS.get(type(left))
    if kind is None or kind != _SCALARS.get(type(right)):
        return False
    try:
        return bool(operator.eq(*_alike(left, right)))
    except ArithmeticError:
        return False  # a signalling decimal NaN


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    # The 0.1 of an expression is meant as the decimal 0.1, not as the binary fraction next to it.
    if type(left) is Decimal and type(right) is float:
        return left, Decimal(repr(right))
    if type(left) is float and type(right) is Decimal:
        return Decimal(repr(left)), right
    return left, right


def _equal_deeply(left: Any, right: Any) -> bool:
    # Neither recursive, as data may be nested deeper than the stack, nor endless for a value that holds itself.
    pending = [(left, right)]
    compared: set[tuple[int, int]] = set()
    while pending:
        left, right = pending.pop()
        if isinstance(left, dict):
            pairs = _object_pairs(left, right)
        elif isinstance(left, (list, tuple)):
            pairs = _list_pairs(left, right)
        elif _equal_scalars(left, right):
            continue
        else:
            return False
        if pairs is None:
            return False
        if (id(left), id(right)) not in compared:
            compared.add((id(left), id(right)))
            pending.extend(pairs)
    return True


def _object_pairs(left: dict[Any, Any], right: Any) -> list[tuple[Any, Any]] | None:
    if not isinstance(right, dict) or left.keys() != right.keys():
        return None
    return [(value, right[key]) for key, value in left.items()]


def _list_pairs(left: list[Any] | tuple[Any, ...], right: Any) -> list[tuple[Any, Any]] | None:
    if not isinstance(right, (list, tuple)) or len(left) != len(right):
        return None
    return list(zip(left, right, strict=True))
