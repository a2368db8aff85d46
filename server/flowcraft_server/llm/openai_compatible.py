"""Calls any endpoint that speaks the OpenAI chat-completions protocol."""

import asyncio
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from loguru import logger

from flowcraft_sdk.node import LanguageModel
from flowcraft_sdk.protocol.clock import clock

from .call_loop import CallLoop
from .concurrency import ConcurrencyLimit
from .errors import LLMAuthError, LLMError, LLMSettingsError, LLMTimeout
from .provider import Provider
from .retrying import RetryPolicy

if TYPE_CHECKING:
    from openai import AsyncOpenAI


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
        max_reply: bytes that an answer may have once it is decompressed.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    timeout: float = 60.0
    max_concurrent: int = 8
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    max_reply: int = 16 * 1024 * 1024


class OpenAICompatible(Provider):
    """A model behind an OpenAI-compatible endpoint. Needs the `llm` extra, which is loaded by the first call."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        super().__init__(name)
        self.endpoint = endpoint
        self._limit = ConcurrencyLimit(endpoint.max_concurrent)
        self._calls = CallLoop()
        # The connections of a client belong to the event loop that opened them.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()

    @property
    def warning(self) -> str | None:
        """Says that the key is empty, if it is."""
        return None if self.endpoint.api_key else self._empty_key()

    def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """See `Provider.complete`."""
        return self._complete_until(
            None, prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens
        )

    def until(self, deadline: float) -> LanguageModel:
        """See `Provider.until`."""
        return _UntilDeadline(self, deadline)

    def _complete_until(self, deadline: float | None, prompt: str, **options: Any) -> str:
        """`complete`, in all within `deadline` (seconds of the monotonic clock): waits, repetitions and pauses included."""
        return self._calls.run(self._acomplete_until(deadline, prompt, options))

    async def _acomplete_until(self, deadline: float | None, prompt: str, options: Mapping[str, Any]) -> str:
        remaining = None if deadline is None else max(deadline - clock(), 0.0)
        limit = asyncio.timeout(remaining)
        try:
            async with limit:
                return await self.acomplete(prompt, **options)
        except TimeoutError:
            message = f"llm.providers.{self.name}: no reply within what was left of the node's timeout"
            raise LLMTimeout(message, provider=self.name) from None

    async def acomplete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """See `Provider.acomplete`."""
        request = self._request(prompt, system, model, temperature, max_tokens)
        client = await self._client_of_loop()
        attempt = 1
        while True:
            try:
                # Of the whole call: an endpoint that sends a byte now and then keeps to the time limits of the socket.
                async with self._limit.aheld(), asyncio.timeout(self.endpoint.timeout):
                    completion = await client.chat.completions.create(**request)
                return self._text(completion)
            except Exception as error:
                failure = self._failure(error)
                delay = self._delay(attempt, failure)
                if delay is None:
                    raise failure from error
            await asyncio.sleep(delay)
            attempt += 1

    def close(self) -> None:
        """See `Provider.close`."""
        self._calls.close()
        self._clients.clear()

    def _request(
        self, prompt: str, system: str | None, model: str | None, temperature: float | None, max_tokens: int | None
    ) -> dict[str, Any]:
        if not self.endpoint.api_key:
            raise LLMAuthError(self._empty_key(), provider=self.name)
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        request: dict[str, Any] = {"model": model or self.endpoint.model, "messages": messages}
        if temperature is not None:
            request["temperature"] = temperature
        if max_tokens is not None:
            request["max_tokens"] = max_tokens  # the name that compatible servers share; OpenAI's newer one is not
        return request

    async def _client_of_loop(self) -> "AsyncOpenAI":
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            made = await asyncio.to_thread(self._new_client)
            client = self._clients.setdefault(loop, made)
        return client

    def _new_client(self) -> "AsyncOpenAI":
        """The import takes half a second and the certificates some more: not to be done on an event loop."""
        endpoint, library = self.endpoint, self._load()
        from .bounded_http import BoundedClient

        # max_retries=0: repeating is ours, so that places are freed while a call waits for its next try.
        client: AsyncOpenAI = library.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            timeout=endpoint.timeout,
            max_retries=0,
            http_client=BoundedClient(provider=self.name, max_reply=endpoint.max_reply, timeout=endpoint.timeout),
        )
        return client

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

    def _text(self, completion: Any) -> str:
        from .openai_failures import reply_text

        return reply_text(completion, provider=self.name)

    def _failure(self, error: Exception) -> LLMError:
        if isinstance(error, LLMError):
            return error
        from .openai_failures import failure_of

        endpoint = self.endpoint
        failure = failure_of(error, provider=self.name, timeout=endpoint.timeout, base_url=endpoint.base_url)
        # Some endpoints quote the key they refuse.
        failure.args = (str(failure).replace(endpoint.api_key, "********"),)
        return failure

    def _delay(self, attempt: int, failure: LLMError) -> float | None:
        delay = self.endpoint.retries.delay_after(attempt, failure)
        if delay is not None:
            logger.info("{}; call {} follows in {:.1f}s", failure, attempt + 1, delay)
        return delay

    def _empty_key(self) -> str:
        return (
            f"llm.providers.{self.name}.apiKey is empty: set it (for example by the environment variable it is "
            "written with), or choose another provider with llm.default"
        )


class _UntilDeadline:
    """A provider as a plain function gets it whose node has a timeout."""

    __slots__ = ("_deadline", "_provider")

    def __init__(self, provider: OpenAICompatible, deadline: float) -> None:
        self._provider = provider
        self._deadline = deadline

    def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        return self._provider._complete_until(
            self._deadline, prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens
        )
