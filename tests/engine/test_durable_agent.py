"""Agents of pydantic-ai in handlers: their calls are steps of the node."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import RunFailedError
from flowcraft_server.llm import LanguageModels, Scripted
from flowcraft_server.llm.script_rules import Reply, Script
from flowcraft_server.testing import TestEnvironment

pydantic_ai = pytest.importorskip("pydantic_ai")

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart  # noqa: E402
from pydantic_ai.models.function import AgentInfo, FunctionModel  # noqa: E402
from pydantic_ai.models.test import TestModel  # noqa: E402

from flowcraft_server.agents import DurableAgent  # noqa: E402

Make = Callable[..., TestEnvironment]
ASKS = {
    "id": "asks",
    "nodes": [{"id": "n", "uses": "ask", "inputs": "q", "config": {"maxRetries": 3, "retryDelay": 0}}],
}


def test_a_further_attempt_repeats_no_call_that_was_answered(environment: Make) -> None:
    asked: list[int] = []
    searched: list[str] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(len(messages))
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("search", {"text": "a"}), ToolCallPart("search", {"text": "b"})])
        if len(asked) == 2:
            raise ConnectionError("gone")
        return ModelResponse(parts=[TextPart("found")])

    agent = DurableAgent(pydantic_ai.Agent(FunctionModel(model), name="finder"))

    @agent.agent.tool_plain
    def search(text: str) -> str:
        searched.append(text)
        return text * 2

    async def ask(ctx: Any) -> str:
        return str((await agent.run(ctx, ctx.input)).output)

    env = environment(blueprints=ASKS, handlers={"ask": ask})
    handle = env.client.start("asks", {"q": "What?"})
    assert handle.result(timeout=60)["n"] == "found"
    assert asked == [1, 3, 3]
    assert searched == ["a", "b"]
    assert handle.describe().nodes["n"].attempts == 2


def test_a_node_with_two_agents_and_a_step_between_is_answered_from_its_records(environment: Make) -> None:
    tries: list[int] = []
    first = DurableAgent(pydantic_ai.Agent(TestModel(custom_output_text="one"), name="first"))
    second = DurableAgent(pydantic_ai.Agent(TestModel(custom_output_text="two"), name="second"))

    async def ask(ctx: Any) -> str:
        begun = (await first.run(ctx, "a")).output
        await ctx.step("between", lambda: 1)
        text = f"{begun} {(await second.run(ctx, 'b')).output}"
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")
        return text

    env = environment(blueprints=ASKS, handlers={"ask": ask})
    assert env.client.start("asks", {"q": 1}).result(timeout=60)["n"] == "one two"
    assert len(tries) == 2


def test_a_plain_function_is_refused(environment: Make) -> None:
    agent = DurableAgent(pydantic_ai.Agent(TestModel()))

    def ask(ctx: Any) -> Any:
        try:
            agent.run(ctx, "a").send(None)
        except StopIteration:
            raise AssertionError("it ran") from None

    env = environment(blueprints=ASKS, handlers={"ask": ask})
    with pytest.raises(RunFailedError, match="async def"):
        env.client.start("asks", {"q": 1}).result(timeout=20)


def test_its_calls_count_and_end_at_a_budget(environment: Make) -> None:
    agent = DurableAgent(pydantic_ai.Agent(TestModel(custom_output_text="some words of an answer")))

    async def ask(ctx: Any) -> None:
        while True:
            await agent.run(ctx, "a")

    asks = {"id": "asks", "nodes": [{"id": "n", "uses": "ask", "config": {"budget": {"tokens": 150}}}]}
    models = LanguageModels({"s": Scripted("s", Script((), Reply("", 0.0)), source="test")})
    env = environment(blueprints=asks, handlers={"ask": ask}, models=models)
    handle = env.client.start("asks")
    with pytest.raises(RunFailedError, match="BudgetExceededError"):
        handle.result(timeout=20)
    usage = handle.describe().nodes["n"].usage
    assert usage is not None
    assert usage.calls > 1
    assert usage.tokens >= 150
