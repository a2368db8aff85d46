"""Agents on the real engine, asking a local server that speaks OpenAI's chat protocol."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic import BaseModel, Field

from flowcraft_sdk import NodeContext, RunFailedError, handler
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.openai_compatible import Endpoint, OpenAICompatible
from flowcraft_server.llm.retrying import RetryPolicy
from flowcraft_server.testing import TestEnvironment
from tests.unit.llm.chat_server import Answer, ChatServer, chat_server, refusal, reply

pytest.importorskip("pydantic_ai")

Make = Callable[..., TestEnvironment]


class Query(BaseModel):
    """What the tool takes."""

    text: str = Field(description="What to look for.")
    most: int = Field(default=3, ge=1)


def calls(*called: tuple[str, Any], text: str | None = None) -> Answer:
    """A chat completion that calls tools; arguments that are text are sent as they are."""
    tool_calls = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for number, (name, given) in enumerate(called)
    ]
    message = {"role": "assistant", "content": text, "tool_calls": tool_calls}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "test", "choices": [choice]}
    return Answer(body=json.dumps({**body, "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}))


Asking = Callable[..., tuple[TestEnvironment, ChatServer]]


@pytest.fixture
def asking(environment: Make) -> Iterator[Asking]:
    """Makes an environment with one agent and a server that gives these answers."""
    with ExitStack() as stack:

        def make(answers: list[Answer], params: dict[str, Any], **more: Any) -> tuple[TestEnvironment, ChatServer]:
            server = stack.enter_context(chat_server(*answers))
            endpoint = Endpoint(server.url, "key", "test", retries=RetryPolicy(max_attempts=2, initial=0.01))
            models = LanguageModels({"main": OpenAICompatible("main", endpoint)})
            node = {
                "id": "a",
                "uses": "agent",
                "inputs": "question",
                "params": params,
                "config": more.pop("config", {}),
            }
            blueprint = {
                "id": "asks",
                "nodes": [node, {"id": "after", "uses": "echo"}],
                "edges": [{"source": "a", "target": "after"}],
            }
            handlers = {"echo": lambda ctx: ctx.input, **more.pop("handlers", {})}
            return environment(blueprints=blueprint, handlers=handlers, models=models, **more), server

        yield make


def ask(env: TestEnvironment, question: Any = "Who?") -> Any:
    return env.client.start("asks", {"question": question}).result(timeout=60)["after"]


def roles(request: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(each["role"], each.get("content")) for each in request["messages"]]


def test_an_agent_without_tools_answers_its_input(asking: Asking) -> None:
    env, server = asking([reply("Ada")], {"instructions": "Answer {{ briefly }}.", "model": "main", "maxTokens": 9})
    assert ask(env, "Who wrote {{ it }} = 1?") == "Ada"
    (request,) = server.requests
    assert roles(request) == [("system", "Answer {{ briefly }}."), ("user", "Who wrote {{ it }} = 1?")]
    assert (request["model"], request.get("max_tokens") or request["max_completion_tokens"]) == ("test", 9)
    assert "tools" not in request


def test_tool_calls_are_nodes_whose_outputs_and_failures_the_model_gets(asking: Asking) -> None:
    given: list[Any] = []

    @handler(arguments=Query)
    def search(ctx: NodeContext) -> Any:
        """Search the web.

        Not shown.
        """
        given.append((ctx.node_id, ctx.input, dict(ctx.params), ctx.attempt))
        if ctx.input["text"] == "bad" or ctx.attempt < 2:
            raise ValueError("nothing found")
        return {"found": [ctx.input["text"]]}

    tool = {"handler": "search", "params": {"by": "title"}, "config": {"maxRetries": 2, "retryDelay": 0}}
    env, server = asking(
        [
            calls(("search", {"text": "= 1 + {{ x }}"}), ("search", {"text": "bad"})),
            calls(("search", {"text": "c"})),
            reply("done"),
        ],
        {"tools": [tool]},
        handlers={"search": search},
    )
    handle = env.client.start("asks", {"question": "q"})
    assert handle.result(timeout=60)["after"] == "done"
    first = server.requests[0]["tools"][0]["function"]
    assert (first["name"], first["description"]) == ("search", "Search the web.")
    assert first["parameters"]["properties"]["text"]["description"] == "What to look for."
    answered = {
        each["tool_call_id"]: each["content"] for each in server.requests[1]["messages"] if each["role"] == "tool"
    }
    assert answered == {"call_0": '{"found":["= 1 + {{ x }}"]}', "call_1": '{"error":"ValueError: nothing found"}'}
    nodes = handle.describe().nodes
    assert {name: node.status for name, node in nodes.items()} == {
        "a": "completed", "a-search-1": "completed", "a-search-2": "failed", "a-search-3": "completed", "after": "completed",
    }  # fmt: skip
    assert ("a-search-1", {"text": "= 1 + {{ x }}"}, {"by": "title"}, 2) in given
    assert len(server.requests) == 3


def test_arguments_that_do_not_fit_and_tools_that_are_not_there_are_answered_to_the_model(asking: Asking) -> None:
    given: list[Any] = []

    @handler(arguments=Query, description="Search.")
    def search(ctx: NodeContext) -> str:
        given.append(ctx.input)
        return "found"

    env, server = asking(
        [
            calls(("search", {"text": 3}), ("nowhere", {})),
            calls(("search", "{no json")),
            calls(("search", {"text": "x", "most": 2})),
            reply("done"),
        ],
        {"tools": ["search"]},
        handlers={"search": search},
    )
    assert ask(env) == "done"
    assert given == [{"text": "x", "most": 2}]
    first, second = (
        [each["content"] for each in server.requests[n]["messages"] if each["role"] == "tool"] for n in (1, 2)
    )
    assert "text: expected string, got 3" in first[0]
    assert "nowhere" in first[1] and "search" in first[1]
    assert "no JSON" in second[-1]


@pytest.mark.parametrize(
    ("answers", "params", "message"),
    [
        ([calls(("search", {"text": 3}))], {"maxRepairs": 1}, "exceeded"),
        ([calls(("search", {"text": "x"}))], {"maxSteps": 3}, "asked 3 times and has no output"),
        ([refusal(400, "no such model")], {}, "no such model"),
        ([refusal(401, "bad key")], {}, "was refused"),
        ([Answer(body="<html>")], {}, "unreadable answer"),
    ],
)
def test_what_a_model_does_wrong_fails_the_node(
    asking: Asking, answers: list[Answer], params: Any, message: str
) -> None:
    search = handler(arguments=Query)(lambda ctx: "found")
    env, server = asking(
        answers, {"tools": ["search"], **params}, handlers={"search": search}, config={"maxRetries": 1}
    )
    with pytest.raises(RunFailedError, match=message):
        ask(env)
    assert len(server.requests) <= 3


def test_a_provider_that_is_busy_is_asked_again_and_a_retry_keeps_what_was_answered(asking: Asking) -> None:
    search = handler(arguments=Query)(lambda ctx: "found")
    env, server = asking(
        [
            calls(("search", {"text": "x"})),
            refusal(503, "busy"),
            refusal(503, "busy"),
            refusal(429, "slow"),
            reply("done"),
        ],
        {"tools": ["search"]},
        handlers={"search": search},
        config={"maxRetries": 2, "retryDelay": 0},
    )
    handle = env.client.start("asks", {"question": "q"})
    assert handle.result(timeout=60)["after"] == "done"
    assert len(server.requests) == 5  # the first answer was not asked for again
    assert handle.describe().nodes["a"].attempts == 2


@pytest.mark.parametrize("doing", ["a tool call", "a model call"])
def test_a_worker_that_is_killed_repeats_no_call_that_was_answered(asking: Asking, doing: str) -> None:
    under_way, over = threading.Event(), threading.Event()
    ran: list[int] = []

    def hold() -> None:
        under_way.set()
        assert over.wait(60)

    @handler(arguments=Query)
    def search(ctx: NodeContext) -> str:
        ran.append(1)
        if doing == "a tool call" and len(ran) == 1:
            hold()
        return "found"

    env, server = asking(
        [calls(("search", {"text": "x"})), reply("lost" if doing == "a model call" else "done"), reply("done")],
        {"tools": ["search"]},
        handlers={"search": search},
    )
    take = server.take

    def taken(request: dict[str, Any], authorization: str | None) -> Answer:
        answer = take(request, authorization)
        if doing == "a model call" and len(server.requests) == 2:
            hold()
        return answer

    server.take = taken  # type: ignore[method-assign]
    handle = env.client.start("asks", {"question": "q"})
    assert under_way.wait(60)
    env.kill_worker()
    over.set()
    env.add_worker()
    env.clock.advance("30s")
    assert handle.result(timeout=60)["after"] == "done"
    asked = [request["messages"] for request in server.requests]
    if doing == "a model call":  # its answer came to nobody
        assert (len(asked), asked[1]) == (3, asked[2])
    else:
        assert (len(asked), len(ran)) == (2, 2)


def test_an_agent_in_a_loop_has_nodes_of_its_own_in_each_round(asking: Asking) -> None:
    search = handler(arguments=Query)(lambda ctx: ctx.input["text"])
    env, _ = asking(
        [calls(("search", {"text": "1"})), reply("one"), calls(("search", {"text": "2"})), reply("two")],
        {},
        handlers={"search": search},
    )
    env.publish(
        {
            "id": "asks",
            "nodes": [
                {"id": "a", "uses": "agent", "inputs": "question", "params": {"tools": ["search"]}},
                {"id": "more", "uses": "loop-controller", "params": {"condition": "a != 'two'"}},
                {"id": "after", "uses": "echo", "inputs": "a"},
            ],
            "edges": [
                {"source": "a", "target": "more"},
                {"source": "more", "target": "a", "action": "continue"},
                {"source": "more", "target": "after", "action": "break"},
            ],
        }
    )
    result = env.client.start("asks", {"question": "q"}).result(timeout=60)
    assert (result["after"], result["a-search-1"], result["a-round2-search-1"]) == ("two", "1", "2")


def test_agents_whose_names_and_tools_look_alike_do_not_get_each_others_answers(asking: Asking) -> None:
    anything = {"type": "object"}
    env, server = asking(
        [calls(("b-c", {})), reply("one"), calls(("c", {})), reply("two")],
        {},
        handlers={name: lambda _ctx, name=name: f"of {name}" for name in ("b-c", "c")},
    )
    tools = {"a": "b-c", "a-b": "c"}
    agents = [
        {
            "id": name,
            "uses": "agent",
            "inputs": "question",
            "params": {"tools": [{"handler": tool, "arguments": anything}]},
        }
        for name, tool in tools.items()
    ]
    env.publish({"id": "asks", "nodes": agents, "edges": [{"source": "a", "target": "a-b"}]})
    env.client.start("asks", {"question": "q"}).result(timeout=60)
    answers = [each["messages"][-1]["content"] for each in (server.requests[1], server.requests[3])]
    assert answers == ["of b-c", "of c"]


def test_arguments_that_cannot_be_stored_are_answered_to_the_model(asking: Asking) -> None:
    deep, infinite = '{"x":' * 3000 + "1" + "}" * 3000, '{"x": 1e999}'
    tool = {"handler": "take", "arguments": {"type": "object"}}
    env, server = asking(
        [
            calls(("take", deep)),
            calls(("take", infinite)),
            calls(("take", {"__proto__": "{{ question }}", "x": "= 1 + 1"})),
            reply("ok"),
        ],
        {"tools": [tool], "maxRepairs": 5},
        handlers={"take": lambda ctx: ctx.input},
    )
    assert ask(env) == "ok"
    told = [each["messages"][-1]["content"] for each in server.requests[1:]]
    assert "no JSON" in told[0]
    assert "cannot be stored" in told[1]
    assert json.loads(told[2]) == {"__proto__": "{{ question }}", "x": "= 1 + 1"}


def test_work_is_handed_over_to_the_agent_of_another_blueprint(asking: Asking) -> None:
    arguments = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
    tool = {"blueprint": "expert", "name": "ask_expert", "description": "Asks the expert.", "arguments": arguments}
    env, server = asking(
        [calls(("ask_expert", {"question": "Why?"})), reply("Because."), reply("done")], {"tools": [tool]}
    )
    env.publish({"id": "expert", "inputs": ["question"], "nodes": [{"id": "e", "uses": "agent", "inputs": "question"}]})
    handle = env.client.start("asks", {"question": "q"})
    assert handle.result(timeout=60)["after"] == "done"
    assert roles(server.requests[1]) == [("user", "Why?")]
    assert "Because." in server.requests[2]["messages"][-1]["content"]
    assert handle.describe().nodes["a-ask_expert-1"].child_run_id


def mailing(asking: Asking, answers: list[Answer], **params: Any) -> tuple[TestEnvironment, ChatServer, list[Any]]:
    """An agent that may search, and send mails when a person agrees."""
    sent: list[Any] = []

    @handler(arguments=Query)
    def send_mail(ctx: NodeContext) -> str:
        sent.append(ctx.input)
        return "sent"

    search = handler(arguments=Query)(lambda ctx: "found")
    env, server = asking(
        answers,
        {"tools": ["search", "send_mail"], "approve": ["send_mail"], **params},
        handlers={"search": search, "send_mail": send_mail},
    )
    return env, server, sent


def test_a_call_waits_for_a_person_who_sees_its_arguments(asking: Asking) -> None:
    env, server, sent = mailing(
        asking, [calls(("search", {"text": "x"}), ("send_mail", {"text": "Dear Ada"})), reply("done")]
    )
    handle = env.client.start("asks", {"question": "q"})
    env.run_until_idle()
    assert handle.describe().status == "waiting"
    (waiting,) = env.client.waiting().items
    assert (waiting.run_id, waiting.node_id, waiting.actions) == (
        handle.run_id, "a-send_mail-1-approval", ["approve", "refuse"],
    )  # fmt: skip
    assert "send_mail" in str(waiting.prompt) and "Dear Ada" in str(waiting.prompt)
    assert (sent, len(server.requests)) == ([], 1)
    handle.signal(action="approve")
    assert handle.result(timeout=60)["after"] == "done"
    assert sent == [{"text": "Dear Ada"}]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"action": "refuse", "payload": "Not today."}, "Not today."),
        ({}, "refused"),
        (None, "was not agreed to in time"),
    ],
)
def test_the_model_gets_to_know_that_a_call_was_refused(asking: Asking, answer: Any, told: str) -> None:
    env, server, sent = mailing(asking, [calls(("send_mail", {"text": "x"})), reply("done")], approvalTimeout="2h")
    handle = env.client.start("asks", {"question": "q"})
    env.run_until_idle()
    if answer is None:
        env.clock.advance("3h")
    else:
        handle.signal(**answer)
    assert handle.result(timeout=60)["after"] == "done"
    assert sent == []
    assert told in server.requests[1]["messages"][-1]["content"]


SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "sources": {"type": "array", "minItems": 1}},
    "required": ["answer", "sources"],
    "additionalProperties": False,
}


def test_an_output_that_does_not_fit_is_mended_by_the_model(asking: Asking) -> None:
    right = {"answer": "Ada", "sources": ["a"]}
    env, server = asking(
        [calls(("final_result", {"answer": "Ada", "sources": []})), reply("Ada."), calls(("final_result", right))],
        {"output": SCHEMA},
    )
    assert ask(env) == right
    assert server.requests[0]["tools"][0]["function"]["parameters"]["required"] == ["answer", "sources"]
    assert "sources: expected a list of at least 1 item" in server.requests[1]["messages"][-1]["content"]
    assert len(server.requests) == 3


def test_an_output_that_never_fits_fails_the_node_after_the_repairs(asking: Asking) -> None:
    env, server = asking([calls(("final_result", {"answer": 1}))], {"output": SCHEMA, "maxRepairs": 1})
    with pytest.raises(RunFailedError, match="AgentOutputError"):
        ask(env)
    assert len(server.requests) == 2


def test_a_list_of_models_falls_back_in_its_order(environment: Make) -> None:
    with chat_server(refusal(401, "no")) as first, chat_server(reply("from the second")) as second:
        providers = {
            name: OpenAICompatible(name, Endpoint(server.url, "key", name, retries=RetryPolicy(max_attempts=1)))
            for name, server in (("a", first), ("b", second))
        }
        blueprint = {
            "id": "asks",
            "nodes": [{"id": "after", "uses": "agent", "inputs": "question", "params": {"model": ["a", "b"]}}],
        }
        env = environment(blueprints=blueprint, models=LanguageModels(providers, default="a"))
        assert ask(env) == "from the second"
        assert (len(first.requests), second.requests[0]["model"]) == (1, "b")


def test_calls_of_an_agent_count_and_end_at_a_budget(asking: Asking) -> None:
    search = handler(arguments=Query)(lambda ctx: "found")
    env, server = asking(
        [calls(("search", {"text": "x"}))],
        {"tools": ["search"]},
        handlers={"search": search},
        config={"budget": {"tokens": 25}, "maxRetries": 1},
    )
    handle = env.client.start("asks", {"question": "q"})
    with pytest.raises(RunFailedError, match="BudgetExceededError"):
        handle.result(timeout=20)
    assert len(server.requests) == 3  # of ten tokens each
    usage = handle.describe().nodes["a"].usage
    assert usage is not None
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (3, 21, 9)


def test_an_answer_of_a_model_is_one_step_with_its_tokens_and_a_key_for_its_repetitions(asking: Asking) -> None:
    search = handler(arguments=Query)(lambda ctx: "found")
    env, server = asking(
        [refusal(503, "busy"), calls(("search", {"text": "x"})), reply("done")],
        {"tools": ["search"]},
        handlers={"search": search},
    )
    handle = env.client.start("asks", {"question": "q"})
    handle.result(timeout=60)
    steps = [event.data for event in handle.events() if event.type == "step_recorded"]
    assert [step["kind"] for step in steps] == ["model", "model"]
    details = steps[0]["details"]
    assert (details["provider"], details["input"], details["output"], details["finishReason"]) == (
        "main",
        7,
        3,
        "tool_call",
    )
    assert (details["prompt"], details["reply"]) == ("q", 'search({"text":"x"})')
    assert steps[1]["details"]["prompt"] == "found"
    first, again, second = server.idempotency_keys
    assert first == again
    assert first and second and first != second
