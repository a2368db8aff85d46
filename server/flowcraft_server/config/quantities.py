"""Durations and sizes as they are written in `flowcraft.yaml`, and as numbers in code."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

from flowcraft_sdk.protocol.durations import LONGEST_TEXT, SECONDS, parse_duration

BYTES = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]i?B|B)")

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*([smhd])")
SLOWEST_RATE, FASTEST_RATE = 1 / 86_400, 1_000_000

_written: ContextVar[bool] = ContextVar("written", default=False)


@contextmanager
def values_as_written() -> Iterator[None]:
    """Within this, values come from a file or the environment, where a number without a unit is a mistake.

    Elsewhere numbers are seconds and bytes.
    """
    token = _written.set(True)
    try:
        yield
    finally:
        _written.reset(token)


def parse_size(text: str) -> int:
    """Bytes of a size such as `64KiB` or `16MiB`.

    Raises:
        ValueError: it is not one; the message says how to write it.
    """
    found = _SIZE.fullmatch(text.strip()) if len(text) <= LONGEST_TEXT else None
    if found is None:
        raise ValueError(f"expected a size, got {text[:LONGEST_TEXT]!r}; write 64KiB or 16MiB")
    return int(float(found[1]) * BYTES[found[2]])


def parse_rate(text: str) -> float:
    """Nodes a second of a rate such as `10/s` or `100/m`.

    Raises:
        ValueError: it is none; the message says how to write it.
    """
    found = _RATE.fullmatch(text.strip()) if len(text) <= LONGEST_TEXT else None
    if found is None:
        raise ValueError(f"expected a rate, got {text[:LONGEST_TEXT]!r}; write 10/s, 100/m or 1000/h")
    rate = float(found[1]) / SECONDS[found[2]]
    if not SLOWEST_RATE <= rate <= FASTEST_RATE:
        raise ValueError(f"a rate is 1/d to {FASTEST_RATE:,}/s, got {text.strip()}")
    return rate


def format_rate(rate: float) -> str:
    """A rate as it may be written: `10/s`, `100/m`."""
    for unit in ("s", "m", "h", "d"):
        amount = rate * SECONDS[unit]
        if amount >= 1 and abs(amount - round(amount)) < 1e-9 * amount:
            return f"{round(amount)}/{unit}"
    return f"{rate * SECONDS['d']:.6f}".rstrip("0").rstrip(".") + "/d"


def format_duration(seconds: float) -> str:
    """A duration as it may be written: `30s`, `500ms`, `7d`."""
    for unit in ("w", "d", "h", "m", "s", "ms"):
        amount = seconds / SECONDS[unit]
        if unit != "w" and amount >= 1 and abs(amount - round(amount)) < 1e-9:
            return f"{round(amount)}{unit}"
    milliseconds = f"{seconds * 1000:.6f}".rstrip("0").rstrip(".")
    return f"{milliseconds}ms" if seconds else "0s"


def format_size(size: int) -> str:
    """A size as it may be written: `64KiB`, `16MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return f"{size}B"


def _duration(value: Any) -> Any:
    if isinstance(value, str) and not (_written.get() and _is_number(value)):
        return _checked(parse_duration, value)
    if _written.get():
        raise _needs_unit(value, "a duration", "write 30s or 500ms", f"write {value}s or {value}ms")
    return value


def _size(value: Any) -> Any:
    if isinstance(value, str) and not (_written.get() and _is_number(value)):
        return _checked(parse_size, value)
    if _written.get():
        raise _needs_unit(value, "a size", "write 64KiB or 16MiB")
    return value


def _rate(value: Any) -> Any:
    if isinstance(value, str):
        return _checked(parse_rate, value)
    if _written.get():
        raise _needs_unit(value, "a rate", "write 10/s, 100/m or 1000/h", f"write {value}/s or {value}/m")
    return value


def _checked(parse: Any, value: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise PydanticCustomError("quantity", "{why}", {"why": str(error)}) from None


def _needs_unit(value: Any, what: str, how: str, offer: str = "") -> PydanticCustomError:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return PydanticCustomError("quantity", "{why}", {"why": f"{value} has no unit; {offer or how}"})
    return PydanticCustomError("quantity", "{why}", {"why": f"expected {what}; {how}"})


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?\d+(?:\.\d+)?\s*", text) is not None


Duration = Annotated[float, BeforeValidator(_duration), PlainSerializer(format_duration, when_used="json")]
"""Seconds in code; written with a unit."""

Rate = Annotated[float, BeforeValidator(_rate), PlainSerializer(format_rate, when_used="json")]
"""Nodes a second in code; written as `10/s`."""

Size = Annotated[int, BeforeValidator(_size), PlainSerializer(format_size, when_used="json")]
"""Bytes in code; written with a unit."""
