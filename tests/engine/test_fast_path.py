"""The fast path asks for the flag in the plan; a plan without flags, which an older release published, runs all the same."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk.records import RunStatus
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.testing import TestEnvironment

GRAPH = {
    "id": "g",
    "nodes": [
        {"id": "a", "uses": "echo"},
        {"id": "b", "uses": "echo"},
        {"id": "c", "uses": "echo", "inputs": {"x": "a", "k": "k"}},
        {"id": "d", "uses": "write", "config": {"joinStrategy": "all"}},
        {"id": "e", "uses": "echo"},
        {"id": "alone", "uses": "echo"},
    ],
    "edges": [
        {"source": "a", "target": "b"},
        {"source": "a", "target": "c", "transform": "result"},
        {"source": "b", "target": "d"},
        {"source": "c", "target": "d"},
        {"source": "d", "target": "e"},
    ],
}


def write(ctx: Any) -> Any:
    ctx.context.set("k", 7)
    return ctx.input


def older(env: TestEnvironment) -> None:
    """Take the flags from the published plan."""
    redis, (plan,) = env.link.redis, env.link.redis.hvals(env.keys.blueprints)
    key = env.keys.plan(plan.decode())
    for name, text in redis.hgetall(key).items():
        value = json.loads(text)
        if name == b"meta":
            assert value.pop("fast") == 1
        elif name.startswith(b"n:"):
            assert value[5].pop("fast") == 1
            value = value if value[5] else value[:5]
        redis.hset(key, name, json.dumps(value))


def played(env: TestEnvironment) -> Any:
    """What a run comes to, without times."""
    run = env.client.start("g", {"k": 1}, run_id="r")
    env.run_until_idle()
    snapshot = run.describe(ctx=True, outputs=True)
    assert snapshot.status is RunStatus.COMPLETED
    nodes = {name: (node.status, node.attempts, node.output) for name, node in snapshot.nodes.items()}
    history = env.link.redis.lrange(env.keys.events("r"), 0, -1)
    events = sorted(tuple(event.decode().split("|")[::2][:2]) for event in history)
    return nodes, snapshot.ctx, snapshot.output, events


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "data") as store:
        yield store


def run_of(store: EmbeddedStore, prepare: Callable[[TestEnvironment], None]) -> Any:
    with TestEnvironment(
        handlers={"echo": lambda ctx: ctx.input, "write": write}, blueprints=GRAPH, redis_url=store.url
    ) as env:
        prepare(env)
        return played(env)


def test_a_plan_without_flags_runs_as_one_with_them(store: EmbeddedStore) -> None:
    assert run_of(store, older) == run_of(store, lambda env: None)


def test_a_node_to_which_a_later_release_has_added_something_runs_as_before(store: EmbeddedStore) -> None:
    """A feature that this release does not know: the later compiler has set no flag."""

    def later(env: TestEnvironment) -> None:
        key = env.keys.plan(env.link.redis.hvals(env.keys.blueprints)[0].decode())
        entry = json.loads(env.link.redis.hget(key, "n:a"))
        env.link.redis.hset(key, "n:a", json.dumps([*entry[:5], {"unheard-of": 1}]))

    assert run_of(store, later) == run_of(store, lambda env: None)
