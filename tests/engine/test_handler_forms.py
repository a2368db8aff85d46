"""What handlers are written as: partials, decorated functions, instances and classes; and calls that nobody awaits."""

import asyncio
import functools
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from flowcraft_sdk import AsyncNodeContext, ConfigurationError, NodeResult, RunFailedError
from flowcraft_sdk import handler as declare
from flowcraft_server.config.handler_forms import HandlerError
from flowcraft_server.testing import TestEnvironment, run_handler

GRAPH = {"id": "g", "nodes": [{"id": "a", "uses": "h"}], "edges": []}


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    return inner


def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda ctx: function(ctx)


def as_task(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(ctx: Any) -> Any:
        return asyncio.ensure_future(function(ctx))

    return inner


async def adds(ctx: Any, more: int = 1) -> int:
    await ctx.context.set("seen", True)
    return int(await ctx.context.get("n")) + more


class Adds:
    async def __call__(self, ctx: Any) -> int:
        return await adds(ctx)


class AddsPlainly:
    def __call__(self, ctx: Any) -> int:
        return int(ctx.context.get("n")) + 1


async def gathers(ctx: Any) -> int:
    """Awaited all the same, though not by an `await` before the call."""
    task = asyncio.create_task(ctx.context.set("seen", True))
    found, _ = await asyncio.gather(ctx.context.get("n"), ctx.context.has("x"))
    await asyncio.wait_for(task, 5)
    return int(found) + 1


@pytest.mark.parametrize(
    "handler",
    [
        adds,
        quiet(adds),
        quiet(quiet(adds)),
        as_task(adds),
        functools.partial(adds, more=1),
        functools.partial(quiet(adds), more=1),
        Adds(),
        Adds().__call__,
        Adds,
        AddsPlainly,
        AddsPlainly(),
        gathers,
        AsyncMock(return_value=2),
        Mock(return_value=2),
    ],
)
def test_all_forms_of_handlers_run(handler: Callable[..., Any]) -> None:
    with TestEnvironment(handlers={"h": handler}, blueprints=GRAPH) as env:
        assert env.client.execute("g", {"n": 1}, timeout=60)["a"] == 2


def forgotten_set(ctx: Any) -> Any:
    return ctx.context.set("total", 1)


def forgotten_get(ctx: Any) -> Any:
    return ctx.context.get("total")


@pytest.mark.parametrize(
    ("call", "published"), [(forgotten_set, r"set\('total', ...\)"), (forgotten_get, r"get\('total'\)")]
)
def test_a_call_that_is_not_awaited_fails_the_node(call: Callable[..., Any], published: str) -> None:
    async def forgets(ctx: Any) -> int:
        call(ctx)
        return 1

    with TestEnvironment(handlers={"h": forgets}, blueprints=GRAPH) as env:
        with pytest.raises(
            RunFailedError, match=rf"ctx.context.{published} was not awaited, so it did nothing"
        ) as caught:
            env.client.execute("g", {}, timeout=60)
        assert not caught.value.failure.retryable
        line = call.__code__.co_firstlineno + 1
        assert caught.value.failure.message.endswith(f"(line {line} of test_handler_forms.py)")


def test_a_coroutine_function_that_a_decorator_hides_is_reported() -> None:
    with (
        TestEnvironment(handlers={"h": hiding(adds)}, blueprints=GRAPH) as env,
        pytest.raises(RunFailedError, match=r"a decorator hides it: let the decorator use functools\.wraps"),
    ):
        env.client.execute("g", {"n": 1}, timeout=10)


async def returns_a_coroutine(ctx: Any) -> Any:
    return adds(ctx)


def calls_a_coroutine_function(ctx: Any) -> Any:
    return adds(ctx)


@pytest.mark.parametrize(
    ("handler", "advice"),
    [
        (returns_a_coroutine, r"not awaited: put `await` before the call that it returns \(of adds\)$"),
        (
            calls_a_coroutine_function,
            r"not awaited: declare the handler with `async def` .* \(it is what adds gives\)$",
        ),
    ],
)
def test_the_advice_about_a_returned_coroutine_is_for_this_handler(handler: Any, advice: str) -> None:
    with TestEnvironment(handlers={"h": handler}, blueprints=GRAPH) as env:
        with pytest.raises(RunFailedError) as caught:
            env.client.execute("g", {"n": 1}, timeout=60)
        assert re.search(advice, caught.value.failure.message)
    with pytest.raises(TypeError, match=advice):
        run_handler(handler, {"n": 1})


def test_each_environment_has_an_instance_of_its_own() -> None:
    class Counts:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, ctx: Any) -> int:
            self.calls += 1
            return self.calls

    for _ in range(2):
        with TestEnvironment(handlers={"h": Counts}, blueprints=GRAPH) as env:
            assert [env.client.execute("g", {}, timeout=60)["a"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("handler", [{}, "text", int, lambda: 1])
def test_what_is_no_handler_is_refused_at_once(handler: Any) -> None:
    with pytest.raises(HandlerError, match="'h"):
        TestEnvironment(handlers={"h": handler}, blueprints=GRAPH)


async def uses_a_call_as_its_value(ctx: AsyncNodeContext) -> Any:
    return ctx.context.get("x", 0) + 1  # type: ignore[operator]


def asks_for_inputs(ctx: Any) -> Any:
    return ctx.inputs


async def asks_for_nothing_known(ctx: Any) -> Any:
    return ctx.zzz


def takes_the_context_for_a_dict(ctx: Any) -> Any:
    return ctx.context["x"]


async def takes_it_for_a_dict_too(ctx: Any) -> Any:
    ctx.context["x"] = 1


def looks_for_a_key_in_it(ctx: Any) -> Any:
    return "x" in ctx.context


def unpacks_it(ctx: Any) -> Any:
    return list(ctx.context)


def asks_ctx_itself(ctx: Any) -> Any:
    return ctx.get("x")


@pytest.mark.parametrize(
    ("handler", "kind", "published"),
    [
        (takes_the_context_for_a_dict, "TypeError", "ctx.context is no dict: write ctx.context.get('x')"),
        (takes_it_for_a_dict_too, "TypeError", "ctx.context is no dict: write await ctx.context.set('x', ...)"),
        (looks_for_a_key_in_it, "TypeError", "ctx.context is no dict: write ctx.context.has('x')"),
        (unpacks_it, "TypeError", "ctx.context is no dict: name what is read, ctx.context.get_many([...])"),
        (asks_ctx_itself, "AttributeError", "the ctx of a handler has no 'get'; did you mean 'ctx.context.get'?"),
        (uses_a_call_as_its_value, "UnawaitedCall", "ctx.context.get('x') was not awaited"),
        (asks_for_inputs, "AttributeError", "the ctx of a handler has no 'inputs'; did you mean 'input'?"),
        (asks_for_nothing_known, "AttributeError", "the ctx of a handler has no 'zzz'"),
    ],
)
def test_mistakes_with_the_context_are_reported(handler: Any, kind: str, published: str) -> None:
    with TestEnvironment(blueprints={"b": "nodes: {a: {uses: h}}"}, handlers={"h": handler}) as env:
        with pytest.raises(RunFailedError) as failed:
            env.client.execute("b", timeout=10)
        (failure,) = failed.value.snapshot.failures
        assert failure.type == kind and published in failure.message


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("10s", 10.0), (timedelta(minutes=1), 60.0), (2, 2), (None, None), ("1h30m", 5400.0)]
)
def test_spans_of_a_handlers_timeout(timeout: Any, seconds: float | None) -> None:
    assert declare(timeout=timeout)(asks_for_inputs).__flowcraft_handler__.timeout == seconds


