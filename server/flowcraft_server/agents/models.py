"""The models of agents: the providers of a deployment, as handlers have them, and those that pydantic-ai knows by name."""

import json
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_core import to_json

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.llm.call_gate import expected_tokens, falls_back
from flowcraft_server.llm.calls import Message, ModelReply, ModelRequest, TokenUsage
from flowcraft_server.llm.errors import LLMError, LLMSettingsError
from flowcraft_server.llm.layers import AsyncHandlerModel
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.openai_compatible import OpenAICompatible
from flowcraft_server.llm.provider import Provider
from flowcraft_server.llm.provider_calls import ProviderCalls

from .named_failures import failure_of_named
from .streamed import StreamedModel

_RESPONSE = TypeAdapter(ModelResponse)
T = TypeVar("T")


@dataclass(slots=True)
class StepOfCall:
    """The step that a request is made in.

    Attributes:
        key: The same for each repetition of the request.
        details: What is kept beside the answer.
    """

    key: str
    details: dict[str, Any] = field(default_factory=dict)


step_of_call: ContextVar[StepOfCall | None] = ContextVar("flowcraft_step_of_call", default=None)

_PASSING = ("timestamp", "run_id", "conversation_id", "metadata", "usage", "provider_response_id", "id")
"""What differs from one run to the next though the conversation is the same."""


async def chosen_model(
    names: Sequence[str | None], models: LanguageModels | None, llm: Any, *, streams: bool = False
) -> Model:
    """The model of an agent; of several names a model that falls back from one to the next.

    Args:
        names: providers of `llm.providers`, or `provider:model`; None for the deployment's own.
        models: the deployment's providers.
        llm: the `ctx.llm` of the handler, whose layers stand around each call.
        streams: whether clients that follow the node get the text of replies as it comes.

    Raises:
        LLMSettingsError: there is no such provider, or what it needs is not installed or set.
    """
    found = [await _model(name, models, llm, streams) for name in names]
    for model in found[:-1]:
        model.is_followed = True
    if len(found) == 1:
        return found[0]
    return FallbackModel(found[0], *found[1:], fallback_on=_is_of_a_model)


def _is_of_a_model(error: Exception) -> bool:
    """Whether another model may do better: not where a budget is used up, or code is wrong."""
    return isinstance(error, LLMError | ModelAPIError)


async def _model(name: str | None, models: LanguageModels | None, llm: Any, streams: bool) -> "_OfProvider":
    if name is not None and ":" in name:
        model = inferred(name)
        configured = {} if models is None else {provider.name: provider for provider in models.providers}
        like = configured.get(name.partition(":")[0]) or configured.get(model.system)
        return _OfProvider(model, NamedProvider(model, like), llm)
    if models is None:
        raise LLMSettingsError("no language model is configured: add one to llm.providers in flowcraft.yaml")
    provider = models.default if name is None else models.get(name)
    model = await _of_endpoint(provider) if isinstance(provider, OpenAICompatible) else _of_replies(provider)
    return _OfProvider(_streamed(model, llm) if streams else model, provider, llm)


def _streamed(model: Model, llm: Any) -> Model:
    return StreamedModel(model, llm.begin_shown) if isinstance(llm, AsyncHandlerModel) else model


def inferred(name: str) -> Model:
    """The model that pydantic-ai knows by a name such as `openai:gpt-4`. No call is made.

    Raises:
        LLMSettingsError: there is none, or what it needs is not installed or set.
    """
    try:
        return infer_model(name)
    except ImportError as error:
        raise LLMSettingsError(f"model '{name}': {' '.join(str(error).split())}") from None
    except Exception as error:  # of the provider's package: a key that is not set, a name that is not known
        raise LLMSettingsError(f"model '{name}': {' '.join(str(error).split())[:500]}") from error


async def _of_endpoint(provider: OpenAICompatible) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = await provider.client_of_loop()
    return OpenAIChatModel(provider.model, provider=OpenAIProvider(openai_client=client))


def _of_replies(provider: Provider) -> Model:
    """A model of a provider that answers with text alone, as scripted ones do.

    A reply `{"tool": NAME, "arguments": {...}}` calls a tool that the agent has; one that is a JSON object is its output, if that
    has a schema. What is looked at is what came last: the prompt, or the results of tools.
    """

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        reply = await provider.acall(
            provider.resolved(ModelRequest.of_prompt(_latest(messages), system=info.instructions))
        )
        return ModelResponse(parts=[_part(reply.text, info)], model_name=reply.model)

    return FunctionModel(answer, model_name=provider.model or provider.name)


