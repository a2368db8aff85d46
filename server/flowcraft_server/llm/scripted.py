"""A provider for demonstrations and tests: replies from a file of rules, no model, no network."""

import asyncio
import threading
import time
from pathlib import Path
from typing import ClassVar

from .provider import Provider
from .script_rules import Reply, Script, load_script

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
        super().__init__(name)
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

    def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return the scripted reply to `prompt` after its latency; the other arguments make no difference."""
        reply = self._reply_to(prompt)
        time.sleep(reply.latency)
        return reply.text

    async def acomplete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """As `complete`."""
        reply = self._reply_to(prompt)
        if reply.latency:
            await asyncio.sleep(reply.latency)
        return reply.text

    def warn(self) -> None:
        """Log the warning, once in this process for each provider's name."""
        with _announcing:
            first = self.name not in _announced
            _announced.add(self.name)
        if first:
            super().warn()

    def _reply_to(self, prompt: str) -> Reply:
        self.warn()
        return self.script.reply_to(prompt)
