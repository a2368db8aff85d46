"""Calls any endpoint that speaks the OpenAI chat-completions protocol."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from loguru import logger

from flowcraft_sdk.protocol.clock import clock

from .call_gate import EXPECTED_REPLY, CallLimit, expected_tokens
from .call_loop import CallLoop
from .calls import ModelReply, ModelRequest
from .concurrency import ConcurrencyLimit
from .errors import LLMAuthError, LLMError, LLMRequestError, LLMSettingsError, LLMTimeout
from .provider import Provider
from .provider_calls import ProviderCalls
from .retrying import RetryPolicy
from .streaming import OnCancel, OnPiece

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from .bounded_http import BoundedClient

T = TypeVar("T")

_WORDS_OF_SCHEMAS = ("response_format", "json_schema")
"""Of which an endpoint speaks that refuses a request for the schema in it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how a provider is called.

    Args:
        base_url: address up to and without `/chat/completions`.
        api_key: bearer token; never shown in messages.
        model: model used when a call names none.
        timeout: seconds that one call may take, from its first byte to its last.
        max_concurrent: calls under way at a time in this process.
        retries: what is repeated, and how often.
        limit: what calls of each model may do together, over all processes.
        max_reply: bytes that an answer may have once it is decompressed.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    timeout: float = 60.0
    max_concurrent: int = 8
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    max_reply: int = 16 * 1024 * 1024
    limit: CallLimit = field(default_factory=CallLimit)


