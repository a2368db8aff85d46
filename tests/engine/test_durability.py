"""A start and a result that count only once they are kept: `redis.durability`."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flowcraft_sdk import AsyncClient, Client, ClientSettings, NotDurableError, RunStatus
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.service.redis_checks import RedisUnusable, check_durability
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.testing import TestEnvironment

GRAPH = {"id": "one", "nodes": [{"id": "a", "uses": "echo", "inputs": "x"}], "edges": []}
QUICK = ClientSettings(socket_timeout=0.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "data", fsync="always") as store:
        yield store


@pytest.fixture
def env(store: EmbeddedStore) -> Iterator[TestEnvironment]:
    with TestEnvironment(handlers={"echo": lambda ctx: ctx.input}, blueprints=GRAPH, redis_url=store.url) as env:
        yield env


def demand(env: TestEnvironment, level: str) -> None:
    env.link.redis.hset(env.keys.settings, "durability", level)


def commands(env: TestEnvironment) -> dict[str, int]:
    stats: Any = env.link.redis.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("wait", "waitaof")}


def test_by_default_nothing_is_waited_for(env: TestEnvironment) -> None:
    assert env.client.execute("one", {"x": 1}, timeout=60) == {"x": 1, "a": 1}
    assert commands(env) == {"wait": 0, "waitaof": 0}


def test_a_start_and_a_result_are_on_disk(env: TestEnvironment) -> None:
    demand(env, "fsync")
    run = env.client.start("one", {"x": 1})
    assert commands(env)["waitaof"] == 1
    assert run.result(60) == {"x": 1, "a": 1}
    assert commands(env)["waitaof"] == 2
    assert run.wait(60).status is RunStatus.COMPLETED
    assert commands(env) == {"wait": 0, "waitaof": 3}


def test_a_disk_that_does_not_follow_is_reported(env: TestEnvironment) -> None:
    demand(env, "fsync")
    env.link.redis.config_set("appendfsync", "no")
    with Client(env.url, namespace=env.namespace, settings=QUICK) as client:
        with pytest.raises(
            NotDurableError, match="the start of run r is recorded, but Redis did not confirm"
        ) as raised:
            client.start("one", {"x": 1}, run_id="r")
        assert raised.value.maybe_applied
        assert isinstance(raised.value, ConnectionError)
    env.link.redis.config_set("appendfsync", "always")
    again = env.client.start("one", {"x": 1}, run_id="r")
    assert again.attached
    assert again.result(60) == {"x": 1, "a": 1}


def test_replicas(env: TestEnvironment, tmp_path: Path) -> None:
    demand(env, "replicas:1")
    with Client(env.url, namespace=env.namespace, settings=QUICK) as client:
        with pytest.raises(NotDurableError, match=r"redis\.durability: replicas:1"):
            client.start("one", {"x": 1}, run_id="r")
        with EmbeddedStore(tmp_path / "replica", durable=False) as replica:
            follow(env, replica)
            assert client.start("one", {"x": 1}, run_id="r").result(60) == {"x": 1, "a": 1}


def follow(env: TestEnvironment, replica: EmbeddedStore) -> None:
    """Have a store follow the environment's, which listens at a port for that."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env.link.redis.config_set("port", port)
    with redis.Redis.from_url(replica.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", port)
        end = time.monotonic() + 20
        while client.info("replication")["master_link_status"] != "up":
            assert time.monotonic() < end
            time.sleep(0.02)


def test_for_asyncio(env: TestEnvironment) -> None:
    async def use() -> None:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            assert await client.execute("one", {"x": 1}, timeout=60) == {"x": 1, "a": 1}

    demand(env, "fsync")
    asyncio.run(use())
    assert commands(env)["waitaof"] == 2


class TestAtTheStart:
    def check(self, env: TestEnvironment, level: str) -> None:
        check_durability(env.link.redis, env.url, Keys("x"), level)

    def test_what_can_be_kept(self, env: TestEnvironment) -> None:
        self.check(env, "async")
        self.check(env, "fsync")

    def test_no_append_only_file(self, env: TestEnvironment) -> None:
        env.link.redis.config_set("appendonly", "no")
        with pytest.raises(
            RedisUnusable, match=r"redis.durability: fsync: .* keeps no append-only file; set appendonly yes"
        ):
            self.check(env, "fsync")

    def test_no_such_command(self, env: TestEnvironment) -> None:
        class Old:
            """A Redis before 7.2."""

            def pipeline(self, **options: Any) -> "Old":
                return self

            def set(self, *args: Any) -> None: ...

            def execute_command(self, *args: Any) -> None: ...

            def execute(self) -> None:
                raise redis.exceptions.ResponseError("unknown command 'WAITAOF', with args beginning with: '1'")

        with pytest.raises(RedisUnusable, match=r"has no WAITAOF, which came with Redis 7.2"):
            check_durability(Old(), env.url, Keys("x"), "fsync")  # type: ignore[arg-type]

    def test_too_few_replicas(self, env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flowcraft_server.service.redis_checks.CONFIRMED_WITHIN", 50)
        with pytest.raises(RedisUnusable, match=r"replicas:2: .* has 0 replicas that follow it"):
            self.check(env, "replicas:2")
