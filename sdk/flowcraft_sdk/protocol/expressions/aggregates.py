"""Functions over lists, objects and texts. None of them raises; a value of another kind gives null."""

import operator
from typing import Any

from flowcraft_sdk.protocol.expressions.arithmetic import add, bounded, is_number
from flowcraft_sdk.protocol.expressions.conversions import to_text
from flowcraft_sdk.protocol.expressions.limits import MAX_PARTS, MAX_TEXT
from flowcraft_sdk.protocol.expressions.values import ordered


def length(value: Any) -> int | None:
    """How many characters a text, items a list or keys an object has."""
    return len(value) if type(value) is str or isinstance(value, (dict, list, tuple)) else None


def keys(value: Any) -> list[Any] | None:
    """The keys of an object in their order."""
    return list(value) if isinstance(value, dict) else None


def object_values(value: Any) -> list[Any] | None:
    """The values of an object in the order of its keys."""
    return list(value.values()) if isinstance(value, dict) else None


def total(items: Any) -> Any:
    """The sum of a list of numbers; 0 for an empty one, None if an item is no number."""
    if not isinstance(items, (list, tuple)):
        return None
    result: Any = 0
    for item in items:
        result = add(result, item)
        if result is None:
            return None
    return result


def extreme(arguments: tuple[Any, ...], *, largest: bool) -> Any:
    """The smallest or largest of the arguments, or of the items of a single list: all numbers or all texts.

    None if there is none, or if they cannot all be compared.
    """
    items: Any = arguments
    if len(arguments) == 1 and isinstance(arguments[0], (list, tuple)):
        items = arguments[0]
    best: Any = None
    for item in items:
        if type(item) is not str and (not is_number(item) or bounded(item) is None):
            return None
        if best is None:
            best = item
        elif (type(item) is str) != (type(best) is str):
            return None
        elif ordered(operator.gt if largest else operator.lt, item, best):
            best = item
    return best


def join(items: Any, separator: Any) -> str | None:
    """The items of a list as text with `separator` between them; None if an item has no text, as null and lists."""
    if not isinstance(items, (list, tuple)) or type(separator) is not str:
        return None
    parts: list[str] = []
    size = len(separator) * max(0, len(items) - 1)
    for item in items:
        text = to_text(item) if item is not None else None
        size += len(text) if text is not None else 0
        if text is None or size > MAX_TEXT:
            return None
        parts.append(text)
    return separator.join(parts)


def split(text: Any, separator: Any) -> list[str] | None:
    """The parts of a text between the separators; its characters if the separator is empty."""
    if type(text) is not str or type(separator) is not str:
        return None
    if not separator:
        return list(text) if len(text) <= MAX_PARTS else None
    parts = text.split(separator, MAX_PARTS)
    return parts if len(parts) <= MAX_PARTS else None
