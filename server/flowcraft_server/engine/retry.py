"""Whether a failed attempt is tried again, and when."""

import random
from dataclasses import dataclass

from flowcraft_server.blueprints.model import NodeConfig, RetryDelay


@dataclass(frozen=True, slots=True)
class ExecutionDefaults:
    """What a node's `config` falls back to.

    Attributes:
        max_attempts: total attempts (`maxRetries` in blueprints, where it means the same).
        retry_delay: pause before each further attempt.
        timeout: seconds an attempt may take, None for no limit.
    """

    max_attempts: int = 1
    retry_delay: RetryDelay | None = None
    timeout: float | None = None


def delay_ms(delay: RetryDelay | None, attempt: int, jitter: float | None = None) -> int:
    """Milliseconds to wait after the failure of attempt `attempt` (1-based): initial * factor^(attempt-1), capped, jittered.

    Args:
        jitter: a number in [-1, 1] in place of a random one.
    """
    if delay is None or delay.initial_ms <= 0:
        return 0
    exponent = min(attempt - 1, 64)
    pause = float(delay.initial_ms) * delay.factor**exponent
    if delay.max_ms is not None:
        pause = min(pause, delay.max_ms)
    if delay.jitter:
        swing = random.uniform(-1.0, 1.0) if jitter is None else jitter
        pause *= 1.0 + delay.jitter * swing
    return max(0, int(pause))


def is_retryable(error_names: tuple[str, ...], config: NodeConfig, retryable: bool) -> bool:
    """Whether this kind of error may be tried again; `error_names` are the class and its bases, bare and dotted."""
    return retryable and not set(error_names) & set(config.non_retryable)