def _part(text: str, info: AgentInfo) -> TextPart | ToolCallPart:
    try:
        value = json.loads(text)
    except ValueError:
        return TextPart(text)
    if isinstance(value, dict) and value.get("tool") in {tool.name for tool in info.function_tools}:
        return ToolCallPart(value["tool"], value.get("arguments") or {})
    if isinstance(value, dict) and info.output_tools:
        return ToolCallPart(info.output_tools[0].name, value)
    return TextPart(text)


def _latest(messages: Sequence[ModelMessage]) -> str:
    """The text of what came last."""
    texts = []
    for part in messages[-1].parts:
        if isinstance(part, ToolReturnPart):
            texts.append(part.model_response_str())
        elif isinstance(part, UserPromptPart):
            texts.append(part.content if isinstance(part.content, str) else str(part.content))
    return "\n".join(texts)


class NamedProvider(Provider):
    """Stands for the provider of a model of pydantic-ai, for budgets, prices and limits. The model itself is asked.

    Args:
        model: the model.
        configured: the provider of `llm.providers` whose limits and retries hold for its calls; None for none.
    """

    def __init__(self, model: Model, configured: Provider | None = None) -> None:
        super().__init__(model.system, model.model_name, model.base_url or "")
        self._calls: ProviderCalls | None = None
        if isinstance(configured, OpenAICompatible):
            self._calls = replace(configured.calls, failure_of=partial(failure_of_named, configured.name))

    async def make(self, call: Callable[[], Awaitable[T]], expected: int, used: Callable[[T], int]) -> T:
        """Make a call within the limits that are configured, and repeat it as is configured, if anything is.

        Args:
            call: makes it.
            expected: tokens that it is expected to use.
            used: gives the tokens that it has used.
        """
        if self._calls is None:
            return await call()
        return await self._calls.make(call, self.model, expected=expected, used=used)

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        """Raise LLMSettingsError."""
        raise LLMSettingsError(f"the provider {self.name} is asked through pydantic-ai")

    async def acall(self, request: ModelRequest) -> ModelReply:
        """Raise LLMSettingsError."""
        return self.call(request)


async def counted(model: Model, llm: Any, cache_key: tuple[Any, ...], body: Callable[[], Awaitable[object]]) -> object:
    """Ask a model within what stands around the calls of `ctx.llm`: budgets, and the count of what is used.

    Args:
        model: the model.
        llm: the `ctx.llm` of the handler.
        cache_key: model, messages, settings and parameters of the request.
        body: asks the model; gives its response as JSON.
    """
    if not isinstance(llm, AsyncHandlerModel):
        return await body()

    async def ask(_request: ModelRequest) -> ModelReply:
        since = clock()
        answer = await provider.make(
            body, _expected_tokens(request), lambda each: _tokens_of(_RESPONSE.validate_python(each))
        )
        response = _RESPONSE.validate_python(answer)
        return _noted(llm, provider, messages, response, round((clock() - since) * 1000))

    _, messages, settings, parameters, *_ = cache_key
    provider = NamedProvider(model, llm.providers.get(model.system))
    request = _request(messages, model.model_name, settings, parameters)
    return _RESPONSE.dump_python(
        _RESPONSE.validate_json((await llm.around(provider, request, ask, recorded=False)).text),
        mode="json",
    )


