"""What stands between a handler and its provider: layers around each call, and `ctx.llm` over them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from flowcraft_sdk.node.method_names import called_as

from .calls import ModelReply, ModelRequest
from .provider import Provider
from .streaming import OnCancel, OnPiece, StreamSink, blocking_pieces, on_piece_of_call, pieces

Call = Callable[[ModelRequest], ModelReply]
AsyncCall = Callable[[ModelRequest], Awaitable[ModelReply]]


class CallLayer(Protocol):
    """Does something before, after or in place of each model call of an attempt, in functions and in coroutines alike."""

    def call(self, provider: Provider, request: ModelRequest, further: Call) -> ModelReply:
        """Answer a request in the thread of a plain function.

        Args:
            provider: The provider that the call is for.
            request: The request; its model is named.
            further: What is inside this layer; the provider, in the end.
        """

    async def acall(self, provider: Provider, request: ModelRequest, further: AsyncCall) -> ModelReply:
        """As `call`, on an event loop."""


@called_as("ctx.llm")
class HandlerModel:
    """The `ctx.llm` of a plain function.

    Args:
        provider: The provider.
        layers: What is around each call, from outside to inside.
        deadline: seconds of the monotonic clock at which calls end by LLMTimeout; None for none.
        sink: where the pieces of streamed replies go besides the handler.
    """

    __slots__ = ("_deadline", "_layers", "_provider", "_shown")

    def __init__(
        self,
        provider: Provider,
        layers: Sequence[CallLayer] = (),
        deadline: float | None = None,
        sink: StreamSink | None = None,
    ) -> None:
        self._provider = provider
        self._layers = layers
        self._deadline = deadline
        self._shown = ShownReplies(sink)

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
        """See `LanguageModel.complete`."""
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens, schema=schema
        )
        return self.call(request).text

    def call(self, request: ModelRequest) -> ModelReply:
        """Send a request through the layers to the provider.

        Raises:
            LLMError: or one of its subclasses; and what the layers raise.
        """
        return self._through(self._ask, request)

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
        """See `LanguageModel.stream`."""
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens
        )
        shown = self._shown.part(part, show)

        def call(on_piece: OnPiece, on_cancel: OnCancel) -> ModelReply:
            take = shown(on_piece)
            on_piece_of_call.set(take)

            def ask(request: ModelRequest) -> ModelReply:
                return self._provider.call_streaming(request, take, deadline=self._deadline, on_cancel=on_cancel)

            return self._through(ask, request)

        return blocking_pieces(call, self._shown.sink)

    def _through(self, ask: Call, request: ModelRequest) -> ModelReply:
        call = ask
        for layer in reversed(self._layers):
            call = _inside(layer, self._provider, call)
        return call(self._provider.resolved(request))

    def _ask(self, request: ModelRequest) -> ModelReply:
        return self._provider.call(request, deadline=self._deadline)


@called_as("ctx.llm")
class AsyncHandlerModel:
    """The `ctx.llm` of a coroutine.

    Args:
        provider: The provider.
        layers: What is around each call, from outside to inside.
        sink: where the pieces of streamed replies go besides the handler.
        providers: of the deployment, by name.
    """

    __slots__ = ("_layers", "_provider", "_shown", "providers")

    def __init__(
        self,
        provider: Provider,
        layers: Sequence[CallLayer] = (),
        sink: StreamSink | None = None,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        self._provider = provider
        self._layers = layers
        self._shown = ShownReplies(sink)
        self.providers = providers or {}

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
        """See `AsyncLanguageModel.complete`."""
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens, schema=schema
        )
        return (await self.acall(request)).text

    async def acall(self, request: ModelRequest) -> ModelReply:
        """Send a request through the layers to the provider.

        Raises:
            LLMError: or one of its subclasses; and what the layers raise.
        """
        return await self.around(self._provider, request, self._provider.acall)

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
        """See `AsyncLanguageModel.stream`."""
        request = ModelRequest.of_prompt(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens
        )
        shown = self._shown.part(part, show)

        async def call(on_piece: OnPiece) -> ModelReply:
            take = shown(on_piece)
            on_piece_of_call.set(take)
            return await self.around(
                self._provider, request, lambda request: self._provider.acall_streaming(request, take)
            )

        return pieces(call)

    def begin_shown(self) -> Callable[[str], None]:
        """For a reply that begins, what its pieces are given to for clients that follow the node."""
        return self._shown.part(None, True)(lambda _: None)

    def details(self, provider: Provider, request: ModelRequest, reply: ModelReply) -> dict[str, Any]:
        """What is kept beside a reply that the caller records itself: tokens, price and texts, as the deployment has it.

        Args:
            provider: The provider.
            request: What was asked, as it is to be shown.
            reply: What was answered, as it is to be shown.
        """
        for layer in self._layers:
            if getattr(layer, "records", False):
                found: dict[str, Any] = layer.details(provider, request, reply)  # type: ignore[attr-defined]
                return found
        return {}

    async def around(
        self, provider: Provider, request: ModelRequest, ask: AsyncCall, *, recorded: bool = True
    ) -> ModelReply:
        """Send a request through the layers to what asks a provider.

        Args:
            provider: The provider.
            request: The request, as the layers see it.
            ask: Asks the provider, in whichever way.
            recorded: Whether the reply is to be recorded; False where the caller does that.

        Raises:
            LLMError: or one of its subclasses; and what the layers raise.
        """
        call = ask
        for layer in reversed(self._layers):
            if not recorded and getattr(layer, "records", False):
                continue
            call = _ainside(layer, provider, call)
        return await call(provider.resolved(request))


class ShownReplies:
    """Has the streamed replies of a handler go to those clients that follow its node, each as a part of its own.

    Args:
        sink: where they go; None for nowhere.
    """

    def __init__(self, sink: StreamSink | None) -> None:
        self.sink = sink
        self._count = 0

    def part(self, name: str | None, show: bool) -> Callable[[OnPiece], OnPiece]:
        """For a reply that begins, what has its pieces go to the clients and the handler.

        Args:
            name: of the part; None for "", and "2", "3" and so on for further replies.
            show: whether clients get it.
        """
        if name is None and show:
            self._count += 1
        part, sink = ("" if self._count == 1 else str(self._count)) if name is None else name, self.sink
        if sink is None or not show:
            return lambda on_piece: on_piece

        def shown(on_piece: OnPiece) -> OnPiece:
            def take(text: str) -> None:
                sink.show(part, text)
                on_piece(text)

            return take

        return shown


def _inside(layer: CallLayer, provider: Provider, further: Call) -> Call:
    return lambda request: layer.call(provider, request, further)


def _ainside(layer: CallLayer, provider: Provider, further: AsyncCall) -> AsyncCall:
    return lambda request: layer.acall(provider, request, further)
