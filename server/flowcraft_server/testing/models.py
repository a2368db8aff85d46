"""Language models of a test: those of a deployment, or a function in their place."""

from collections.abc import Callable
from typing import Any

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.bounds import shown
from flowcraft_server.llm.calls import ModelReply, ModelRequest
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.provider import Provider


class FunctionProvider(Provider):
    """A provider whose replies a function gives. They cost nothing.

    Args:
        reply: takes the prompt, gives the reply.
    """

    scripted = True

    def __init__(self, reply: Callable[[str], str]) -> None:
        super().__init__("test", "test")
        self._reply = reply

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        """Give the function's reply to the prompt.

        Raises:
            ConfigurationError: it is no text.
        """
        reply = self._reply(request.prompt)
        if not isinstance(reply, str):
            raise ConfigurationError(f"models: the function gives the reply as a text, got {shown(reply)}")
        return ModelReply(reply, self.model)

    async def acall(self, request: ModelRequest) -> ModelReply:
        """As `call`."""
        return self.call(request)


def as_models(models: Any) -> Any:
    """The models that a worker takes.

    Args:
        models: those, a function from prompts to replies, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if models is None or hasattr(models, "for_handler"):
        return models
    if not callable(models):
        raise ConfigurationError(
            f"models is a function from prompts to replies, or a LanguageModels, got {shown(models)}"
        )
    return LanguageModels({"test": FunctionProvider(models)})
