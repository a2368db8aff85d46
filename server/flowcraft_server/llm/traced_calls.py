"""A span around each call to a model, with the attributes that OpenTelemetry's conventions for generative models name."""

from typing import TYPE_CHECKING, Any

from .calls import ModelReply, ModelRequest
from .layers import AsyncCall, Call
from .provider import Provider

if TYPE_CHECKING:
    from flowcraft_server.observability.tracing import NodeSpan, Tracing

_SETTINGS = {"temperature": "gen_ai.request.temperature", "max_tokens": "gen_ai.request.max_tokens"}


class TracedCalls:
    """A layer around the model calls of an attempt. Prompts and replies are not part of a span.

    Args:
        tracing: makes the spans.
        above: the span of the attempt.
    """

    def __init__(self, tracing: "Tracing", above: "NodeSpan") -> None:
        self._tracing = tracing
        self._above = above

    def call(self, provider: Provider, request: ModelRequest, further: Call) -> ModelReply:
        """See `CallLayer`."""
        with self._tracing.model_span(self._above, *_about(provider, request)) as span:
            reply = further(request)
            span.set_attributes(_answered(reply))
            return reply

    async def acall(self, provider: Provider, request: ModelRequest, further: AsyncCall) -> ModelReply:
        """See `CallLayer`."""
        with self._tracing.model_span(self._above, *_about(provider, request)) as span:
            reply = await further(request)
            span.set_attributes(_answered(reply))
            return reply


def _about(provider: Provider, request: ModelRequest) -> tuple[str, dict[str, Any]]:
    attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider.name}
    if request.model:
        attributes["gen_ai.request.model"] = request.model
    attributes |= {_SETTINGS[name]: value for name, value in request.settings.items() if name in _SETTINGS}
    return f"chat {request.model or provider.name}", attributes


def _answered(reply: ModelReply) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.usage.input_tokens": reply.usage.input_tokens,
        "gen_ai.usage.output_tokens": reply.usage.output_tokens,
        "gen_ai.response.finish_reasons": (reply.finish_reason,),
    }
    if reply.model:
        attributes["gen_ai.response.model"] = reply.model
    if reply.request_id:
        attributes["gen_ai.response.id"] = reply.request_id
    return attributes
