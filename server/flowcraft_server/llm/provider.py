"""What every language model provider offers, to plain and to coroutine handlers alike."""

from abc import ABC, abstractmethod
from typing import ClassVar

from loguru import logger

from flowcraft_sdk.node import AsyncLanguageModel, LanguageModel


class Provider(ABC):
    """A configured language model. It is a `LanguageModel` itself; `asynchronous` is its `AsyncLanguageModel`.

    Args:
        name: the provider's name in `llm.providers`, used in messages.
    """

    #: True for a provider that makes its replies up without calling a model.
    scripted: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.asynchronous: AsyncLanguageModel = _AsyncView(self)

    @abstractmethod
    def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Send `prompt`, wait for the reply and return its text. Blocks the calling thread.

        Args:
            prompt: The user's message.
            system: system message sent before the prompt.
            model: model name, in place of the provider's own.
            temperature: sampling temperature; the model's default if None.
            max_tokens: upper bound of the reply's length in tokens.

        Raises:
            LLMError: or one of its subclasses.
        """

    @abstractmethod
    async def acomplete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """As `complete`, without holding up the event loop; cancelling the task ends the call."""

    def until(self, deadline: float) -> LanguageModel:
        """The same model, whose `complete` ends at a deadline, by LLMTimeout if there is no reply.

        Args:
            deadline: seconds of the monotonic clock.
        """
        return self  # one that does not wait for anything

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
    ) -> str:
        return await self._provider.acomplete(
            prompt, system=system, model=model, temperature=temperature, max_tokens=max_tokens
        )
