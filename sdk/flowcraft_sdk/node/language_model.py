"""Language models, as handlers get them."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol


class LanguageModel(Protocol):
    """A language model for plain functions."""

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
        """Ask the model.

        Args:
            prompt: The prompt.
            system: Instructions that stand before it.
            model: Name of the model; None for the provider's own.
            temperature: As the provider takes it; None for its default.
            max_tokens: The longest reply, in tokens; None for the provider's default.
            schema: JSON Schema that the reply fits as JSON, where the provider offers that; elsewhere it is any text.

        Returns:
            The reply.
        """
        ...

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
        """Ask the model, and get the reply piece by piece as it comes; so do clients that follow the node.

        Args:
            prompt: The prompt.
            system: Instructions that stand before it.
            model: Name of the model; None for the provider's own.
            temperature: As the provider takes it; None for its default.
            max_tokens: The longest reply, in tokens; None for the provider's default.
            part: The name under which clients get it; None for "" of the first reply of the node, "2" of the second.
            show: Whether clients get it.

        Returns:
            An iterator over the pieces. Ending it early ends the call.
        """
        ...


class AsyncLanguageModel(Protocol):
    """A language model for coroutines."""

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
        """Ask the model.

        Args:
            prompt: The prompt.
            system: Instructions that stand before it.
            model: Name of the model; None for the provider's own.
            temperature: As the provider takes it; None for its default.
            max_tokens: The longest reply, in tokens; None for the provider's default.
            schema: JSON Schema that the reply fits as JSON, where the provider offers that; elsewhere it is any text.

        Returns:
            The reply.
        """
        ...

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
        """Ask the model, and get the reply piece by piece as it comes; so do clients that follow the node.

        Args:
            prompt: The prompt.
            system: Instructions that stand before it.
            model: Name of the model; None for the provider's own.
            temperature: As the provider takes it; None for its default.
            max_tokens: The longest reply, in tokens; None for the provider's default.
            part: The name under which clients get it; None for "" of the first reply of the node, "2" of the second.
            show: Whether clients get it.

        Returns:
            An iterator over the pieces, for `async for`. Ending it early (`aclose`) ends the call.
        """
        ...
