"""Durations and points in time: `10m` is a duration, and what it is added to or taken from may be a time.

A time is a datetime, or a text in ISO 8601 with a time zone (`2026-03-01T09:00:00Z`); a duration is a timedelta, or beside a
duration a text such as `30s`. What does not fit gives null; nothing raises.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from flowcraft_sdk.protocol.durations import parse_duration

_LONGEST_TIME = 40
"""Characters of a time in ISO 8601."""


def as_duration(value: Any) -> timedelta | None:
    """A duration, or the one that a text writes; else None."""
    if type(value) is timedelta:
        return value
    try:
        return timedelta(seconds=parse_duration(value)) if type(value) is str else None
    except ValueError:
        return None


def as_time(value: Any) -> datetime | None:
    """A point in time with a time zone, or the one that a text writes in ISO 8601; else None."""
    if type(value) is str:
        if len(value) > _LONGEST_TIME or len(value) < len("2026-03-01T09"):
            return None
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if type(value) is not datetime or value.utcoffset() is None:
        return None
    return value


def add(left: Any, right: Any) -> Any:
    """The sum of two durations, or of a time and a duration; else None."""
    if type(left) is not timedelta and type(right) is not timedelta:
        return _shifted(left, right) if type(left) is datetime else _shifted(right, left)
    if (first := as_duration(left)) is not None and (second := as_duration(right)) is not None:
        return _bounded(lambda: first + second)
    return _shifted(left, right) if type(right) is timedelta else _shifted(right, left)


def subtract(left: Any, right: Any) -> Any:
    """The difference of two durations or of two times, or a time before another one; else None."""
    span = as_duration(right)
    if type(left) is timedelta or type(right) is timedelta:
        first = as_duration(left)
        if first is not None:
            return None if span is None else _bounded(lambda: first - span)
        return None if span is None else _shifted(left, -span)
    if type(left) is not datetime and type(right) is not datetime:
        return None
    if span is not None:
        return _shifted(left, -span)
    start, end = as_time(right), as_time(left)
    return None if start is None or end is None else end - start


def multiply(left: Any, right: Any) -> Any:
    """A duration so many times; else None."""
    if type(left) is not timedelta:
        left, right = right, left
    number = _factor(right)
    return None if type(left) is not timedelta or number is None else _bounded(lambda: left * number)


def divide(left: Any, right: Any) -> Any:
    """A part of a duration, or how often one goes into another; else None."""
    if type(left) is not timedelta:
        return None
    divisor = right if type(right) is timedelta else _factor(right)
    return None if not divisor else _bounded(lambda: left / divisor)


def _shifted(moment: Any, by: Any) -> datetime | None:
    start, span = as_time(moment), as_duration(by)
    if start is None or span is None:
        return None
    found = _bounded(lambda: start.astimezone(UTC) + span)
    return found.astimezone(start.tzinfo) if isinstance(found, datetime) else None


def _factor(value: Any) -> float | int | None:
    kind = type(value)
    return value if kind is int or kind is float else None


def _bounded(calculate: Any) -> Any:
    try:
        return calculate()
    except (ArithmeticError, ValueError):
        return None
