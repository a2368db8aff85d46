"""What goes to a language model and what comes back, as records that can be stored as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk.protocol.usage_sums import MOST_TOKENS

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: `system`, `user` or `assistant`.
        text: What it says.
    """

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of a call, as the provider counts them.

    Attributes:
        input_tokens: Tokens that were sent, the cached ones too.
        cached_tokens: Tokens of the input that the provider had in its cache.
        output_tokens: Tokens of the reply, those of reasoning too.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        """Count what is no number of tokens as 0: of providers, and of libraries that read their replies."""
        for name in ("input_tokens", "cached_tokens", "output_tokens"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MOST_TOKENS:
                object.__setattr__(self, name, 0)
        object.__setattr__(self, "cached_tokens", min(self.cached_tokens, self.input_tokens))

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A call to a language model.

    Attributes:
        messages: The conversation, oldest message first.
        model: Name of the model; None for the provider's own.
        settings: `temperature` and `max_tokens`, as far as they are set.
        output_schema: JSON Schema that the reply's text has to fit, for models that can be held to one.
        idempotency_key: The same for each repetition of the call, for providers that take one; no part of what is asked.
        also_asked: What is asked besides, in a form that differs between two requests: of agents all settings and tools.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    idempotency_key: str = ""
    also_asked: str = ""

    @classmethod
    def of_prompt(
        cls,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> "ModelRequest":
        """The request that the arguments of `ctx.llm.complete` stand for."""
        messages = [Message("system", system)] if system else []
        settings = {"temperature": temperature, "max_tokens": max_tokens}
        return cls(
            (*messages, Message("user", prompt)),
            model,
            {name: value for name, value in settings.items() if value is not None},
            schema,
        )

    @property
    def prompt(self) -> str:
        """The text of the last message of the user; empty if there is none."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    def to_json(self) -> JSON:
        """The request as a JSON value."""
        return {
            "messages": [{"role": message.role, "text": message.text} for message in self.messages],
            "model": self.model,
            "settings": dict(self.settings),
            "outputSchema": None if self.output_schema is None else dict(self.output_schema),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ModelRequest":
        """The request that `to_json` gave."""
        messages: Sequence[Mapping[str, str]] = value["messages"]
        return cls(
            tuple(Message(each["role"], each["text"]) for each in messages),
            value["model"],
            value["settings"],
            value["outputSchema"],
        )


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a language model answered.

    Attributes:
        text: The reply.
        model: Name of the model that answered, as the provider gives it.
        usage: Tokens of the call; zeros where the provider counts none.
        finish_reason: Why the model stopped: `stop`, `length`, ...
        latency_ms: From sending the request to the whole reply; of the call that succeeded, if it was repeated.
        request_id: The provider's id of the request, for its support; empty if it gives none.
        from_cache: Whether the cache of replies has given it.
    """

    text: str
    model: str = ""
    usage: TokenUsage = field(default_factory=TokenUsage)
    finish_reason: str = "stop"
    latency_ms: int = 0
    request_id: str = ""
    from_cache: bool = False

    def to_json(self) -> JSON:
        """The reply as a JSON value."""
        usage = self.usage
        return {
            "text": self.text,
            "model": self.model,
            "usage": {"input": usage.input_tokens, "cached": usage.cached_tokens, "output": usage.output_tokens},
            "finishReason": self.finish_reason,
            "latencyMs": self.latency_ms,
            "requestId": self.request_id,
            **({"fromCache": True} if self.from_cache else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ModelReply":
        """The reply that `to_json` gave."""
        usage = value["usage"]
        return cls(
            value["text"],
            value["model"],
            TokenUsage(usage["input"], usage["cached"], usage["output"]),
            value["finishReason"],
            value["latencyMs"],
            value["requestId"],
            bool(value.get("fromCache")),
        )
