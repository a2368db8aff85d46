"""How much of anything a caller may hand in. What is larger is refused with its bound, before anything is sent."""

import math
from datetime import datetime, timedelta
from typing import Any

from flowcraft_sdk.errors import ConfigurationError, SerializationError
from flowcraft_sdk.protocol.durations import LONGEST_SPAN as LONGEST_SPAN
from flowcraft_sdk.protocol.durations import parse_duration

MOST_TAGS = 100
LONGEST_TAG = 200
"""Characters."""

MOST_MEMO_BYTES = 65_536
"""Of a memo as JSON."""

LONGEST_REASON = 1_000
"""Characters of the reason of a cancellation."""

LONGEST_NAME = 200
"""Characters of an action, a signal id, an event's name and a blueprint's id."""

LONGEST_PATH = 2_000
"""Characters of the way to a node in a child run, and of a run's id with those of all runs above it."""

MOST_KEYS = 10_000
"""Keys of a start context, and keys that one node may write."""

LONGEST_KEY = 1_000
"""Characters of a context key."""

MOST_A_PAGE = 10_000
"""Runs that a list reads at once."""

MOST_LISTED = 1_000
"""Runs, or nodes that wait, of a page with a cursor."""

MOST_DEAD_LETTERS = 1_000_000
"""Dead letters that are read at once."""

LONGEST_EVENT_ID = 15
"""Digits of the id of an event."""

STREAM_ID = r"[0-9]{1,15}-[0-9]{1,15}(-end)?"
"""The id of an item of a stream: number of the node's claim, number of the entry; `-end` of the last item."""

LONGEST_MESSAGE = 1_000
"""Characters of a progress message; the rest of a longer one is cut off."""

MOST_EVENT_BYTES = 65_536
"""Of the data of a custom event as JSON."""


MOST_MESSAGES = 100
"""Messages that are kept for a node."""

MOST_MESSAGE_BYTES = 64 * 1024
"""Of one of them, as JSON."""


def check_span(value: Any, name: str) -> float | None:
    """A span as seconds, None for none.

    Args:
        value: a number of seconds, a timedelta, or a text such as `30s` or `1h30m`.

    Raises:
        ConfigurationError: it is none of these, negative, or longer than `LONGEST_SPAN`.
    """
    if value is None:
        return None
    seconds = value
    if isinstance(value, str):
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise ConfigurationError(f"{name}: {error}") from None
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(
            f"{name} is a number of seconds, a timedelta or a text such as 30s, got {shown(value)}"
        )
    if not 0 <= seconds <= LONGEST_SPAN:  # not a number is never between
        raise ConfigurationError(f"{name} is a span of time of 0 seconds to 100 years, got {shown(value)}")
    return float(seconds)


def check_moment(value: Any, name: str) -> int | None:
    """A moment as ms since 1970, None for none.

    Raises:
        ConfigurationError: it is no datetime with a time zone.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} is a datetime with a time zone, got {shown(value)}")
    if value.tzinfo is None:
        raise ConfigurationError(f"{name}: a datetime without a time zone; give it one")
    try:
        return math.floor(value.timestamp() * 1000)
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{name}: {value} is further off than the clock goes") from None


def check_text(value: Any, name: str, most: int, *, least: int = 1) -> str:
    """A text of a bounded length, without what a subclass of `str` may do.

    Raises:
        ConfigurationError: it is none, or longer or shorter.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a text, got {shown(value)}")
    text = str.__str__(value)  # a subclass may say anything of its length
    if not least <= len(text) <= most:
        raise ConfigurationError(f"{name} has {least} to {most:,} characters, got {len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} has no form in UTF-8: {shown(text)}") from None
    return text


def check_count(value: Any, name: str, most: int | None, *, least: int = 0) -> int:
    """A number of things.

    Args:
        most: the largest there may be, None for any.

    Raises:
        ConfigurationError: it is no whole number, or larger or smaller.
    """
    up_to = f"{least} or more" if most is None else f"{least} to {most:,}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} is a whole number, {up_to}, got {shown(value)}")
    if value < least or (most is not None and value > most):
        raise ConfigurationError(f"{name} is a whole number, {up_to}, got {value if abs(value) < 10**20 else 'more'}")
    return value


def plain_text(text: str, what: str, path: str) -> str:
    """The text without what a subclass of `str` may do; whatever becomes of it later, no foreign code is called.

    Raises:
        SerializationError: it is no valid UTF-8, and so cannot be stored.
    """
    plain = str.__str__(text)
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise SerializationError(f"{what} is valid UTF-8, got {plain[:40]!a}", path) from None
    return plain


def check_key(key: str) -> str:
    """A context key, as a plain text.

    Raises:
        SerializationError: it is no text, or one that is no valid UTF-8.
        ConfigurationError: it is longer than `LONGEST_KEY`.
    """
    if not isinstance(key, str):
        raise SerializationError(f"a context key is a text, got {shown(key)}", "context")
    key = plain_text(key, "a context key", "context")
    if len(key) > LONGEST_KEY:
        raise ConfigurationError(
            f"a context key has {LONGEST_KEY:,} characters at most, got {len(key):,}: {key[:40]!r}..."
        )
    return key


def check_key_count(count: int) -> None:
    """How many context keys are written together.

    Raises:
        ConfigurationError: more than `MOST_KEYS`.
    """
    if count > MOST_KEYS:
        raise ConfigurationError(
            f"{count:,} context keys; {MOST_KEYS:,} can be written at most: put them into one value"
        )


def shown(value: Any, most: int = 100) -> str:
    """A value as it stands in a message, cut to a length that fits a line."""
    try:
        text = repr(value) if not isinstance(value, str | bytes) or len(value) <= most else repr(value[:most]) + "..."
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= most + 10 else text[:most] + "..."
