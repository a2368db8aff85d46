"""What every language model provider offers, to plain and to coroutine handlers alike."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from loguru import logger

from flowcraft_sdk.node import AsyncLanguageModel

from .call_gate import CallLimit
from .calls import ModelReply, ModelRequest
from .streaming import OnCancel, OnPiece, blocking_pieces, pieces


class Provider(ABC):
    """A configured language model. It is a `LanguageModel` itself; `asynchronous` is its `AsyncLanguageModel`.

    Args:
        name: the provider's name in `llm.providers`, used in messages.
        model: the model of requests that name none.
        api_url: address of its API, by which prices are looked up; empty for none.
    """

    #: True for a provider that makes its replies up without calling a model.
    scripted: ClassVar[bool] = False

    def __init__(self, name: str, model: str = "", api_url: str = "") -> None:
        self.name = name
        self.api_url = api_url
        self.model = model
        self.limit = CallLimit()
        self.cache_age: float | None = None
        """Seconds for which replies are taken from the cache; None: they are not kept."""

        self.asynchronous: AsyncLanguageModel = _AsyncView(self)

    @abstractmethod
    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        """Send a request and wait for the reply. Blocks the calling thread.

        Args:
            request: The request.
            deadline: seconds of the monotonic clock at which the call ends by LLMTimeout; None for none.

        Raises:
            LLMError: or one of its subclasses.
        """

    @abstractmethod
    async def acall(self, request: ModelRequest) -> ModelReply:
        """As `call`, without holding up the event loop; cancelling the task ends the call."""

    def call_streaming(
        self,
        request: ModelRequest,
        on_piece: OnPiece,
        *,
        deadline: float | None = None,
        on_cancel: OnCancel | None = None,
    ) -> ModelReply:
        """As `call`, with the reply piece by piece. A provider that cannot do so gives it as one.

        Args:
            request: The request.
            on_piece: Called with each piece, perhaps from another thread.
            deadline: seconds of the monotonic clock at which the call ends by LLMTimeout; None for none.
            on_cancel: Called with what ends the call at once.

        Returns:
            The whole reply.

        Raises:
            LLMError: or one of its subclasses; also when the reply breaks off after some pieces.
        """
        reply = self.call(request, deadline=deadline)
        on_piece(reply.text)
        return reply

    async def acall_streaming(self, request: ModelRequest, on_piece: OnPiece) -> ModelReply:
        """As `call_streaming`, without holding up the event loop; cancelling the task ends the call."""
        reply = await self.acall(request)
        on_piece(reply.text)
        return reply

    def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        """Send `prompt`, wait for the reply and return its text. Blocks the calling thread.

        Args:
            prompt: The user's message.
            system: system message sent before the prompt.
            model: model name, in place of the provider's own.
            temperature: sampling temperature; the model's default if None.
            max_tokens: upper bound of the reply's length in tokens.
            schema: JSON Schema that the reply fits as JSON, where the provider offers that; elsewhere it is any text.

        Raises:
            LLMError: or one of its subclasses.
        """
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens, schema=schema
        )
        return self.call(self.resolved(request)).text

    async def acomplete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        """As `complete`, without holding up the event loop; cancelling the task ends the call."""
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens, schema=schema
        )
        return (await self.acall(self.resolved(request))).text

    def stream(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        part: str | None = None,
        show: bool = True,
    ) -> Iterator[str]:
        """As `complete`, piece by piece. `part` and `show` are for models of handlers and mean nothing here."""
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens
        )
        resolved = self.resolved(request)
        return blocking_pieces(lambda on_piece, on_cancel: self.call_streaming(resolved, on_piece, on_cancel=on_cancel))

    def resolved(self, request: ModelRequest) -> ModelRequest:
        """The request with the name of its model."""
        return request if request.model else replace(request, model=self.model)

    @property
    def warning(self) -> str | None:
        """A warning about this provider for its users, or None."""
        return None

    def warn(self) -> None:
        """Log the warning, if there is one."""
        if self.warning:
            logger.warning("{}", self.warning)

    def close(self) -> None:  # noqa: B027  (most providers have nothing to close)
        """Close idle connections. The provider opens new ones when it is used again."""


class _AsyncView:
    """A provider seen through the `AsyncLanguageModel` protocol."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        return await self._provider.acomplete(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens, schema=schema
        )

    def stream(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        part: str | None = None,
        show: bool = True,
    ) -> AsyncIterator[str]:
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens
        )
        resolved = self._provider.resolved(request)
        return pieces(lambda on_piece: self._provider.acall_streaming(resolved, on_piece))
