"""A wait that ends too early in a test says how to move the clock, if a timer is what the run waits for."""

import asyncio
import re

import pytest

from flowcraft_sdk import Client, RunStatus, WaitTimeoutError
from flowcraft_server.testing import AsyncTestEnvironment, TestEnvironment

FLOWS = {
    "naps": "nodes: {a: {uses: sleep, params: {duration: 30d}}}\n",
    "calls": "nodes: {a: {call: naps}}\n",
    "asks": "nodes: {a: {uses: wait}}\n",
    "again": "nodes: {a: {uses: fails, config: {maxRetries: 2, retryDelay: 1h}}}\n",
    "holds": "nodes: {a: {uses: sleep, params: {duration: 1h}}}\n",
}
HINT = re.compile(r"its next timer is due in (\d+)s by the test clock.*env\.clock\.advance_to_next_timer\(\)")


def fails(ctx: object) -> None:
    raise ValueError("not yet")


@pytest.mark.parametrize(("name", "within"), [("naps", 30 * 86_400), ("calls", 30 * 86_400), ("again", 3_600)])
@pytest.mark.parametrize("partitions", [1, 16])
def test_a_run_that_waits_for_a_timer(name: str, within: int, partitions: int) -> None:
    with TestEnvironment(blueprints=FLOWS, handlers={"fails": fails}, partitions=partitions) as env:
        run = env.client.start(name)
        env.run_until_idle()
        with pytest.raises(WaitTimeoutError) as caught:
            run.result(timeout=0.1)
        found = HINT.search(str(caught.value))
        assert found is not None, str(caught.value)
        assert within - 600 < int(found[1]) <= within
        env.clock.advance(int(found[1]) + 1)
        assert run.wait(timeout=60).status.is_terminal


def test_a_start_that_is_delayed() -> None:
    with (
        TestEnvironment(blueprints=FLOWS, handlers={"fails": fails}) as env,
        pytest.raises(WaitTimeoutError, match=HINT),
    ):
        env.client.start("asks", delay="1h").result(timeout=0.1)


def test_a_run_that_waits_for_something_else_gets_no_hint() -> None:
    with TestEnvironment(blueprints=FLOWS, handlers={"fails": fails}) as env:
        env.client.start("holds").wait_for(RunStatus.WAITING, timeout=60)
        run = env.client.start("asks", run_timeout="1h")
        run.wait_for(RunStatus.WAITING, timeout=60)
        with pytest.raises(WaitTimeoutError, match=r"it goes on$"):
            run.result(timeout=0.1)
        sleeper = env.client.start("naps")
        sleeper.wait_for(RunStatus.WAITING, timeout=60)
        with (
            Client(env.url, namespace=env.namespace) as other,  # as of a server whose clock goes by itself
            pytest.raises(WaitTimeoutError, match=r"it goes on$"),
        ):
            other.get_handle(sleeper.run_id).result(timeout=0.1)


def test_the_client_of_an_async_environment() -> None:
    async def follow() -> None:
        async with AsyncTestEnvironment(blueprints=FLOWS, handlers={"fails": fails}) as env:
            run = await env.client.start("naps")
            await run.wait_for(RunStatus.WAITING, timeout=60)
            with pytest.raises(WaitTimeoutError, match=HINT):
                await run.result(timeout=0.1)

    asyncio.run(follow())
