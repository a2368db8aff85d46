"""What the headers of answers say of a provider's limits: those of OpenAI's protocol, and Anthropic's."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from flowcraft_sdk.protocol.durations import parse_duration

PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
KINDS = ("requests", "tokens")
MINUTE, DAY = 60.0, 86_400.0

MOST = 1e12
"""A limit that is larger is taken for none."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A limit as a provider states it.

    Attributes:
        most: how many in a period.
        left: how many of these.
        period: seconds.
    """

    most: float
    left: float
    period: float

    @property
    def between(self) -> float:
        """Ms between two."""
        return self.period * 1000 / self.most


def learned_from(headers: Mapping[str, str]) -> dict[str, Learned]:
    """The limits that an answer states, of requests and of tokens."""
    found = {kind: _of_openai(headers, kind) or _of_anthropic(headers, kind) for kind in KINDS}
    return {kind: limit for kind, limit in found.items() if limit is not None}


def until_reset(headers: Mapping[str, str]) -> float:
    """Seconds until the provider takes calls again, where nothing of one of its limits is left; else 0."""
    waits = [
        _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in KINDS
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0"
    ]
    waits += [
        _until(headers.get(f"anthropic-ratelimit-{kind}-reset", ""))
        for kind in (*KINDS, "input-tokens", "output-tokens")
        if headers.get(f"anthropic-ratelimit-{kind}-remaining") == "0"
    ]
    return max(waits, default=0.0)


def _of_openai(headers: Mapping[str, str], kind: str) -> Learned | None:
    most, left = _number(headers, f"x-ratelimit-limit-{kind}"), _number(headers, f"x-ratelimit-remaining-{kind}")
    if not most:
        return None
    left = most if left is None else min(left, most)
    # Limits are those of a minute, but for some that are of a day: the time until all is there again shows which.
    reset = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    whole = reset * most / (most - left) if left < most else 0.0
    return Learned(most, left, MINUTE if whole <= 2 * MINUTE else min(whole, DAY))


def _of_anthropic(headers: Mapping[str, str], kind: str) -> Learned | None:
    names = (kind,) if kind == "requests" else (kind, "input-tokens")
    for name in names:
        most = _number(headers, f"anthropic-ratelimit-{name}-limit")
        if most:
            left = _number(headers, f"anthropic-ratelimit-{name}-remaining")
            return Learned(most, most if left is None else min(left, most), MINUTE)
    return None


def _number(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 12 and float(text) <= MOST else None


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        return 0.0


def _until(text: str) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