class _OfProvider(WrapperModel):
    """A model whose calls go through what stands around the calls of `ctx.llm`, and are made as its provider makes them.

    Attributes:
        is_followed: whether another model is asked if this one cannot be.
    """

    def __init__(self, wrapped: Model, provider: Provider, llm: Any) -> None:
        super().__init__(wrapped)
        self._asked = provider
        self._llm = llm if isinstance(llm, AsyncHandlerModel) else AsyncHandlerModel(provider)
        self.is_followed = False

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask the provider. Inside of the layers the answer is JSON in the place of a reply's text."""
        was_asked = False

        async def ask(request: ModelRequest) -> ModelReply:
            nonlocal was_asked
            was_asked, since = True, clock()
            settings = self._keyed(model_settings, request.idempotency_key)
            response = await self._sent(
                lambda: self.wrapped.request(messages, settings, model_request_parameters), _expected_tokens(request)
            )
            return _noted(self._llm, self._asked, messages, response, round((clock() - since) * 1000))

        request = _request(messages, self._asked.model, model_settings, model_request_parameters)
        token = falls_back.set(self.is_followed)
        try:
            reply = await self._llm.around(self._asked, request, ask, recorded=False)
        finally:
            falls_back.reset(token)
        response = _RESPONSE.validate_json(reply.text)
        if not was_asked:  # the cache has answered
            _note(self._llm, self._asked, messages, response, reply)
            if isinstance(self.wrapped, StreamedModel):
                self.wrapped.show(response)
        return response

    def _keyed(self, settings: ModelSettings | None, key: str) -> ModelSettings | None:
        """The settings with the key by which the provider knows a repetition of the call, if it takes one."""
        if not key or not isinstance(self._asked, OpenAICompatible):
            return settings
        known = dict((settings or {}).get("extra_headers") or {})
        return ModelSettings(**{**(settings or {}), "extra_headers": {**known, "Idempotency-Key": key}})

    async def _sent(self, call: Callable[[], Awaitable[ModelResponse]], expected: int) -> ModelResponse:
        if isinstance(self._asked, OpenAICompatible):
            return await self._asked.arun(call, expected=expected, used=_tokens_of)
        if isinstance(self._asked, NamedProvider):
            return await self._asked.make(call, expected, _tokens_of)
        return await call()


def _expected_tokens(request: ModelRequest) -> int:
    """What a request may use, by the length of its messages and of the schemas of its tools."""
    texts = [message.text for message in request.messages]
    if tools := request.settings.get("tools"):
        texts.append(json.dumps(tools, default=str))
    return expected_tokens(texts, request.settings.get("max_tokens"))


def _tokens_of(response: ModelResponse) -> int:
    used = response.usage
    return TokenUsage(used.input_tokens, used.cache_read_tokens, used.output_tokens).tokens


def _noted(
    llm: AsyncHandlerModel, provider: Provider, messages: list[ModelMessage], response: ModelResponse, latency_ms: int
) -> ModelReply:
    """The reply as the layers know it; what is to be seen of it is kept beside its step."""
    reply = _reply(response, latency_ms)
    _note(llm, provider, messages, response, reply)
    return reply


def _note(
    llm: AsyncHandlerModel,
    provider: Provider,
    messages: list[ModelMessage],
    response: ModelResponse,
    reply: ModelReply,
) -> None:
    step = step_of_call.get()
    if step is not None:
        seen = ModelRequest.of_prompt(_latest(messages), model=provider.model or None)
        step.details.update(llm.details(provider, seen, replace(reply, text=_seen(response))))


def _seen(response: ModelResponse) -> str:
    """What a person is shown of a response: its text, and the calls of tools."""
    return "\n".join(
        part.content if isinstance(part, TextPart) else f"{part.tool_name}({part.args_as_json_str()})"
        for part in response.parts
        if isinstance(part, TextPart | ToolCallPart)
    )


def _reply(response: ModelResponse, latency_ms: int) -> ModelReply:
    used = response.usage
    return ModelReply(
        _RESPONSE.dump_json(response).decode(),
        response.model_name or "",
        TokenUsage(used.input_tokens, used.cache_read_tokens, used.output_tokens),
        str(response.finish_reason or "stop"),
        latency_ms,
        response.provider_response_id or "",
    )


def _request(
    messages: list[ModelMessage], model: str, settings: ModelSettings | None, parameters: ModelRequestParameters
) -> ModelRequest:
    """What is asked, in the form that the layers know: each message of the conversation as JSON."""
    plain = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    sent = [
        Message("user" if message["kind"] == "request" else "assistant", json.dumps(_lasting(message), sort_keys=True))
        for message in plain
    ]
    tools = [
        {"name": tool.name, "arguments": tool.parameters_json_schema}
        for tool in (*parameters.function_tools, *parameters.output_tools)
    ]
    known = {name: value for name, value in (settings or {}).items() if name in ("temperature", "max_tokens")}
    return ModelRequest(
        tuple(sent),
        model,
        {**known, "tools": tools} if tools else known,
        idempotency_key=step.key if (step := step_of_call.get()) is not None else "",
        also_asked=to_json([settings, parameters], fallback=repr).decode(),
    )


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in _PASSING and each is not None}
    return [_lasting(each) for each in value] if isinstance(value, list) else value
