"""Redis is full, read-only, cannot save, has lost its scripts: work is kept, nothing is done twice, the error has a name."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from freezegun import freeze_time

from flowcraft_sdk import BackendRefusedError, Client, RunStatus
from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.routed_keys import route_keys

GRAPH = {
    "id": "g",
    "nodes": [{"id": "a", "uses": "gate"}, {"id": "b", "uses": "echo"}],
    "edges": [{"source": "a", "target": "b"}],
}


class Gate:
    """A handler that stays where it is until it is let through."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.let = threading.Event()
        self.calls = 0

    def __call__(self, ctx: Any) -> str:
        self.calls += 1
        self.began.set()
        ctx.progress(0.5, "half way")
        ctx.stream_text("half way")
        assert self.let.wait(60)
        ctx.stream_text("through")
        return "through"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "data", durable=False) as store:
        yield store


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def env(store: EmbeddedStore, gate: Gate) -> Iterator[TestEnvironment]:
    handlers = {"gate": gate, "echo": lambda ctx: ctx.input}
    settings = WorkerSettings(lease=5.0, heartbeat=0.2)
    with TestEnvironment(handlers=handlers, blueprints=GRAPH, redis_url=store.url, settings=settings) as env:
        route_keys(env)
        yield env


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_full(env: TestEnvironment, gate: Gate) -> None:
    run = env.client.start("g")
    gate.began.wait(10)
    env.link.redis.config_set("maxmemory", "1mb")
    with pytest.raises(
        BackendRefusedError, match=r"cannot start a run: Redis at .* refuses: its memory is full \(maxmemory\)"
    ) as raised:
        env.client.start("g")
    assert (raised.value.reason, raised.value.maybe_applied) == ("full", False)
    assert isinstance(raised.value, ConnectionError)
    before = env.link.redis.zscore(env.keys.leases, f"{run.run_id}|a")
    until(lambda: env.link.redis.zscore(env.keys.leases, f"{run.run_id}|a") > before)  # nobody takes the node over
    gate.let.set()
    assert run.result(60) == {"a": "through", "b": "through"}, "what runs goes on"
    assert gate.calls == 1
    env.link.redis.config_set("maxmemory", 0)
    assert env.client.execute("g", timeout=60)["b"] == "through"


def test_a_node_that_streams_completes_while_memory_is_full(env: TestEnvironment, gate: Gate) -> None:
    run = env.client.start("g")
    assert gate.began.wait(60)
    items = run.stream("a", timeout=30)
    assert [next(items).id for _ in range(2)] == ["1-0", "1-1"]
    env.link.redis.config_set("maxmemory", "1mb")
    gate.let.set()
    assert run.result(60) == {"a": "through", "b": "through"}
    assert [item.id for item in items] == ["1-1-end"], "what there was no room for is left out"
    env.link.redis.config_set("maxmemory", 0)


def test_a_run_can_be_cancelled_while_memory_is_full(env: TestEnvironment) -> None:
    run = env.client.start("g", delay=100)
    env.link.redis.config_set("maxmemory", "1mb")
    assert run.cancel(grace=0)
    assert run.status() is RunStatus.CANCELLED
    env.link.redis.config_set("maxmemory", 0)


def test_read_only(env: TestEnvironment, gate: Gate) -> None:
    run = env.client.start("g")
    gate.began.wait(10)
    env.link.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(BackendRefusedError, match="it is a read-only replica, as after a failover") as raised:
        env.client.start("g")
    assert raised.value.reason == "read-only"
    gate.let.set()
    with pytest.raises(TimeoutError):
        run.result(0.5)  # reading goes on
    env.link.redis.execute_command("REPLICAOF", "NO", "ONE")
    assert run.result(60) == {"a": "through", "b": "through"}
    assert gate.calls == 1, "what was finished was kept"


def test_it_cannot_save(env: TestEnvironment, gate: Gate, store: EmbeddedStore) -> None:
    run = env.client.start("g")
    gate.began.wait(10)
    client = env.link.redis
    client.config_set("save", "3600 1")
    (store.data_dir / "dump.rdb").mkdir()  # in the place of the file
    client.bgsave()
    until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    with Client(env.url, namespace=env.namespace) as other:
        with pytest.raises(BackendRefusedError, match="cannot save to its disk") as raised:
            other.start("g")
        assert raised.value.reason == "cannot-save"
    gate.let.set()
    client.config_set("stop-writes-on-bgsave-error", "no")
    assert run.result(60) == {"a": "through", "b": "through"}
    assert gate.calls == 1


