"""Durations as people write them: `30s`, `500ms`, `1h30m`."""

import re

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

LONGEST_SPAN = 100 * 365.25 * 86_400
"""Seconds of a delay, a timeout or any other span, and how far off a time may lie: 100 years."""

LONGEST_TEXT = 100
"""Characters of a duration or a size: a pattern that is searched for in digits without end takes for ever."""

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `30s`, `500ms` or `1h30m`.

    Raises:
        ValueError: it is not one; the message says how to write it.
    """
    rest = text.strip()
    if len(rest) > LONGEST_TEXT:
        raise ValueError(f"expected a duration, got a text of {len(rest)} characters; write 30s or 500ms")
    if not rest or _PART.sub("", rest).strip():
        raise ValueError(f"expected a duration, got {text!r}; write 30s or 500ms")
    seconds = sum(float(amount) * SECONDS[unit] for amount, unit in _PART.findall(rest))
    if seconds > LONGEST_SPAN:
        raise ValueError(f"a duration is 100 years at most, got {text!r}")
    return seconds
