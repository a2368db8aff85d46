"""What is shown of a mistake in a handler: lines of the handler, in the words that it was written in."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flowcraft_sdk import RunFailedError
from flowcraft_sdk.node import NodeResult, NonRetryableError
from flowcraft_server.engine import failures
from flowcraft_server.testing import TestEnvironment

GRAPH = {"g": "nodes: {a: {uses: h}}"}


async def adds(ctx: Any) -> int:
    return 1


def returns_a_coroutine(ctx: Any) -> Any:
    return adds(ctx)


async def forgets(ctx: Any) -> int:
    write = ctx.context.set
    write("x", 1)
    return 1


async def adds_to_a_call(ctx: Any) -> Any:
    value = ctx.context.get("x")
    return value + 1


def steps_without_a_name(ctx: Any) -> Any:
    return ctx.step(adds)


async def awaits_a_step_without_a_name(ctx: Any) -> Any:
    return await ctx.step(adds)


def steps_without_a_function(ctx: Any) -> Any:
    return ctx.step("x")


def progresses_without_a_fraction(ctx: Any) -> Any:
    return ctx.progress()


async def starts_nothing(ctx: Any) -> Any:
    return await ctx.run_child()


def sets_nothing(ctx: Any) -> Any:
    return ctx.context.set("x")


def completes_nothing(ctx: Any) -> Any:
    return ctx.llm.complete(5, nothing=True)


def asks_no_model(ctx: Any) -> Any:
    return ctx.llm.complete("hello")


def wraps_its_own(ctx: Any) -> Any:
    try:
        ctx.step("x", 5)
    except TypeError as error:
        raise NonRetryableError("not to be repeated") from error


def failure_of(handler: Any, **options: Any) -> Any:
    with TestEnvironment(handlers={"h": handler}, blueprints=GRAPH, **options) as env:
        with pytest.raises(RunFailedError) as caught:
            env.client.execute("g", {}, timeout=30)
        return caught.value.failure


@pytest.mark.parametrize(
    ("handler", "message", "line"),
    [
        (returns_a_coroutine, "the handler returned a coroutine that was not awaited", ""),
        (forgets, "ctx.context.set('x', ...) was not awaited", ""),
        (adds_to_a_call, "ctx.context.get('x') was not awaited", "return value + 1"),
        (steps_without_a_name, "write ctx.step('adds', adds, ...), not ctx.step(adds)", "return ctx.step(adds)"),
        (awaits_a_step_without_a_name, "write ctx.step('adds', adds, ...)", "return await ctx.step(adds)"),
        (steps_without_a_function, "got none: write ctx.step(name, function, ...)", 'return ctx.step("x")'),
        (progresses_without_a_fraction, "ctx.progress() missing 1 required", "return ctx.progress()"),
        (starts_nothing, "ctx.run_child() missing 1 required", "return await ctx.run_child()"),
        (sets_nothing, "ctx.context.set() missing 1 required", 'return ctx.context.set("x")'),
        (asks_no_model, "no language model is configured", 'return ctx.llm.complete("hello")'),
        (wraps_its_own, "not to be repeated", 'ctx.step("x", 5)'),
    ],
)
def test_a_mistake_shows_the_handlers_lines_only(handler: Any, message: str, line: str) -> None:
    failure = failure_of(handler)
    assert message in failure.message
    shown = failure.traceback or ""
    assert line in shown
    assert "/flowcraft_server/engine/" not in shown
    assert "/flowcraft_server/worker/" not in shown
    assert bool(shown) is bool(line)


def test_a_wrong_call_of_a_model_is_named_as_it_is_written() -> None:
    failure = failure_of(completes_nothing, models=lambda prompt: "yes")
    assert failure.message.startswith("ctx.llm.complete() got an unexpected keyword argument 'nothing'")


def test_an_error_from_a_thread_of_the_server_is_shown_at_the_handlers_line() -> None:
    def asks() -> None:
        with ThreadPoolExecutor(1) as pool:  # frames of Python's library below those of the server
            pool.submit(refuses).result(timeout=30)

    def refuses() -> None:
        raise NonRetryableError("install the extra")

    for function in (asks, refuses):
        function.__code__ = function.__code__.replace(co_filename=failures.__file__)

    def handles() -> None:
        asks()

    with pytest.raises(NonRetryableError) as caught:
        handles()
    shown = failures.describe(caught.value).traceback
    assert "asks()" in shown and "concurrent" not in shown and failures.__file__ not in shown


def test_what_the_handler_calls_in_the_library_stays() -> None:
    def handles() -> None:
        json.loads("{", object_pairs_hook=None)

    with pytest.raises(json.JSONDecodeError) as caught:
        handles()
    assert "json/decoder.py" in failures.describe(caught.value).traceback.replace("\\", "/")


def test_where_the_engine_itself_fails_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft_server.engine.outcome.plain_text", None)
    failure = failure_of(lambda ctx: NodeResult(1, action="x"))
    assert "engine/outcome.py" in (failure.traceback or "")
