"""Calls of models as steps: a reply that is recorded is not paid for again."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from flowcraft_sdk.protocol.usage_sums import NANO
from flowcraft_server.engine.step import Step
from flowcraft_server.engine.steps import AttemptSteps
from flowcraft_server.llm.calls import ModelReply, ModelRequest, TokenUsage
from flowcraft_server.llm.layers import AsyncCall, Call
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.provider import Provider
from flowcraft_server.observability.redaction import Redactor

MOST_PREPARED = 1_000
LONGEST_TEXT = 2_000
"""Characters of a prompt and of a reply that the history keeps."""


class CallDetails:
    """What is kept of calls beside their replies, and shown in the history of the run.

    Args:
        redactor: masks what is not to be shown.
    """

    def __init__(self, models: LanguageModels, redactor: Redactor) -> None:
        self._models = models
        self._redactor = redactor
        self._prepared: set[tuple[str, str]] = set()

    def needs_preparing(self, provider: Provider, request: ModelRequest) -> bool:
        """Whether `prepare` is to be called before a reply is paid for."""
        return (provider.name, request.model or "") not in self._prepared

    def prepare(self, provider: Provider, request: ModelRequest) -> None:
        """Load the prices now: that takes up to a second, and a worker that is killed between a reply and its record has paid."""
        self._models.price_of(provider, request.model or "", TokenUsage())
        if len(self._prepared) < MOST_PREPARED:
            self._prepared.add((provider.name, request.model or ""))

    def of(self, provider: Provider, request: ModelRequest, value: Mapping[str, Any]) -> dict[str, Any]:
        """The model, its tokens, price and time, why it has ended, and the texts, as `llm.record` says.

        Args:
            value: the reply as a JSON value.
        """
        reply = ModelReply.from_json(value)
        nano_usd = 0 if reply.from_cache else self._models.price_of(provider, request.model or "", reply.usage)
        details = {
            "provider": provider.name,
            "model": reply.model,
            **value["usage"],
            "usd": None if nano_usd is None else nano_usd / NANO,
            "ms": reply.latency_ms,
            "finishReason": reply.finish_reason,
            **({"fromCache": True} if reply.from_cache else {}),
        }
        if self._models.record == "off":
            return details
        return details | {"prompt": self._shown(request.prompt), "reply": self._shown(reply.text)}

    def _shown(self, text: str) -> str:
        clipped = self._redactor.clip(text, LONGEST_TEXT)
        return self._redactor.clean_named(clipped) if self._models.record == "redacted" else clipped


class RecordedCalls:
    """Records the replies of models in an attempt, and answers its further attempts from them.

    A reply answers the same request alone: a handler that asks for something else, or in another order, asks the model.

    Args:
        steps: gives the steps of the attempt, which most attempts have none of.
        details: what is kept of a call beside its reply, and shown in the history.
    """

    records = True

    def __init__(self, steps: Callable[[], AttemptSteps], details: CallDetails) -> None:
        self._steps = steps
        self._details = details

    def details(self, provider: Provider, request: ModelRequest, reply: ModelReply) -> dict[str, Any]:
        """What is kept beside a reply that another records."""
        return self._details.of(provider, request, reply.to_json())

    def call(self, provider: Provider, request: ModelRequest, further: Call) -> ModelReply:
        """Answer a request in the thread of a plain function."""
        step = self._begin(provider, request)

        def execute() -> Any:
            if self._details.needs_preparing(provider, request):
                self._details.prepare(provider, request)
            # Only now: which replies were of no use is known once the step was looked up.
            return further(replace(request, idempotency_key=step.idempotency_key)).to_json()

        return ModelReply.from_json(step.run(execute, partial(self._details.of, provider, request)))

    async def acall(self, provider: Provider, request: ModelRequest, further: AsyncCall) -> ModelReply:
        """The same on an event loop."""
        step = self._begin(provider, request)

        async def execute() -> Any:
            if self._details.needs_preparing(provider, request):
                await asyncio.to_thread(self._details.prepare, provider, request)
            return (await further(replace(request, idempotency_key=step.idempotency_key))).to_json()

        return ModelReply.from_json(await step.arun(execute, partial(self._details.of, provider, request)))

    def _begin(self, provider: Provider, request: ModelRequest) -> Step:
        return self._steps().begin(f"model:{provider.name}"[:200], "model", digest(request))


def digest(request: ModelRequest) -> str:
    """A text by which a request is known from others."""
    text = json.dumps(request.to_json(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
