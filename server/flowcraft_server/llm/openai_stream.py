"""Reads streamed chat completions: server-sent events with pieces of the reply. Does no I/O."""

import json
from typing import Any

from flowcraft_sdk.records.counts import counted

from .calls import ModelReply, TokenUsage
from .errors import LLMError, LLMReplyError, LLMUnreachable
from .openai_failures import quoted
from .openai_replies import text_in, usage_in

DONE = b"[DONE]"


class StreamReader:
    """Puts a reply together from the bytes of its stream.

    Args:
        provider: the provider's name, for messages.
        model: the model that was asked, if the stream names none.
        request_id: the provider's id of the request.
    """

    def __init__(self, *, provider: str, model: str, request_id: str = "") -> None:
        self._provider = provider
        self._model = model
        self._request_id = request_id
        self._rest = bytearray()
        self._data: list[bytearray] = []
        self._texts: list[str] = []
        self._refusal: list[str] = []
        self._usage = TokenUsage()
        self._finish_reason = ""
        self._done = False

    @property
    def is_over(self) -> bool:
        """Whether the stream has come to its end, whatever the connection does."""
        return self._done

    def feed(self, received: bytes) -> list[str]:
        """Take what was received; returns the pieces of the reply in it.

        Raises:
            LLMReplyError: it is not what a streamed chat completion consists of.
            LLMError: the provider reports an error.
        """
        self._rest += received
        if b"\n" not in received:
            return []
        *lines, self._rest = self._rest.split(b"\n")
        before = len(self._texts)
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                data, self._data = bytes(b"\n".join(self._data)), []
                self._take(data)
            elif line and not self._texts and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise self._not_a_stream(line)
        return self._texts[before:]

    def reply(self, latency_ms: int) -> ModelReply:
        """The whole reply, once everything was received.

        Raises:
            LLMUnreachable: the stream broke off before its end.
            LLMReplyError: there is no text; the message says what was there instead.
        """
        where = f"llm.providers.{self._provider}"
        if not self._done and not self._finish_reason:
            if not self._texts and self._rest.strip():
                raise self._not_a_stream(self._rest)
            text = "".join(self._texts)
            raise LLMUnreachable(
                f"{where}: the reply broke off after {counted(len(text), 'character')}", provider=self._provider
            )
        if not self._texts:
            refusal = "".join(self._refusal)
            reason = f"refused: {quoted(refusal)}" if refusal else f"finish_reason {self._finish_reason!r}"
            raise LLMReplyError(f"{where}: the answer holds no text ({reason})", provider=self._provider)
        return ModelReply(
            "".join(self._texts), self._model, self._usage, self._finish_reason, latency_ms, self._request_id
        )

    def _take(self, data: bytes) -> None:
        if data == DONE:
            self._done = True
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            raise self._unreadable("is not JSON", data) from None
        if not isinstance(chunk, dict):
            raise self._unreadable("is no part of a chat completion", data)
        if chunk.get("error"):
            error = chunk["error"]
            message = error.get("message") if isinstance(error, dict) else error
            raise LLMError(
                f"llm.providers.{self._provider}: the provider broke the reply off: {quoted(str(message or error))}",
                provider=self._provider,
            )
        self._model = text_in(chunk.get("model")) or self._model
        if isinstance(chunk.get("usage"), dict):
            self._usage = usage_in(chunk["usage"])
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise self._unreadable("is no part of a chat completion", data)
        for choice in choices[:1]:
            self._finish_reason = text_in(choice.get("finish_reason")) or self._finish_reason
            delta = choice.get("delta")
            if isinstance(delta, dict):
                self._take_delta(delta)

    def _take_delta(self, delta: dict[str, Any]) -> None:
        text, refusal = delta.get("content"), delta.get("refusal")
        if isinstance(text, str) and text:
            self._texts.append(text)
        if isinstance(refusal, str):
            self._refusal.append(refusal)

    def _unreadable(self, what: str, data: bytes) -> LLMReplyError:
        shown = quoted(data[:1000].decode("utf-8", "replace"))
        return LLMReplyError(
            f"llm.providers.{self._provider}: a piece of the reply {what}: {shown}", provider=self._provider
        )

    def _not_a_stream(self, line: bytearray) -> LLMReplyError:
        shown = quoted(line[:1000].decode("utf-8", "replace"))
        return LLMReplyError(
            f"llm.providers.{self._provider}: the answer is not a streamed chat completion: {shown}",
            provider=self._provider,
        )
