import asyncio
import json
from typing import Any

import pytest

from flowcraft_server.llm import (
    AsyncHandlerModel,
    Endpoint,
    HandlerModel,
    Message,
    ModelReply,
    ModelRequest,
    OpenAICompatible,
    Provider,
    TokenUsage,
)
from tests.unit.llm.chat_server import Answer, chat_server


def completion(text: str, **fields: Any) -> Answer:
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"index": 0, "finish_reason": "length", "message": message}], "model": "big-2", **fields}
    return Answer(body=json.dumps(body), headers={"x-request-id": "req-7"})


def ask(answer: Answer, request: ModelRequest) -> tuple[ModelReply, dict[str, Any]]:
    with chat_server(answer) as server:
        provider = OpenAICompatible("main", Endpoint(server.url, "key", "big"))
        replies = [provider.call(request), asyncio.run(provider.acall(request))]
        provider.close()
    assert replies[0].usage == replies[1].usage
    return replies[0], server.requests[0]


def test_request_and_reply_survive_json() -> None:
    schema = {"type": "object"}
    request = ModelRequest((Message("system", "s"), Message("user", "ü")), "m", {"temperature": 0.5}, schema)
    reply = ModelReply("text", "m", TokenUsage(10, 4, 3), "stop", 12, "req")
    assert ModelRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert ModelReply.from_json(json.loads(json.dumps(reply.to_json()))) == reply
    assert reply.usage.tokens == 13


def test_a_reply_has_usage_model_and_the_id_of_its_request() -> None:
    usage = {"prompt_tokens": 120, "completion_tokens": 30, "prompt_tokens_details": {"cached_tokens": 100}}
    reply, sent = ask(completion("hi", usage=usage), ModelRequest.of_prompt("hello", max_tokens=9))
    assert (reply.text, reply.model, reply.finish_reason, reply.request_id) == ("hi", "big-2", "length", "req-7")
    assert reply.usage == TokenUsage(120, 100, 30)
    assert reply.latency_ms >= 0
    assert sent == {"model": "big", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": "7"}, {"prompt_tokens": -1}, {"prompt_tokens": 1e99}]
)
def test_usage_that_is_none_counts_nothing(usage: Any) -> None:
    assert ask(completion("hi", usage=usage), ModelRequest.of_prompt("hello"))[0].usage == TokenUsage()


def test_a_schema_for_the_reply_goes_to_the_endpoint() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    sent = ask(completion("{}"), ModelRequest((Message("user", "p"),), output_schema=schema))[1]
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "strict": True, "schema": schema},
    }


class Echo(Provider):
    def __init__(self) -> None:
        super().__init__("echo", "own")

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        return ModelReply(f"{request.model}: {request.prompt}, {deadline}")

    async def acall(self, request: ModelRequest) -> ModelReply:
        return self.call(request)


class Noting:
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def call(self, provider: Provider, request: ModelRequest, further: Any) -> ModelReply:
        self.notes += [f"{self.name} in", str(request.model)]
        reply: ModelReply = further(request)
        self.notes.append(f"{self.name} out")
        return reply

    async def acall(self, provider: Provider, request: ModelRequest, further: Any) -> ModelReply:
        self.notes += [f"{self.name} in", str(request.model)]
        reply: ModelReply = await further(request)
        self.notes.append(f"{self.name} out")
        return reply


def test_layers_stand_around_a_call_in_functions_and_coroutines() -> None:
    notes: list[str] = []
    layers = [Noting("a", notes), Noting("b", notes)]
    assert HandlerModel(Echo(), layers, 5.0).complete("hi") == "own: hi, 5.0"
    assert asyncio.run(AsyncHandlerModel(Echo(), layers).complete("hi", model="m")) == "m: hi, None"
    once = ["a in", "own", "b in", "own", "b out", "a out"]
    assert notes == once + [each.replace("own", "m") for each in once]


@pytest.mark.parametrize("value", [-1, 10**12 + 1, 1.5, True, "7", None, float("nan")])
def test_what_is_no_number_of_tokens_counts_as_none_whoever_says_it(value: Any) -> None:
    assert TokenUsage(value, 0, 3) == TokenUsage(0, 0, 3)
    assert TokenUsage(5, value, 3) == TokenUsage(5, 0, 3)
    assert TokenUsage(5, 9, value) == TokenUsage(5, 5, 0)
