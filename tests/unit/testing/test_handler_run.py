"""`run_handler`: one handler in a unit test, with the context that the engine would give it."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from flowcraft_sdk import (
    AsyncNodeContext,
    ConfigurationError,
    DynamicNode,
    NodeCancelled,
    NodeContext,
    NodeResult,
    SerializationError,
    handler,
)
from flowcraft_sdk.node import ReportedProgress
from flowcraft_server.engine.contexts import UnawaitedCall
from flowcraft_server.testing import run_handler, run_handler_async


class Params(BaseModel):
    limit: int = 3


@handler("assess", actions=["small", "large"], params=Params)
def assess(ctx: Any) -> NodeResult:
    ctx.progress(0.5, "half way")
    ctx.emit("seen", {"n": ctx.input})
    ctx.context.set("total", (ctx.input, ctx.context.get("before", 0)))
    ctx.context.delete("old")
    ctx.logger.info("assessing")
    assert ctx.context.has("before") and not ctx.context.has("after")
    assert ctx.context.get("total") == [ctx.input, 4]
    about = [ctx.run_id, ctx.node_id, ctx.blueprint_id, ctx.attempt, ctx.item, ctx.iteration, ctx.idempotency_key]
    return NodeResult(
        {"about": tuple(about)},
        action="small" if ctx.input <= ctx.params.get("limit", 3) else "large",
        dynamic_nodes=[DynamicNode("more", "assess")],
    )


async def ask(ctx: Any) -> str:
    tone = await ctx.context.get("tone", "calm")
    reply = await ctx.llm.complete(f"{tone}: {ctx.input}", temperature=0.2)
    await ctx.context.set("reply", reply)
    return reply


def test_a_function() -> None:
    done = run_handler(
        assess, 5, params={"limit": 4}, context={"before": 4}, attempt=2, item=7, node_id="n", run_id="r"
    )
    assert done.output == {"about": ["r", "n", "blueprint", 2, 7, 0, "r:n[7]"]}
    assert done.action == "large"
    assert done.writes == {"total": [5, 4]}
    assert done.deletes == {"old"}
    assert done.progress == ((0.5, "half way"),)
    assert done.events == (("seen", {"n": 5}),)
    assert done.dynamic_nodes == (DynamicNode("more", "assess"),)


def test_a_coroutine() -> None:
    done = run_handler(ask, "hello", llm=lambda prompt: prompt.upper())
    assert (done.output, done.writes) == ("CALM: HELLO", {"reply": "CALM: HELLO"})

    async def inside() -> Any:
        with pytest.raises(ConfigurationError, match="await run_handler_async"):
            run_handler(ask, "hello", llm=str)
        plain = await run_handler_async(lambda ctx: ctx.input + 1, 1)
        return plain.output, (await run_handler_async(ask, "x", context={"tone": "loud"}, llm=str)).output

    assert asyncio.run(inside()) == (2, "loud: x")


class Greeter:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, ctx: Any) -> str:
        return f"{self.word} {ctx.input}"


def test_an_object() -> None:
    assert run_handler(Greeter("Hello"), "Ada").output == "Hello Ada"


def test_resources_and_what_an_attempt_before_has_reported() -> None:
    def charge(ctx: Any, *, db: dict[str, int], cache: Any = None) -> Any:
        before = ctx.last_progress
        return [db["x"], cache, ctx.resources["db"]["x"], before and before.message]

    async def charge_async(ctx: Any, *, db: dict[str, int]) -> Any:
        return db["x"]

    given = {"db": {"x": 1}}
    assert run_handler(charge, resources=given).output == [1, None, 1, None]
    last = ReportedProgress(0.5, "half")
    assert run_handler(charge, resources={**given, "cache": 2}, last_progress=last).output == [1, 2, 1, "half"]
    assert run_handler(charge_async, resources=given).output == 1
    with pytest.raises(ConfigurationError, match="the handler takes db: give it as resources="):
        run_handler(charge)


def test_messages() -> None:
    def collect(ctx: Any) -> list[Any]:
        found = []
        try:
            while True:
                found.append(ctx.receive(timeout="1h"))
        except TimeoutError:
            return found

    async def first(ctx: Any) -> Any:
        return await ctx.receive()

    assert run_handler(collect, messages=[1, {"a": (2,)}]).output == [1, {"a": [2]}]
    assert run_handler(first, messages=["x"]).output == "x"
    with pytest.raises(NodeCancelled):
        run_handler(first, messages=["x"], cancelled=True)


def test_what_is_raised_is_raised() -> None:
    def fail(ctx: Any) -> None:
        raise KeyError("price")

    with pytest.raises(KeyError, match="price"):
        run_handler(fail)
    with pytest.raises(NodeCancelled):
        run_handler(lambda ctx: ctx.check_cancelled(), cancelled=True)
    with pytest.raises(SerializationError, match="output of node 'node'"):
        run_handler(lambda ctx: object())
    with pytest.raises(SerializationError, match="input"):
        run_handler(lambda ctx: None, float("nan"))
    with pytest.raises(ConfigurationError, match="params do not fit Params: limit: "):
        run_handler(assess, 1, params={"limit": "many"})

    async def forgets(ctx: Any) -> None:
        _ = ctx.context.set("a", 1)

    with pytest.raises(UnawaitedCall):
        run_handler(forgets)


def test_resources_messages_and_started_runs() -> None:
    def takes(ctx: Any, *, db: str) -> list[Any]:
        found = [db, ctx.resources["db"], ctx.receive(), ctx.start_child("other", {"x": 1})]
        with pytest.raises(TimeoutError):
            ctx.receive(timeout=5)
        return found

    async def awaits(ctx: Any, *, db: str) -> list[Any]:
        return [db, ctx.resources["db"], await ctx.receive(), await ctx.start_child("other", {"x": 1})]

    for each in (takes, awaits):
        done = run_handler(each, resources={"db": "rows"}, messages=[{"n": 1}])
        assert done.output == ["rows", "rows", {"n": 1}, "run~s1"]
        assert done.started == (("other", {"x": 1}),)


def plans(ctx: NodeContext) -> Any:
    plan = ctx.step("plan", lambda: ("a", "b"))
    pages = ctx.gather(*[lambda name=name: ctx.step(f"fetch:{name}", str.upper, name) for name in plan])
    return [plan, pages]


async def plans_later(ctx: AsyncNodeContext) -> Any:
    plan = await ctx.step("plan", lambda: ("a", "b"))
    return [plan, await ctx.gather(*[ctx.step(f"fetch:{name}", str.upper, name) for name in plan])]


@pytest.mark.parametrize("handler", [plans, plans_later])
def test_steps_are_taken_or_given(handler: Any) -> None:
    done = run_handler(handler)
    assert done.output == [["a", "b"], ["A", "B"]]
    assert done.steps == {"plan": ["a", "b"], "fetch:a": "A", "fetch:b": "B"}
    done = run_handler(handler, steps={"plan": ["c"], "fetch:c": "found before"})
    assert done.output == [["c"], ["found before"]] and done.steps == {}
