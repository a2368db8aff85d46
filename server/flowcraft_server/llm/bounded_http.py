"""The HTTP client below the `openai` client: bounds what an endpoint may send, and sends nothing to another host."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import openai

from .call_gate import answer_headers
from .errors import LLMRedirectError, LLMReplyTooLarge
from .rate_headers import PREFIXES

MOST_REDIRECTS = 5
LONGEST_HOST = 255


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """Reads at most `max_reply` bytes of a body, and follows redirects only within one scheme, host and port.

    Args:
        provider: the provider's name, for messages.
        max_reply: bytes of a body, as it is after decompression.
    """

    def __init__(self, *, provider: str, max_reply: int, **options: Any) -> None:
        super().__init__(follow_redirects=False, **options)
        self._provider = provider
        self._max_reply = max_reply

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request and return the response with its whole body, or with what is left to read if it is streamed.

        Raises:
            LLMReplyTooLarge: the body has more bytes than are allowed.
            LLMRedirectError: the endpoint sends the caller to another host, or round in circles.
        """
        streamed = options.get("stream", False)
        options.update(stream=True, follow_redirects=False)
        for _ in range(MOST_REDIRECTS + 1):
            response = await super().send(request, **options)
            if (noted := answer_headers.get()) is not None:
                noted.update({k.lower(): v for k, v in response.headers.items() if k.lower().startswith(PREFIXES)})
            following = response.next_request
            try:
                if following is None and streamed and response.is_success:
                    return CountedBody(response, self._refuse_if_large).as_response(request)
                if following is None:
                    return await self._read(response, request)
                self._check_redirect(request, following)
            finally:
                if following is not None or not (streamed and response.is_success):
                    await response.aclose()
            request = following
        raise LLMRedirectError(
            f"llm.providers.{self._provider}: {_origin(request.url)} redirects more than {MOST_REDIRECTS} times",
            provider=self._provider,
        )

    async def _read(self, response: Any, request: Any) -> Any:
        chunks, size = [], 0
        # Counted while it is unpacked, which the library does piece by piece: the whole is never in memory.
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            self._refuse_if_large(size)
            chunks.append(chunk)
        headers = _headers_of_unpacked(response)
        return type(response)(response.status_code, headers=headers, content=b"".join(chunks), request=request)

    def _refuse_if_large(self, size: int) -> None:
        if size > self._max_reply:
            raise LLMReplyTooLarge(
                f"llm.providers.{self._provider}: the reply has more than {self._max_reply} bytes (`maxReply`)",
                provider=self._provider,
            )

    def _check_redirect(self, request: Any, following: Any) -> None:
        here, there = _origin(request.url), _origin(following.url)
        if here != there:
            raise LLMRedirectError(
                f"llm.providers.{self._provider}: {here} redirects to {there}, which is not followed: "
                "prompt and key are for the host of `baseUrl` alone",
                provider=self._provider,
            )
        if following.method != request.method:
            raise LLMRedirectError(
                f"llm.providers.{self._provider}: {here} redirects to a page of its own, without the prompt; "
                "check `baseUrl`",
                provider=self._provider,
            )


class CountedBody(httpx2.AsyncByteStream):
    """What is left to read of a response, unpacked and counted.

    Args:
        response: the response.
        check: called with the bytes so far; raises if they are too many.
    """

    def __init__(self, response: httpx2.Response, check: Callable[[int], None]) -> None:
        self._response = response
        self._check = check

    def as_response(self, request: Any) -> httpx2.Response:
        """A response with this body."""
        response = self._response
        return httpx2.Response(
            response.status_code, headers=_headers_of_unpacked(response), stream=self, request=request
        )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._response.aiter_bytes():
            size += len(chunk)
            self._check(size)
            yield chunk

    async def aclose(self) -> None:
        """Close the connection, or hand it back if everything was read."""
        await self._response.aclose()


def _headers_of_unpacked(response: Any) -> list[tuple[bytes, bytes]]:
    return [(k, v) for k, v in response.headers.raw if k.lower() not in (b"content-encoding", b"content-length")]


def _origin(url: Any) -> str:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{url.host[:LONGEST_HOST]}:{port}"
