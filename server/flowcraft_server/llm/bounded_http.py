"""The HTTP client below the `openai` client: bounds what an endpoint may send, and sends nothing to another host."""

from typing import Any

import openai

from .errors import LLMRedirectError, LLMReplyTooLarge

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
        """Send a request and return the response with its whole body.

        Raises:
            LLMReplyTooLarge: the body has more bytes than are allowed.
            LLMRedirectError: the endpoint sends the caller to another host, or round in circles.
        """
        options.update(stream=True, follow_redirects=False)
        for _ in range(MOST_REDIRECTS + 1):
            response = await super().send(request, **options)
            try:
                following = response.next_request
                if following is None:
                    return await self._read(response, request)
                self._check_redirect(request, following)
            finally:
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
            if size > self._max_reply:
                raise LLMReplyTooLarge(
                    f"llm.providers.{self._provider}: the reply has more than {self._max_reply} bytes (`maxReply`)",
                    provider=self._provider,
                )
            chunks.append(chunk)
        headers = [(k, v) for k, v in response.headers.raw if k.lower() not in (b"content-encoding", b"content-length")]
        return type(response)(response.status_code, headers=headers, content=b"".join(chunks), request=request)

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


def _origin(url: Any) -> str:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{url.host[:LONGEST_HOST]}:{port}"
