"""A primary that Sentinel watches: clients and workers find it, and its successor after a failover."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.sentinel import SentinelDeployment
from flowcraft_sdk import AsyncClient, Client, RunStatus
from flowcraft_sdk._transport.address import sentinel_address
from flowcraft_sdk._transport.connector import client_of
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing import TestEnvironment

GRAPH = """
nodes:
  first: {uses: echo, inputs: n}
  pause: {uses: sleep, needs: first, params: {duration: 1s}}
  coroutine: {uses: later, needs: pause, inputs: first}
  last: {uses: echo, inputs: coroutine, needs: coroutine}
"""


async def later(ctx: object) -> object:
    await asyncio.sleep(0)
    return await ctx.context.get("first")  # type: ignore[attr-defined]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[SentinelDeployment]:
    with SentinelDeployment(tmp_path, "s3cret") as deployment:
        yield deployment


def test_runs_survive_failovers(deployment: SentinelDeployment) -> None:
    handlers = {"echo": lambda ctx: ctx.input, "later": later}
    with TestEnvironment(blueprints={"g": GRAPH}, handlers=handlers, redis_url=deployment.url, workers=2) as env:
        client = env.client
        assert client.execute("g", {"n": 1}, timeout=60)["last"] == 1
        waiting = [client.start("g", {"n": n}, run_id=f"r{n}") for n in range(20)]
        for run in waiting:
            run.wait_for(RunStatus.WAITING, timeout=60)
        env.link.redis.wait(
            1, 5000
        )  # replication is asynchronous: what the replica does not have is lost with the primary
        deployment.fail_over()
        assert [run.result(timeout=60)["last"] for run in waiting] == list(range(20))
        assert client.execute("g", {"n": 2}, timeout=60)["last"] == 2
        assert client.admin.examine() == []


def test_a_primary_that_is_made_a_replica_is_left(deployment: SentinelDeployment) -> None:
    """Connections to it stay open and are refused: they are made anew."""
    with Client(deployment.url, namespace="n") as client:
        link = StoreLink(deployment.url)
        pool = client_of(deployment.url, type(link.redis.connection_pool)).connection_pool
        assert client.ping().blueprints == 0
        link.read_fields("h", ["a"])
        first, second = deployment.ports_of_data
        assert pool.make_connection()._primary.find() == ("127.0.0.1", deployment.primary)
        before = deployment.primary
        link.redis.execute_command("SET", "k", "1")
        link.redis.wait(1, 5000)
        deployment.fail_over()
        assert deployment.primary == ({first, second} - {before}).pop()
        assert link.read_with_retry(lambda: link.redis.get("k")) == b"1"
        link.close()


def test_asyncio(deployment: SentinelDeployment) -> None:
    async def main() -> None:
        async with AsyncClient(deployment.url, namespace="n") as client:
            assert (await client.ping()).blueprints == 0
            await asyncio.to_thread(deployment.fail_over)
            assert (await client.ping()).blueprints == 0

    asyncio.run(main())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_sentinel_that_is_away_is_asked_once(asynchronous: bool) -> None:
    """redis-py would try it again for seconds; a Sentinel is often lost together with the primary."""
    address = sentinel_address("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main/0")
    assert address is not None
    primary = address.pool_options(5.0, asynchronous=asynchronous)["primary"]
    for asked in primary._sentinel.sentinels:
        options = asked.connection_pool.connection_kwargs
        assert options["retry"]._retries == 0
        assert options["socket_connect_timeout"] == options["socket_timeout"] == 1.0
