"""What is laid down about the running of a node: attempts, pauses, limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from flowcraft_sdk.protocol.sources import is_expression
from flowcraft_sdk.protocol.usage_sums import budget_of
from flowcraft_sdk.records import Budget
from flowcraft_server.blueprints.durations import parse_duration_ms

MOST_ATTEMPTS = 1_000_000
LARGEST_FACTOR = 1_000


@dataclass(frozen=True, slots=True)
class RetryDelay:
    """Pause before a further attempt: `initial_ms * factor ** failures`, up to `max_ms`, spread by `jitter` (0..1).

    Attributes:
        initial_from: the expression that gives the first pause, in place of `initial_ms`.
    """

    initial_ms: int
    factor: float = 1.0
    max_ms: int | None = None
    jitter: float = 0.0
    initial_from: str | None = None

    def to_plain(self) -> int | str | dict[str, Any]:
        """Milliseconds, or the expression that gives them, when the pause is fixed, else a mapping."""
        initial = self.initial_ms if self.initial_from is None else self.initial_from
        if self.factor == 1.0 and self.max_ms is None and self.jitter == 0.0:
            return initial
        plain: dict[str, Any] = {"initial": initial, "factor": _plain_number(self.factor)}
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
        initial = plain.get("initial", 0) if isinstance(plain, Mapping) else plain
        first = initial if is_expression(initial) else None
        initial_ms = 0 if first is not None else parse_duration_ms(initial)
        if not isinstance(plain, Mapping):
            return cls(initial_ms, initial_from=first)
        longest = plain.get("max")
        return cls(
            initial_ms,
            float(_number(plain.get("factor", 1.0), "retryDelay.factor", 1, LARGEST_FACTOR)),
            None if longest is None else parse_duration_ms(longest),
            float(_number(plain.get("jitter", 0.0), "retryDelay.jitter", 0, 1)),
            first,
        )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a node is run. None stands for "not set": the deployment's default counts.

    Attributes:
        max_retries: attempts in all, the first one too.
        retry_delay: pause before each further attempt.
        timeout_ms: how long one attempt may take.
        timeout_from: the expression that gives it, in place of `timeout_ms`.
        compensate: node that undoes this one, when it has completed and the run does not.
        fallback: node that runs in place of this one when it fails for good.
        join: with several incoming edges, run when all are decided, or on the first one taken.
        queue: queue that its work is served from.
        limit: limit of the deployment that it counts against.
        non_retryable: names of error types that are not tried again.
        budget: what the model calls of the node may use in a run.
        on_item_error: what a failing item of a batch does: fails the batch, or leaves its error among the results.
        on_parent_cancel: what becomes of the child run when the run stops before it has ended: it is stopped, or goes on.
    """

    max_retries: int | None = None
    retry_delay: RetryDelay | None = None
    timeout_ms: int | None = None
    fallback: str | None = None
    join: Literal["all", "any"] | None = None
    queue: str | None = None
    non_retryable: tuple[str, ...] = ()
    on_item_error: Literal["fail", "collect"] | None = None
    timeout_from: str | None = None
    compensate: str | None = None
    limit: str | None = None
    budget: Budget | None = None
    on_parent_cancel: Literal["cancel", "abandon"] | None = None

    def to_plain(self) -> dict[str, Any]:
        """What is set, in the keys of the JSON form."""
        if self is NOTHING_SET:
            return {}
        values = {
            "maxRetries": self.max_retries,
            "retryDelay": None if self.retry_delay is None else self.retry_delay.to_plain(),
            "timeout": self.timeout_ms if self.timeout_from is None else self.timeout_from,
            "fallback": self.fallback,
            "joinStrategy": self.join,
            "queue": self.queue,
            "limit": self.limit,
            "nonRetryable": list(self.non_retryable) or None,
            "onItemError": self.on_item_error,
            "compensate": self.compensate,
            "budget": plain_budget(self.budget),
            "onParentCancel": self.on_parent_cancel,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def expressions(self) -> tuple[str, ...]:
        """The expressions that give durations."""
        if self.timeout_from is None and self.retry_delay is None:
            return ()
        initial = self.retry_delay.initial_from if self.retry_delay is not None else None
        return tuple(source for source in (self.timeout_from, initial) if source is not None)

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
        timeout_from = timeout if is_expression(timeout) else None
        timeout_ms = None if timeout is None or timeout_from is not None else parse_duration_ms(timeout)
        if timeout_ms == 0:
            raise ValueError("a timeout is longer than 0")
        return cls(
            max_retries=None if attempts is None else int(attempts),
            retry_delay=None if delay is None else RetryDelay.from_plain(delay),
            timeout_ms=timeout_ms,
            fallback=plain.get("fallback"),
            join=_choice(plain.get("joinStrategy"), "joinStrategy", ("all", "any")),
            queue=plain.get("queue"),
            limit=plain.get("limit"),
            non_retryable=_names(plain.get("nonRetryable")),
            on_item_error=_choice(plain.get("onItemError"), "onItemError", ("fail", "collect")),
            timeout_from=timeout_from,
            compensate=plain.get("compensate"),
            budget=budget_of(plain.get("budget")),
            on_parent_cancel=_choice(plain.get("onParentCancel"), "onParentCancel", ("cancel", "abandon")),
        )


def plain_budget(budget: Budget | None) -> dict[str, Any] | None:
    """A budget in the JSON form."""
    if budget is None:
        return None
    plain: dict[str, Any] = {} if budget.usd is None else {"usd": _plain_number(budget.usd)}
    return plain if budget.tokens is None else {**plain, "tokens": budget.tokens}


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
