"""What lets calls to a provider through: the worker's limits, which hold over all processes."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

EXPECTED_REPLY = 500
"""Tokens that a reply is expected to have whose length is not bounded."""

CHARACTERS_OF_A_TOKEN = 4

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds for which a provider is believed that it wants no calls: after a day it is asked again in any case."""

answer_headers: ContextVar["dict[str, str] | None"] = ContextVar("headers_of_model_call", default=None)
"""Where the HTTP client notes the headers of an answer."""


falls_back: ContextVar[bool] = ContextVar("model_call_falls_back", default=False)
"""Whether another model is asked if this one cannot be: then a call does not wait for a provider that wants none for long."""


@dataclass(frozen=True, slots=True)
class CallLimit:
    """What calls of a provider's models may do together, each model by itself.

    Attributes:
        requests: calls a second.
        tokens: tokens a second, of input and output.
        concurrent: calls at once.
    """

    requests: float | None = None
    tokens: float | None = None
    concurrent: int | None = None


@dataclass(slots=True)
class Passage:
    """A call that was let through.

    Attributes:
        tokens: what it has used, once that is known.
        answered: whether the provider has answered it.
        refused: the provider has refused it as one too many.
        retry_after: seconds for which the provider wants no calls, if it says so.
        headers: those of its answer.
    """

    tokens: int | None = None
    answered: bool = False
    refused: bool = False
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def expected_tokens(texts: Iterable[str], max_tokens: int | None) -> int:
    """What a call may use, by what is sent and the bound of its reply.

    Args:
        texts: what is sent.
        max_tokens: the bound; None for none.
    """
    return sum(map(len, texts)) // CHARACTERS_OF_A_TOKEN + int(max_tokens or EXPECTED_REPLY)


class CallGate(Protocol):
    """Lets the calls of a run through when there is room.

    Attributes:
        waits: whether it heeds what a provider has refused, so that its caller need not wait itself before a further try.
        parks: whether the node of a call that waits for long is parked meanwhile.
    """

    @property
    def waits(self) -> bool:
        """See the class."""

    @property
    def parks(self) -> bool:
        """See the class."""

    def passage(self, provider: str, model: str, limit: CallLimit, tokens: int) -> AbstractAsyncContextManager[Passage]:
        """Wait until a call may be made, and hold its place.

        Args:
            provider: the provider's name.
            model: the model.
            limit: what holds for its calls.
            tokens: what the call is expected to use.

        Raises:
            LLMRateLimited: the provider wants no calls for longer than a call waits.
        """


class OpenGate:
    """Lets each call through at once: outside of workers."""

    waits = False
    parks = False

    @asynccontextmanager
    async def passage(self, provider: str, model: str, limit: CallLimit, tokens: int) -> AsyncIterator[Passage]:
        """See `CallGate.passage`."""
        yield Passage()


OPEN = OpenGate()
call_gate: ContextVar[CallGate] = ContextVar("gate_of_model_call", default=OPEN)
"""What the call under way goes through."""
