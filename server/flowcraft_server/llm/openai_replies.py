"""Reads chat completions that the `openai` client returns."""

from collections.abc import Mapping
from typing import Any

from .calls import ModelReply, TokenUsage
from .errors import LLMReplyError
from .openai_failures import quoted


def model_reply(completion: Any, *, provider: str, model: str, latency_ms: int) -> ModelReply:
    """The reply in a chat completion.

    Args:
        completion: What the client returned.
        provider: the provider's name, for messages.
        model: the model that was asked, if the completion names none.
        latency_ms: how long the call took.

    Raises:
        LLMReplyError: there is no text; the message says what was there instead.
    """
    try:
        choice = completion.choices[0]
        text = choice.message.content
    except (AttributeError, IndexError, TypeError):
        # A body that is not JSON, or JSON of another shape, passes through the client unchecked.
        raise LLMReplyError(
            f"llm.providers.{provider}: the answer is not a chat completion: {quoted(str(completion))}",
            provider=provider,
        ) from None
    if not isinstance(text, str):
        refusal = getattr(choice.message, "refusal", None)
        reason = f"refused: {quoted(str(refusal))}" if refusal else f"finish_reason {choice.finish_reason!r}"
        raise LLMReplyError(f"llm.providers.{provider}: the answer holds no text ({reason})", provider=provider)
    return ModelReply(
        text,
        text_in(getattr(completion, "model", None)) or model,
        _usage(getattr(completion, "usage", None)),
        text_in(getattr(choice, "finish_reason", None)),
        latency_ms,
        text_in(getattr(completion, "_request_id", None)),
    )


def usage_in(usage: Mapping[str, Any]) -> TokenUsage:
    """The tokens that a `usage` object counts, as JSON; what is no count is none."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens", 0) if isinstance(details, dict) else 0
    return TokenUsage(usage.get("prompt_tokens", 0), cached, usage.get("completion_tokens", 0))


def _usage(usage: Any) -> TokenUsage:
    cached = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", 0)
    return TokenUsage(getattr(usage, "prompt_tokens", 0), cached, getattr(usage, "completion_tokens", 0))


def text_in(value: Any) -> str:
    """A short text of the provider's; empty if it is none."""
    return value[:200] if isinstance(value, str) else ""
