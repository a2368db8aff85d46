"""Models of agents whose text is streamed to clients that follow the node."""

from collections.abc import Callable

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from flowcraft_server.llm.errors import LLMUnreachable


class StreamedModel(WrapperModel):
    """A model that is asked for its reply piece by piece, and gives it as a whole.

    Args:
        wrapped: the model.
        begin: called as a reply begins; gives what its pieces go to.
    """

    def __init__(self, wrapped: Model, begin: Callable[[], Callable[[str], None]]) -> None:
        super().__init__(wrapped)
        self._begin = begin

    def show(self, response: ModelResponse) -> None:
        """Give the texts of a whole reply to the clients, as a piece each."""
        for part in response.parts:
            if isinstance(part, TextPart):
                self._begin()(part.content)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask the model.

        Raises:
            LLMUnreachable: the reply broke off.
        """
        if isinstance(self.wrapped, FunctionModel):  # of a provider that has no pieces
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
            self.show(response)
            return response
        show: Callable[[str], None] | None = None
        async with self.wrapped.request_stream(messages, model_settings, model_request_parameters) as stream:
            async for event in stream:
                if text := _text_in(event):
                    show = show or self._begin()
                    show(text)
            response = stream.get()
        # pydantic-ai takes a stream without a reason of its end for a whole reply; what the provider has sent is in the details.
        if response.finish_reason != "content_filter" and not (response.provider_details or {}).get("finish_reason"):
            raise LLMUnreachable(f"model {response.model_name}: the reply broke off")
        return response


def _text_in(event: ModelResponseStreamEvent) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""
