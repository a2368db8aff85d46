"""Durations in a node's `config` and `params`: numbers of milliseconds, or texts with a unit."""

import math
from datetime import datetime, timedelta
from typing import Any

from flowcraft_sdk.protocol.durations import LONGEST_SPAN, LONGEST_TEXT, parse_duration
from flowcraft_sdk.protocol.expressions.spans import as_time
from flowcraft_server.blueprints.quoting import quoted

_LONGEST_MS = LONGEST_SPAN * 1000
_EXPECTED = "expected a duration such as 500ms, 30s, 5m, 2h, 1d or 1h30m"


def parse_duration_ms(value: Any) -> int:
    """Milliseconds of a duration: a number is milliseconds, a text has units as everywhere (`500ms`, `30s`, `1h30m`).

    Raises:
        ValueError: it is neither, or it is negative or not finite; the message says how to write it.
    """
    amount: float = math.nan
    if isinstance(value, str):
        amount = _milliseconds(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        amount = value
    if amount > _LONGEST_MS:
        raise ValueError(f"a duration is 100 years at most; got {quoted(value)}")
    if not 0 <= amount <= _LONGEST_MS:  # not a number is never between
        raise ValueError(f"{_EXPECTED}; got {quoted(value)}")
    return round(amount)


def duration_of(value: Any) -> int:
    """Milliseconds of a duration that comes from data: a text with a unit, or what durations in an expression give.

    Raises:
        ValueError: it is no duration, or one that says no unit, is negative or too long; the message says what was expected.
    """
    if isinstance(value, timedelta):
        amount = value / timedelta(milliseconds=1)
        if amount < 0:
            raise ValueError(f"expected a duration of 0 or more; got {amount / 1000:g}s")
        return parse_duration_ms(amount)
    if isinstance(value, str):
        return parse_duration_ms(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(
            f"expected a duration with a unit, such as 30s; got the number {quoted(value)}: write * 1s behind it"
        )
    raise ValueError(f"{_EXPECTED}; got {quoted(value)}")


def moment_of(value: Any) -> datetime:
    """A point in time that comes from data: a datetime, or a text in ISO 8601, with a time zone.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    found = as_time(value)
    if found is None:
        raise ValueError(f"expected a time with its zone, such as 2026-03-01T09:00:00Z; got {quoted(value)}")
    return found


def check_has_unit(value: Any) -> None:
    """Refuse a number without a unit: what people write by hand says whether it counts seconds or milliseconds.

    Zero is the same in every unit and passes.

    Raises:
        ValueError: a number other than 0; the message offers it in seconds and in milliseconds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LONGEST_MS:
        raise ValueError(f"{value} has no unit; write {value}s or {value}ms")


def _milliseconds(text: str) -> float:
    try:
        return parse_duration(text) * 1000 if len(text) <= LONGEST_TEXT else math.nan
    except ValueError as error:
        return math.inf if "100 years" in str(error) else math.nan