class OpenAICompatible(Provider):
    """A model behind an OpenAI-compatible endpoint. Needs the `llm` extra, which is loaded by the first call."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        super().__init__(name, endpoint.model, endpoint.base_url)
        self.endpoint = endpoint
        self.limit = endpoint.limit
        self.calls = ProviderCalls(
            name,
            endpoint.limit,
            ConcurrencyLimit(endpoint.max_concurrent),
            endpoint.timeout,
            endpoint.retries,
            self._failure,
        )
        self._calls = CallLoop()
        self._takes_schemas = True
        # The connections of a client belong to the event loop that opened them.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()

    @property
    def warning(self) -> str | None:
        """Says that the key is empty, if it is."""
        return None if self.endpoint.api_key else self._empty_key()

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        """See `Provider.call`; the deadline is of waits, repetitions and pauses, too."""
        return self._calls.run(self._until(deadline, self.acall(request)))

    def call_streaming(
        self,
        request: ModelRequest,
        on_piece: OnPiece,
        *,
        deadline: float | None = None,
        on_cancel: OnCancel | None = None,
    ) -> ModelReply:
        """See `Provider.call_streaming`."""
        return self._calls.run(self._until(deadline, self.acall_streaming(request, on_piece)), on_cancel)

    async def _until(self, deadline: float | None, call: Awaitable[ModelReply]) -> ModelReply:
        remaining = None if deadline is None else max(deadline - clock(), 0.0)
        limit = asyncio.timeout(remaining)
        try:
            async with limit:
                return await call
        except TimeoutError:
            message = f"llm.providers.{self.name}: no reply within what was left of the node's timeout"
            raise LLMTimeout(message, provider=self.name) from None

    async def acall(self, request: ModelRequest) -> ModelReply:
        """See `Provider.acall`. A model that takes no schema is asked again without one, and is given none from then on."""
        if not self._takes_schemas and request.output_schema is not None:
            request = replace(request, output_schema=None)
        body = self._body(request)
        client = await self.client_of_loop()
        try:
            return await self.calls.repeated(lambda: self._call_once(client, body))
        except LLMRequestError as error:
            if request.output_schema is None or not any(word in str(error) for word in _WORDS_OF_SCHEMAS):
                raise
            logger.info("llm.providers.{}: takes no schemas of replies; they are read as text", self.name)
            self._takes_schemas = False
        return await self.acall(request)

    async def acall_streaming(self, request: ModelRequest, on_piece: OnPiece) -> ModelReply:
        """See `Provider.acall_streaming`. A call is repeated as others are, until the first piece has come."""
        body = {**self._body(request), "stream": True, "stream_options": {"include_usage": True}}
        client = await self.client_of_loop()
        has_begun = False

        def pass_on(text: str) -> None:
            nonlocal has_begun
            has_begun = True
            on_piece(text)

        return await self.calls.repeated(lambda: self._stream_once(client, body, pass_on), unless=lambda: has_begun)

    async def arun(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        expected: int = EXPECTED_REPLY,
        used: Callable[[T], int] | None = None,
    ) -> T:
        """Make a call of the caller's own with the client: within the limit and the time of a call, repeated as configured.

        Args:
            call: makes it; what it raises may have what the client raised as its cause.
            expected: tokens that it is expected to use.
            used: gives the tokens that it has used, 0 where the provider does not count them.

        Raises:
            LLMError: or one of its subclasses.
        """
        return await self.calls.make(call, self.model, expected=expected, used=used)

    async def _call_once(self, client: "AsyncOpenAI", body: Mapping[str, Any]) -> ModelReply:
        async with self.calls.admitted(body["model"], _expected_tokens(body)) as passage:
            began = clock()
            completion = await client.chat.completions.create(**body)
            latency_ms = round((clock() - began) * 1000)
            from .openai_replies import model_reply

            reply = model_reply(completion, provider=self.name, model=body["model"], latency_ms=latency_ms)
            passage.tokens = reply.usage.tokens or None
        return reply

    async def _stream_once(self, client: "AsyncOpenAI", body: Mapping[str, Any], on_piece: OnPiece) -> ModelReply:
        from .openai_stream import StreamReader

        async with self.calls.admitted(body["model"], _expected_tokens(body)) as passage:
            began = clock()
            # Read as bytes: what the client makes of each piece costs ten times as much.
            async with client.chat.completions.with_streaming_response.create(**body) as response:
                request_id = response.headers.get("x-request-id", "")
                reader = StreamReader(provider=self.name, model=body["model"], request_id=request_id)
                async for received in response.iter_bytes():
                    for text in reader.feed(received):
                        on_piece(text)
                    if reader.is_over:  # an endpoint that keeps the connection open takes no reply back
                        break
            reply = reader.reply(round((clock() - began) * 1000))
            passage.tokens = reply.usage.tokens or None
            return reply

    def close(self) -> None:
        """See `Provider.close`."""
        self._calls.close()
        self._clients.clear()

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        if not self.endpoint.api_key:
            raise LLMAuthError(self._empty_key(), provider=self.name)
        body: dict[str, Any] = {
            "model": request.model or self.model,
            "messages": [{"role": message.role, "content": message.text} for message in request.messages],
            **request.settings,  # `max_tokens` is the name that compatible servers share; OpenAI's newer one is not
        }
        if request.output_schema is not None:
            schema = {"name": "reply", "strict": True, "schema": dict(request.output_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.idempotency_key:
            body["extra_headers"] = {"Idempotency-Key": request.idempotency_key}
        return body

    async def client_of_loop(self) -> "AsyncOpenAI":
        """The client of the event loop that runs.

        Raises:
            LLMAuthError: there is no key to call the endpoint with.
            LLMSettingsError: what it needs is not installed.
        """
        if not self.endpoint.api_key:
            raise LLMAuthError(self._empty_key(), provider=self.name)
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            made = await asyncio.to_thread(self._new_client)
            client = self._clients.setdefault(loop, made)
        return client

    def _new_client(self) -> "AsyncOpenAI":
        """The import takes half a second and the certificates some more: not to be done on an event loop."""
        endpoint, library = self.endpoint, self._load()
        for reader in (".openai_replies", ".openai_failures"):  # not between a reply and its record
            importlib.import_module(reader, __package__)
        # max_retries=0: repeating is ours, so that places are freed while a call waits for its next try.
        client: AsyncOpenAI = library.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            timeout=endpoint.timeout,
            max_retries=0,
            http_client=self._http_client(),
        )
        return client

    def _http_client(self) -> "BoundedClient":
        from .bounded_http import BoundedClient

        endpoint = self.endpoint
        return BoundedClient(provider=self.name, max_reply=endpoint.max_reply, timeout=endpoint.timeout)

    def _load(self) -> Any:
        try:
            return importlib.import_module("openai")
        except ModuleNotFoundError as error:
            if error.name != "openai":
                raise
            raise LLMSettingsError(
                f"llm.providers.{self.name}: type openai-compatible needs the extra [llm]; "
                "install it with: pip install 'flowcraft-server[llm]'",
                provider=self.name,
            ) from None

    def _failure(self, error: Exception) -> LLMError:
        endpoint, failure = self.endpoint, error
        if not isinstance(failure, LLMError):
            from .openai_failures import failure_of

            failure = failure_of(error, provider=self.name, timeout=endpoint.timeout, base_url=endpoint.base_url)
        # Some endpoints quote the key they refuse.
        failure.args = (str(failure).replace(endpoint.api_key, "********"),)
        return failure

    def _empty_key(self) -> str:
        return (
            f"llm.providers.{self.name}.apiKey is empty: set it (for example by the environment variable it is "
            "written with), or choose another provider with llm.default"
        )


def _expected_tokens(body: Mapping[str, Any]) -> int:
    """What a call may use, by its length: limits of tokens go by it until the provider has counted them."""
    return expected_tokens((str(message["content"]) for message in body["messages"]), body.get("max_tokens"))
