"""Durations in a node's `config` and `params`: numbers of milliseconds, or texts with a unit."""

import math
from typing import Any

from flowcraft_sdk.protocol.durations import LONGEST_SPAN, LONGEST_TEXT, parse_duration
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
