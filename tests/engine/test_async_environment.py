"""`AsyncTestEnvironment`: the same as `TestEnvironment`, awaited; and both while freezegun has stopped the time."""

import asyncio
import datetime
import inspect
from typing import Any

import pytest
from freezegun import freeze_time

from flowcraft_sdk import ConfigurationError, RunStatus, WaitTimeoutError
from flowcraft_server.testing import AsyncTestClock, AsyncTestEnvironment, TestClock, TestEnvironment

SHOUT = """
nodes:
  pause: {uses: sleep, inputs: text, params: {duration: 30d}}
  shout: {uses: shout, needs: pause, config: {timeout: 20s}}
"""


def shout(ctx: Any) -> str:
    return f"{ctx.input}!"


async def slow_shout(ctx: Any) -> str:
    await asyncio.wait_for(asyncio.sleep(0.02), 5)
    return f"{ctx.input} {datetime.datetime.now():%Y}"


def test_a_test_that_is_a_coroutine() -> None:
    async def test() -> None:
        async with AsyncTestEnvironment(blueprints={"loud": SHOUT}, handlers={"shout": shout}) as env:
            before = await env.clock.now()
            run = await env.client.start("loud", {"text": "hello"})
            await env.run_until_idle()
            assert await run.status() == RunStatus.WAITING
            assert (await env.clock.until_next_timer() or datetime.timedelta()).days in (29, 30)
            await env.clock.advance("29d")
            assert await env.clock.advance_to_next_timer() <= datetime.timedelta(days=1, seconds=1)
            assert (await run.result(timeout=60))["shout"] == "hello!"
            assert (await env.clock.now() - before).days == 30
            await env.publish({"quick": "nodes: {a: {uses: shout, inputs: text}}"})
            await env.kill_worker()
            await env.add_worker()
            with env.override("shout", slow_shout):
                assert (await env.client.execute("quick", {"text": "ho"}, timeout=60))["a"].startswith("ho 2")
        outside = AsyncTestEnvironment()
        with pytest.raises(ConfigurationError, match="was not entered: write `async with"):
            _ = outside.client
        for call in (outside.clock.advance("1d"), outside.run_until_idle(), outside.add_worker(), env.clock.now()):
            with pytest.raises(ConfigurationError, match="async with"):
                await call

    asyncio.run(test())


@pytest.mark.parametrize(
    ("blocking", "awaited"), [(TestEnvironment, AsyncTestEnvironment), (TestClock, AsyncTestClock)]
)
def test_both_have_the_same_methods(blocking: type, awaited: type) -> None:
    for name, method in inspect.getmembers(awaited, inspect.isfunction):
        if not name.startswith("_"):
            other = inspect.signature(getattr(blocking, name))
            assert inspect.signature(method).parameters == other.parameters, name
            assert inspect.iscoroutinefunction(method) or name == "override"
    internal = {"is_busy", "at_work", "publish_checked", "check_entered"}
    public = {name for name, _ in inspect.getmembers(blocking, inspect.isroutine) if not name.startswith("_")}
    assert public - internal == {
        name for name, _ in inspect.getmembers(awaited, inspect.isroutine) if not name.startswith("_")
    }


def test_while_the_time_is_frozen() -> None:
    with (
        freeze_time("2020-02-29 12:00"),
        TestEnvironment(blueprints={"loud": SHOUT}, handlers={"shout": slow_shout}) as env,
    ):
        run = env.client.start("loud", {"text": "hello"})
        env.run_until_idle()
        with pytest.raises(WaitTimeoutError):
            run.result(timeout=0.05)
        assert env.clock.now().year > 2020  # runs go by the clock of their server, not by that of the test
        env.clock.advance("31d")
        assert run.result(timeout=60)["shout"] == "hello 2020"
