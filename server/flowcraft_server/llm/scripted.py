"""A provider for demonstrations and tests: replies from a file of rules, no model, no network."""

import asyncio
import math
import re
import threading
import time
from pathlib import Path
from typing import ClassVar

from .calls import ModelReply, ModelRequest, TokenUsage
from .errors import LLMError
from .provider import Provider
from .script_rules import Reply, Script, load_script
from .streaming import OnCancel, OnPiece

CHARACTERS_OF_A_TOKEN = 4
"""Scripted replies count so many characters as a token, so that budgets can be tried without a model."""

_announced: set[str] = set()
_announcing = threading.Lock()


class Scripted(Provider):
    """Replies by the first matching rule, the same to the same prompt every time. It says so in the log, once.

    Args:
        name: the provider's name in `llm.providers`.
        script: the rules.
        source: where the rules come from, for messages.
    """

    scripted: ClassVar[bool] = True

    def __init__(self, name: str, script: Script, *, source: str) -> None:
        super().__init__(name, "scripted")
        self.script = script
        self.source = source

    @classmethod
    def from_file(cls, name: str, path: Path) -> "Scripted":
        """Read the rules in `path` (see `script_rules`).

        Raises:
            LLMSettingsError: the file is missing or wrong.
        """
        return cls(name, load_script(path), source=str(path))

    @property
    def warning(self) -> str | None:
        """Says that no model is called."""
        return f"llm.providers.{self.name}: replies are scripted ({self.source}), no model is called"

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        """Return the scripted reply to the prompt after its latency; the request's other parts make no difference."""
        reply = self._reply_to(request)
        time.sleep(reply.latency)
        return self._model_reply(request, reply)

    async def acall(self, request: ModelRequest) -> ModelReply:
        """As `call`."""
        reply = self._reply_to(request)
        if reply.latency:
            await asyncio.sleep(reply.latency)
        return self._model_reply(request, reply)

    def call_streaming(
        self,
        request: ModelRequest,
        on_piece: OnPiece,
        *,
        deadline: float | None = None,
        on_cancel: OnCancel | None = None,
    ) -> ModelReply:
        """Give the scripted reply word by word, over its latency."""
        reply = self._reply_to(request)
        words = _words(reply.text)
        ended = threading.Event()
        if on_cancel is not None:
            on_cancel(ended.set)
        for word in words:
            if ended.wait(reply.latency / len(words)):
                raise LLMError(f"llm.providers.{self.name}: the call was cancelled", provider=self.name)
            on_piece(word)
        return self._model_reply(request, reply)

    async def acall_streaming(self, request: ModelRequest, on_piece: OnPiece) -> ModelReply:
        """As `call_streaming`."""
        reply = self._reply_to(request)
        words = _words(reply.text)
        for word in words:
            await asyncio.sleep(reply.latency / len(words))
            on_piece(word)
        return self._model_reply(request, reply)

    def warn(self) -> None:
        """Log the warning, once in this process for each provider's name."""
        with _announcing:
            first = self.name not in _announced
            _announced.add(self.name)
        if first:
            super().warn()

    def _reply_to(self, request: ModelRequest) -> Reply:
        self.warn()
        system = "\n".join(message.text for message in request.messages if message.role == "system")
        return self.script.reply_to(request.prompt, system)

    def _model_reply(self, request: ModelRequest, reply: Reply) -> ModelReply:
        sent = sum(len(message.text) for message in request.messages)
        usage = TokenUsage(_tokens(sent), 0, _tokens(len(reply.text)))
        return ModelReply(reply.text, request.model or self.model, usage, latency_ms=round(reply.latency * 1000))


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", text)


def _tokens(characters: int) -> int:
    return math.ceil(characters / CHARACTERS_OF_A_TOKEN)
