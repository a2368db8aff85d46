"""When a failed call to a provider is worth repeating, and how long to wait before."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft_sdk.node import NonRetryableError

from .errors import LLMError, LLMRateLimited, LLMTimeout, LLMUnreachable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which failures a call is repeated.

    Args:
        max_attempts: calls in all, the first one included (as `maxRetries` counts everywhere).
        on: HTTP statuses (429), classes of them ("5xx") and "timeout", which includes broken connections.
        initial: seconds before the second call; each further wait is twice as long, less up to half of it at random.
        max_delay: upper bound in seconds of such a wait.
        max_retry_after: upper bound in seconds of a wait that the provider asks for. A call that should wait longer
            fails at once: to call again earlier than asked would only be refused again.
    """

    max_attempts: int = 4
    on: Sequence[int | str] = (429, "5xx", "timeout")
    initial: float = 0.5
    max_delay: float = 8.0
    max_retry_after: float = 60.0

    def delay_after(self, attempt: int, failure: LLMError, *, waits_long: bool = False) -> float | None:
        """Seconds to wait after a call has failed, or None when it is to be given up.

        Args:
            attempt: which call it was, from 1.
            failure: what it has failed with.
            waits_long: the call may wait for as long as a provider wants that has had too many.
        """
        if attempt >= self.max_attempts or not self.covers(failure):
            return None
        if failure.retry_after is not None:
            is_short = failure.retry_after <= self.max_retry_after
            return failure.retry_after if is_short or (waits_long and isinstance(failure, LLMRateLimited)) else None
        longest = min(self.initial * 2.0 ** (attempt - 1), self.max_delay)
        return longest * random.uniform(0.5, 1.0)

    def covers(self, failure: LLMError) -> bool:
        """Whether `failure` is one of the kinds in `on`."""
        if isinstance(failure, NonRetryableError):
            return False
        if isinstance(failure, (LLMTimeout, LLMUnreachable)):
            return "timeout" in self.on
        if failure.status is None:
            return False
        return failure.status in self.on or f"{failure.status // 100}xx" in self.on
