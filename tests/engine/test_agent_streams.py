"""What the model of an agent writes is streamed to clients that follow the node."""

import json
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from flowcraft_sdk import NodeStatus, StreamEnded, StreamItem, StreamText, handler
from flowcraft_server.llm import Endpoint, LanguageModels, OpenAICompatible, RetryPolicy
from flowcraft_server.testing import TestEnvironment
from tests.engine.test_streams import text_of
from tests.unit.llm.stream_server import DONE, USAGE, Step, StreamServer, chunk, event, stream_server

FLOW = """\
inputs: {question: string}
nodes:
  ask: {uses: agent, inputs: question, params: {stream: true, tools: [look]}, config: {maxRetries: 1}}
"""


class Place(BaseModel):
    place: str


@handler(arguments=Place)
def look(ctx: Any) -> str:
    return f"looked at {ctx.input['place']}"


def call_of_tool() -> list[Step]:
    call = {
        "index": 0,
        "id": "call-1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"place": "shelf 4"}'},
    }
    choice = {"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}, "finish_reason": None}
    return [
        chunk("I look. "),
        event(json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice]})),
        chunk(None, "tool_calls"),
        DONE,
    ]


def environment(server: StreamServer) -> TestEnvironment:
    endpoint = Endpoint(server.url, "key", "small", retries=RetryPolicy(max_attempts=1))
    models = LanguageModels({"main": OpenAICompatible("main", endpoint)})
    return TestEnvironment(blueprints={"ask": FLOW}, handlers={"look": look}, models=models)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_text_comes_while_the_model_writes_and_after_a_tool() -> None:
    answer: list[Step] = [chunk("It is "), "hold", chunk("on shelf 4."), chunk(None, "stop"), USAGE, DONE]
    with stream_server(call_of_tool(), answer) as server, environment(server) as env:
        handle = env.client.start("ask", {"question": "Where is it?"})
        items: list[StreamItem] = []
        for item in handle.stream("ask", timeout=60):
            items.append(item)
            if text_of(items).endswith("It is "):
                threading.Thread(target=server.go_on).start()
        assert text_of(items).endswith("It is on shelf 4.")
        assert isinstance(items[-1], StreamEnded)
        assert items[-1].status is NodeStatus.COMPLETED
        assert handle.wait(timeout=30).nodes["ask"].output == "It is on shelf 4."
    assert all(request["stream"] for request in server.requests)
    assert len(server.requests) == 2


def test_a_reply_that_breaks_off_fails_the_agent() -> None:
    with stream_server([chunk("It is ")]) as server, environment(server) as env:
        handle = env.client.start("ask", {"question": "Where is it?"})
        items = list(handle.stream("ask", timeout=60))
        assert [item.text for item in items if isinstance(item, StreamText)] == ["It is "]
        assert isinstance(items[-1], StreamEnded)
        assert items[-1].status is NodeStatus.FAILED
        (failure,) = handle.wait(timeout=30).failures
        assert failure.type.endswith("LLMUnreachable")
