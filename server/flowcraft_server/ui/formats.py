"""How pages write times, durations, sizes and values."""

import json
import re
from datetime import UTC, datetime
from typing import Any

_DIRECTIONS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of the text behind them: shown as escapes, as what they do would mislead."""

LONGEST_VALUE = 64 * 1024
"""Characters of a value on a page; the API has the whole."""


def duration(seconds: float | None) -> str:
    """A duration in the two largest units that it has: `850 ms`, `12.4 s`, `3 min 05 s`, `2 h 10 min`, `4 d 3 h`."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, below, name, smaller in ((86_400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= size:
            large, rest = divmod(whole, size)
            return f"{large} {name} {rest // below:02d} {smaller}" if smaller != "h" else f"{large} d {rest // below} h"
    return f"{whole} s"


def size(count: int) -> str:
    """A number of bytes in the largest unit of which there is one: `640 B`, `1.5 kB`, `12 MB`, `3.2 GB`."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if amount >= 9.95 or unit == "B" else f"{amount:.1f} {unit}"


def between(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    """Seconds from one moment to another, or to now."""
    return None if start is None else max(0.0, ((end or now) - start).total_seconds())


def moment(at: datetime | None, now: datetime) -> str:
    """A moment in UTC: the time alone if it is of today, else with its day."""
    if at is None:
        return ""
    at = at.astimezone(UTC)
    if at.date() == now.astimezone(UTC).date():
        return at.strftime("%H:%M:%S")
    return at.strftime("%d %b %H:%M") if at.year == now.year else at.strftime("%Y-%m-%d %H:%M")


def exact(at: datetime | None) -> str:
    """A moment as ISO 8601, in UTC, with milliseconds."""
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago a moment is."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def value(found: Any) -> str:
    """A value as text: texts as they are, anything else as indented JSON; cut where it is longer than a page takes."""
    text = found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False, default=str)
    text = _DIRECTIONS.sub(lambda control: f"\\u{ord(control[0]):04x}", text)
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:LONGEST_VALUE]}\n… {len(text) - LONGEST_VALUE:,} more characters"


def words(name: str) -> str:
    """A name of the store as words: `timed_out` -> `timed out`."""
    return name.replace("_", " ")
