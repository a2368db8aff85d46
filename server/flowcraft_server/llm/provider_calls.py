"""What stands around each call to a provider: the limits of all processes and of this one, its time, and its repetitions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from loguru import logger

from flowcraft_sdk.node import BudgetExceededError

from .call_gate import EXPECTED_REPLY, CallLimit, Passage, answer_headers, call_gate
from .concurrency import ConcurrencyLimit
from .errors import LLMError, LLMRateLimited
from .retrying import RetryPolicy

T = TypeVar("T")


@dataclass(slots=True)
class ProviderCalls:
    """Makes calls within the limits of a provider, and repeats those that fail as it is configured.

    Args:
        name: of the provider whose limits hold.
        limit: what calls of each model may do together, over all processes.
        places: for the calls under way in this process.
        timeout: seconds that a call may take.
        retries: what is repeated, and how often.
        failure_of: our error for what a call has raised; None for what is no failure of the provider, and is raised as it is.
    """

    name: str
    limit: CallLimit
    places: ConcurrencyLimit
    timeout: float
    retries: RetryPolicy
    failure_of: Callable[[Exception], LLMError | None]

    async def make(
        self,
        call: Callable[[], Awaitable[T]],
        model: str,
        *,
        expected: int = EXPECTED_REPLY,
        used: Callable[[T], int] | None = None,
    ) -> T:
        """Make a call of the caller's own.

        Args:
            call: makes it.
            model: of which it is.
            expected: tokens that it is expected to use.
            used: gives the tokens that it has used, 0 where the provider does not count them.

        Raises:
            LLMError: or one of its subclasses.
        """

        async def once() -> T:
            async with self.admitted(model, expected) as passage:
                result = await call()
                passage.tokens = (used(result) if used is not None else 0) or None
                return result

        return await self.repeated(once)

    async def repeated(self, call: Callable[[], Awaitable[T]], unless: Callable[[], bool] = lambda: False) -> T:
        """A call, again while its failures pass and `unless` does not speak against it."""
        attempt = 1
        while True:
            try:
                return await call()
            except BudgetExceededError:  # while it waited: no fault of the provider
                raise
            except Exception as error:
                failure = self.failure_of(error)
                if failure is None:
                    raise
                delay = None if unless() else self._delay(attempt, failure)
                if delay is None:
                    raise failure from error
            if isinstance(failure, LLMRateLimited) and call_gate.get().waits:
                delay = 0.0  # the gate holds it back, with all others, and may have its node parked
            await asyncio.sleep(delay)
            attempt += 1

    @asynccontextmanager
    async def admitted(self, model: str, tokens: int) -> AsyncIterator[Passage]:
        """Within the limits of all processes and of this one, and within the time of a call as a whole."""
        noted: dict[str, str] = {}
        async with call_gate.get().passage(self.name, model, self.limit, tokens) as passage:
            token = answer_headers.set(noted)
            try:
                # Of the whole call: an endpoint that sends a byte now and then keeps to the time limits of the socket.
                async with self.places.aheld(), asyncio.timeout(self.timeout):
                    yield passage
                passage.answered = True
            except Exception as error:
                failure = self.failure_of(error)
                if failure is not None:
                    passage.refused, passage.retry_after = isinstance(failure, LLMRateLimited), failure.retry_after
                raise
            finally:
                answer_headers.reset(token)
                passage.headers = noted

    def _delay(self, attempt: int, failure: LLMError) -> float | None:
        delay = self.retries.delay_after(attempt, failure, waits_long=call_gate.get().parks)
        if delay is not None:
            logger.info("{}; call {} follows in {:.1f}s", failure, attempt + 1, delay)
        return delay
