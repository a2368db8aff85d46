"""What is laid down about the running of a node: attempts, pauses, limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from flowcraft_server.blueprints.durations import parse_duration_ms

MOST_ATTEMPTS = 1_000_000
LARGEST_FACTOR = 1_000


@dataclass(frozen=True, slots=True)
class RetryDelay:
    """Pause before a further attempt: `initial_ms * factor ** failures`, up to `max_ms`, spread by `jitter` (0..1)."""

    initial_ms: int
    factor: float = 1.0
    max_ms: int | None = None
    jitter: float = 0.0

    def to_plain(self) -> int | dict[str, Any]:
        """Milliseconds when the pause is fixed, else a mapping."""
        if self.factor == 1.0 and self.max_ms is None and self.jitter == 0.0:
            return self.initial_ms
        plain: dict[str, Any] = {"initial": self.initial_ms, "factor": _plain_number(self.factor)}
        if self.max_ms is not None:
            plain["max"] = self.max_ms
        if self.jitter:
            plain["jitter"] = _plain_number(self.jitter)
        return plain

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """The pause of a number, a text or a mapping.

        Raises:
            ValueError: one of the values is none that a blueprint may have.
        """
        if not isinstance(plain, Mapping):
            return cls(parse_duration_ms(plain))
        longest = plain.get("max")
        return cls(
            parse_duration_ms(plain.get("initial", 0)),
            float(_number(plain.get("factor", 1.0), "retryDelay.factor", 1, LARGEST_FACTOR)),
            None if longest is None else parse_duration_ms(longest),
            float(_number(plain.get("jitter", 0.0), "retryDelay.jitter", 0, 1)),
        )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a node is run. None stands for "not set": the deployment's default counts.

    Attributes:
        max_retries: attempts in all, the first one too.
        retry_delay: pause before each further attempt.
        timeout_ms: how long one attempt may take.
        fallback: node that runs in place of this one when it fails for good.
        join: with several incoming edges, run when all are decided, or on the first one taken.
        queue: queue that its work is served from.
        non_retryable: names of error types that are not tried again.
        on_item_error: what a failing item of a batch does: fails the batch, or leaves its error among the results.
    """

    max_retries: int | None = None
    retry_delay: RetryDelay | None = None
    timeout_ms: int | None = None
    fallback: str | None = None
    join: Literal["all", "any"] | None = None
    queue: str | None = None
    non_retryable: tuple[str, ...] = ()
    on_item_error: Literal["fail", "collect"] | None = None

    def to_plain(self) -> dict[str, Any]:
        """What is set, in the keys of the JSON form."""
        if self is NOTHING_SET:
            return {}
        values = {
            "maxRetries": self.max_retries,
            "retryDelay": None if self.retry_delay is None else self.retry_delay.to_plain(),
            "timeout": self.timeout_ms,
            "fallback": self.fallback,
            "joinStrategy": self.join,
            "queue": self.queue,
            "nonRetryable": list(self.non_retryable) or None,
            "onItemError": self.on_item_error,
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`; durations may have units.

        Raises:
            ValueError: one of the values is none that a blueprint may have.
        """
        if not plain:
            return NOTHING_SET  # type: ignore[return-value]
        delay, timeout, attempts = plain.get("retryDelay"), plain.get("timeout"), plain.get("maxRetries")
        if attempts is not None and _number(attempts, "maxRetries", 1, MOST_ATTEMPTS) != int(attempts):
            raise ValueError(f"maxRetries is a whole number, got {attempts!r}")
        timeout_ms = None if timeout is None else parse_duration_ms(timeout)
        if timeout_ms == 0:
            raise ValueError("a timeout is longer than 0")
        return cls(
            max_retries=None if attempts is None else int(attempts),
            retry_delay=None if delay is None else RetryDelay.from_plain(delay),
            timeout_ms=timeout_ms,
            fallback=plain.get("fallback"),
            join=_choice(plain.get("joinStrategy"), "joinStrategy", ("all", "any")),
            queue=plain.get("queue"),
            non_retryable=_names(plain.get("nonRetryable")),
            on_item_error=_choice(plain.get("onItemError"), "onItemError", ("fail", "collect")),
        )


def _plain_number(value: float) -> float:
    """The same number in one form, whether it was written 2 or 2.0: the hash of a plan is made of it."""
    return int(value) if value == int(value) else value


def _number(value: Any, name: str, least: int, most: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} is a number from {least} to {most}, got {value!r:.80}")
    return value


def _choice(value: Any, name: str, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise ValueError(f"{name} is {' or '.join(allowed)}, got {value!r:.80}")
    return value


def _names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value or ())
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"nonRetryable is a list of names of error types, got {value!r:.80}")
    return names


NOTHING_SET = NodeConfig()
"""The configuration of most nodes, which share it."""
