"""What handlers are written as: partials, decorated functions, instances and classes; and calls that nobody awaits."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from flowcraft_sdk import RunFailedError
from flowcraft_server.config.handler_forms import HandlerError
from flowcraft_server.testing import TestEnvironment

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
        assert env.client.execute("g", {"n": 1}, timeout=10)["a"] == 2


def forgotten_set(ctx: Any) -> Any:
    return ctx.context.set("total", 1)


def forgotten_get(ctx: Any) -> Any:
    return ctx.context.get("total")


@pytest.mark.parametrize(
    ("call", "said"), [(forgotten_set, r"set\('total', ...\)"), (forgotten_get, r"get\('total'\)")]
)
def test_a_call_that_is_not_awaited_fails_the_node(call: Callable[..., Any], said: str) -> None:
    async def forgets(ctx: Any) -> int:
        call(ctx)
        return 1

    with TestEnvironment(handlers={"h": forgets}, blueprints=GRAPH) as env:
        with pytest.raises(RunFailedError, match=rf"ctx.context.{said} was not awaited, so it did nothing") as caught:
            env.client.execute("g", {}, timeout=10)
        assert not caught.value.failure.retryable


def test_a_coroutine_function_that_a_decorator_hides_is_told() -> None:
    with (
        TestEnvironment(handlers={"h": hiding(adds)}, blueprints=GRAPH) as env,
        pytest.raises(RunFailedError, match=r"a decorator hides it: let the decorator use functools\.wraps"),
    ):
        env.client.execute("g", {"n": 1}, timeout=10)


def test_a_coroutine_that_is_returned_is_told() -> None:
    async def forgets(ctx: Any) -> Any:
        return adds(ctx)

    with (
        TestEnvironment(handlers={"h": forgets}, blueprints=GRAPH) as env,
        pytest.raises(RunFailedError, match="returned a coroutine, which nobody awaits: put `await` before it"),
    ):
        env.client.execute("g", {"n": 1}, timeout=10)


def test_each_environment_has_an_instance_of_its_own() -> None:
    class Counts:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, ctx: Any) -> int:
            self.calls += 1
            return self.calls

    for _ in range(2):
        with TestEnvironment(handlers={"h": Counts}, blueprints=GRAPH) as env:
            assert [env.client.execute("g", {}, timeout=10)["a"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("handler", [{}, "text", int, lambda: 1])
def test_what_is_no_handler_is_refused_at_once(handler: Any) -> None:
    with pytest.raises(HandlerError, match="'h"):
        TestEnvironment(handlers={"h": handler}, blueprints=GRAPH)