def test_too_few_replicas(env: TestEnvironment, gate: Gate) -> None:
    env.link.redis.config_set("min-replicas-to-write", 1)
    with pytest.raises(BackendRefusedError, match="min-replicas-to-write") as raised:
        env.client.start("g")
    assert raised.value.reason == "too-few-replicas"
    env.link.redis.config_set("min-replicas-to-write", 0)
    gate.let.set()
    assert env.client.execute("g", timeout=60)["b"] == "through"


def test_forgotten_scripts(env: TestEnvironment, gate: Gate) -> None:
    run = env.client.start("g")
    gate.began.wait(10)
    env.link.redis.script_flush()
    gate.let.set()
    assert run.result(60) == {"a": "through", "b": "through"}
    env.link.redis.script_flush()
    assert env.client.execute("g", timeout=60)["b"] == "through"
    assert gate.calls == 2


def test_the_clock_of_a_worker_jumps(env: TestEnvironment, gate: Gate) -> None:
    run = env.client.start("g")
    gate.began.wait(10)
    with freeze_time("2001-01-01"):
        for worker in env.workers:
            worker.wake()
        gate.let.set()
        ended = run.wait(10)
    with freeze_time("2091-01-01"):
        later = env.client.start("g").wait(10)
    for snapshot in (ended, later):
        assert snapshot.status is RunStatus.COMPLETED
        assert snapshot.ended_at is not None
        assert abs((env.clock.now() - snapshot.ended_at).total_seconds()) < 60
    assert gate.calls == 2


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "loading"),
        (redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "cannot-save"),
        (redis.exceptions.ResponseError("BUSY Redis is busy running a script"), "busy"),
        (redis.exceptions.ClusterDownError("The cluster is down"), "cluster"),
        (redis.exceptions.ResponseError("ERR unknown command"), None),
        (redis.exceptions.TimeoutError("no answer"), None),
    ],
)
def test_each_trouble_has_a_name(error: Exception, name: str | None) -> None:
    found = condition_of(error)
    assert (None if found is None else found.name) == name


@pytest.mark.parametrize(
    "forbidden",
    ["-hmget", "-hget", "-hset", "-@all +multi +exec +time +get +evalsha +eval +script +ping +hello +acl +info"],
)
def test_commands_that_are_forbidden_for_a_while_set_nothing_aside(tmp_path: Path, forbidden: str) -> None:
    """A change of rights gone wrong is no fault of the records."""
    blueprint = (
        "nodes:\n  a: {uses: work}\n  b: {uses: sleep, params: {duration: 5s}}\n  c: {uses: work, needs: [a, b]}\n"
    )
    with (
        EmbeddedStore(tmp_path / "store", durable=False) as store,
        TestEnvironment(
            redis_url=store.url, blueprints={"g": blueprint}, handlers={"work": lambda ctx: 1}, workers=0
        ) as env,
    ):
        runs = [env.client.start("g", run_id=f"r{n}") for n in range(3)]
        seat = ClaimRequest("w1", 10_000, "default")
        env.link.call(scripts.claim(env.keys, seat, 2))
        env.clock.advance(60, keep_leases=False)
        env.link.redis.execute_command("ACL", "SETUSER", "default", *forbidden.split())
        for call in (
            scripts.sweep(env.keys, limit=9, max_crashes=3, grace_ms=1, queues="default"),
            scripts.claim(env.keys, seat, 2),
        ):
            with suppress(redis.exceptions.RedisError):
                env.link.call(call)
        env.link.redis.execute_command("ACL", "SETUSER", "default", "+@all")
        assert env.link.redis.hlen(env.keys.broken) == 0
        env.add_worker()
        for run in runs:
            run.wait_for(RunStatus.WAITING, timeout=60) if not run.done() else None
        env.clock.advance(6)
        assert [run.result(timeout=60)["c"] for run in runs] == [1, 1, 1]
        assert env.client.admin.examine() == []
