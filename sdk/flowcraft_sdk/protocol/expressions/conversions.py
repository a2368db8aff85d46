"""Conversions between numbers, texts and booleans. A value that has no such form gives null; nothing raises."""

import re
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

from flowcraft_sdk.protocol.expressions.arithmetic import bounded, is_number, real, whole
from flowcraft_sdk.protocol.expressions.values import number_text

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_REAL = re.compile(r"[+-]?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,5})?")
_SIMPLE_TEXTS = {True: "true", False: "false", None: "null"}


def to_int(value: Any) -> Any:
    """A number without its decimals, 1 or 0 for a boolean, the number that a text writes; else None."""
    if type(value) is str:
        text = value.strip()
        return bounded(int(text)) if _WHOLE.fullmatch(text) else None
    if type(value) is bool:
        return int(value)
    return whole(value)


def to_float(value: Any) -> Any:
    """A number as a float, 1.0 or 0.0 for a boolean, the number that a text writes; else None."""
    if type(value) is str:
        text = value.strip()
        return bounded(float(text)) if _REAL.fullmatch(text) else None
    if type(value) is bool:
        return float(value)
    return real(value)


def to_text(value: Any) -> str | None:
    """A number, a boolean, null, a date, a time or an id as text; None for lists, objects and all else."""
    if type(value) is str:
        return value
    if value is None or type(value) is bool:
        return _SIMPLE_TEXTS[value]
    if is_number(value):
        return number_text(value)
    if type(value) in (datetime, date, time):
        return str(value.isoformat())
    return str(value) if type(value) is UUID else None
