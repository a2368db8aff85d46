"""Durations in a node's `config` and `params`: numbers of milliseconds, or texts with a unit."""

import math
import re
from typing import Any

from flowcraft_sdk.bounds import LONGEST_SPAN
from flowcraft_server.blueprints.quoting import quoted

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_LONGEST_MS = LONGEST_SPAN * 1000
_LONGEST_TEXT = 100
_EXPECTED = "expected a duration such as 500ms, 30s, 5m, 2h or 1d, or a whole number of milliseconds"


def parse_duration_ms(value: Any) -> int:
    """Milliseconds of a duration: a number is milliseconds, a text has a unit (`500ms`, `30s`, `5m`, `2h`, `1d`).

    Raises:
        ValueError: it is neither, or it is negative or not finite; the message says how to write it.
    """
    amount: float = math.nan
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip()) if len(value) <= _LONGEST_TEXT else None
        amount = float(found[1]) * _UNITS[found[2]] if found else math.nan
    elif isinstance(value, int | float) and not isinstance(value, bool):
        amount = value
    if amount > _LONGEST_MS:
        raise ValueError(f"a duration is 100 years at most; got {quoted(value)}")
    if not 0 <= amount <= _LONGEST_MS:  # not a number is never between
        raise ValueError(f"{_EXPECTED}; got {quoted(value)}")
    return round(amount)
