"""Values that do not fit, in one wording: where, what was expected, and what was found, as JSON."""

import json
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any

from flowcraft_sdk._config.source_positions import written_path

LONGEST_FOUND = 60
"""Characters that are shown of a value."""
_MOST_CHOICES = 8
_PLAIN = (str, int, float, bool, type(None), list, tuple, Mapping)


def found(value: Any) -> str:
    """A value as JSON on one line, cut to a length that fits; of one that has no JSON form, its type."""
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, Decimal):
        return _cut(str(value))
    if not isinstance(value, _PLAIN):
        return f"a value of type {type(value).__name__}"
    try:
        return _cut(_json(value))
    except (TypeError, ValueError, RecursionError):
        return f"a value of type {type(value).__name__}"


def choices(values: Collection[Any]) -> str:
    """`"a", "b" or "c"`: the values of which one was expected, as JSON."""
    shown = [found(value) for value in islice(values, _MOST_CHOICES)]
    if len(values) > _MOST_CHOICES:
        return f"{', '.join(shown)} or {len(values) - _MOST_CHOICES} others"
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def expected(what: str, value: Any) -> str:
    """The message about a value that is none of what was expected."""
    return f"expected {what}, got {found(value)}"


def misfits_line(errors: Iterable[Mapping[str, Any]]) -> str:
    """All misfits in one line, each with its path."""
    return "; ".join(f"{written_path(tuple(error['loc']))}: {error['msg']}" for error in errors)


def _json(value: Any) -> str:
    if isinstance(value, str):
        value = value[: LONGEST_FOUND + 1]
    text = ""
    for part in json.JSONEncoder(ensure_ascii=False, default=_of_another_kind).iterencode(value):
        text += part[: LONGEST_FOUND + 1]
        if len(text) > LONGEST_FOUND:  # the rest of a large value is not looked at
            break
    return text


def _of_another_kind(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else f"({type(value).__name__})"


def _cut(text: str) -> str:
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    return shown if len(shown) <= LONGEST_FOUND else shown[: LONGEST_FOUND - 1] + "…"
