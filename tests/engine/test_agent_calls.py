"""Tool calls of agents that models name alike, and agents with tools below a `map`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, handler
from flowcraft_server.llm import LanguageModels
from flowcraft_server.llm.openai_compatible import Endpoint, OpenAICompatible
from flowcraft_server.testing import TestEnvironment
from tests.engine.test_agents import Query, calls
from tests.unit.llm.chat_server import Answer, chat_server, reply

pytest.importorskip("pydantic_ai.models.openai")  # now, and not on the event loop of a test that waits for it

Make = Callable[..., TestEnvironment]


@handler(arguments=Query)
def search(ctx: NodeContext) -> str:
    """Search."""
    return f"found {ctx.input['text']}"


def with_ids(answer: Answer, *ids: str) -> Answer:
    """The answer with these ids of its calls."""
    body = json.loads(answer.body)
    for call, call_id in zip(body["choices"][0]["message"]["tool_calls"], ids, strict=True):
        call["id"] = call_id
    return Answer(body=json.dumps(body))


def test_calls_to_which_a_model_gives_one_id_get_ids_of_their_own(environment: Make) -> None:
    asked = with_ids(calls(*[("search", {"text": text}) for text in "abcd"]), "x", "x", "x_2", "x")
    agent = {"id": "a", "uses": "agent", "inputs": "question", "params": {"tools": ["search"]}}
    with chat_server(asked, reply("done")) as server:
        models = LanguageModels({"main": OpenAICompatible("main", Endpoint(server.url, "key", "test"))})
        env = environment(
            blueprints={"id": "asks", "nodes": [agent], "edges": []}, handlers={"search": search}, models=models
        )
        handle = env.client.start("asks", {"question": "q"})
        assert handle.result(timeout=60)["a"] == "done"
        assert {name for name in handle.describe().nodes if name != "a"} == {
            f"a-search-{number}" for number in range(1, 5)
        }
        _, called, *results = server.requests[1]["messages"]
    ids = [call["id"] for call in called["tool_calls"]]
    assert ids == ["x", "x_3", "x_2", "x_4"]
    assert [(each["tool_call_id"], each["content"]) for each in results] == [
        (call_id, f"found {text}") for call_id, text in zip(ids, "abcd", strict=True)
    ]


@pytest.mark.parametrize("partitions", [1, 16])
def test_a_map_calls_a_blueprint_whose_agent_has_tools(environment: Make, partitions: int) -> None:
    blueprints: list[dict[str, Any]] = [
        {
            "id": "one",
            "nodes": [{"id": "a", "uses": "agent", "inputs": "question", "params": {"tools": ["search"]}}],
            "edges": [],
        },
        {
            "id": "all",
            "nodes": [
                {
                    "id": "each",
                    "uses": "map",
                    "inputs": "questions",
                    "params": {"call": "one", "inputs": {"question": "item"}},
                }
            ],
            "edges": [],
        },
    ]

    def model(prompt: str) -> str:
        what, _, name = prompt.partition(" ")
        return f"It is {name}." if what == "found" else json.dumps({"tool": "search", "arguments": {"text": name}})

    env = environment(blueprints=blueprints, handlers={"search": search}, models=model, partitions=partitions)
    handle = env.client.start("all", {"questions": ["ask ada", "ask bob", "ask eve"]})
    assert handle.result(timeout=60)["each"] == ["It is ada.", "It is bob.", "It is eve."]