@pytest.mark.parametrize("timeout", ["soon", "10", -1, 0, "0s", [1]])
def test_what_is_no_timeout_of_a_handler(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        declare(timeout=timeout)


def test_params_that_are_no_model() -> None:
    with pytest.raises(TypeError, match="params is a pydantic model, a class; got dict"):
        declare(params={"x": int})  # type: ignore[call-overload]


def test_progress_and_events_of_a_coroutine_may_be_awaited() -> None:
    async def reports(ctx: Any) -> int:
        await ctx.progress(0.5, "half")
        await ctx.emit("done", {"n": 1})
        ctx.progress(1.0)
        return 1

    with TestEnvironment(blueprints={"b": "nodes: {a: {uses: h}}"}, handlers={"h": reports}) as env:
        run = env.client.start("b")
        assert run.result(timeout=60) == {"a": 1}
        assert [event.type for event in run.events(follow=False)].count("node_progress") == 2


def test_a_handler_knows_the_actions_that_its_edges_take(environment: Any) -> None:
    seen: list[Any] = []

    def choose(ctx: Any) -> NodeResult:
        seen.append(ctx.actions)
        return NodeResult(None, action=ctx.actions[-1])

    async def achoose(ctx: Any) -> NodeResult:
        return choose(ctx)

    nodes = [
        {"id": "a", "uses": "choose"},
        {"id": "b", "uses": "achoose"},
        {"id": "c", "uses": "end"},
        {"id": "d", "uses": "end"},
    ]
    edges = [
        {"source": "a", "target": "c", "action": "x"}, {"source": "a", "target": "b", "action": "y"},
        {"source": "a", "target": "d", "action": "y"}, {"source": "b", "target": "c", "action": "z"}, {"source": "b", "target": "d"},
    ]  # fmt: skip
    handlers = {"choose": choose, "achoose": achoose, "end": lambda ctx: 1}
    env = environment(blueprints={"id": "chooses", "nodes": nodes, "edges": edges}, handlers=handlers)
    env.client.start("chooses").result(timeout=60)
    assert seen == [("x", "y"), ("z",)]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "max_retries",
            r"@handler takes no max_retries: it is set in the blueprint, by the node: `config: \{maxRetries: \.\.\.\}`, or for",
        ),
        ("retries", r"by the node: `config: \{maxRetries: \.\.\.\}`"),
        ("retry_delay", r"by the node: `config: \{retryDelay: \.\.\.\}`"),
        ("queue", r"by the node: `config: \{queue: \.\.\.\}`"),
        ("on_error", r"by the node: `config: \{fallback: \.\.\.\}`$"),
        ("acitons", r"@handler takes no acitons; did you mean actions\?"),
        (
            "colour",
            "@handler takes no colour; it takes name, actions, params, timeout, writes, arguments, description, parks",
        ),
    ],
)
def test_an_argument_that_the_decorator_does_not_have(argument: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        declare(**{argument: 3})
