"""Named queues: routing of nodes, and pausing."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import AsyncClient, Client, ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.api.stretches import stretches_of
from flowcraft_server.engine.claims import parse_claim
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

CHAIN = {
    "id": "chain",
    "nodes": [{"id": "a", "uses": "x"}, {"id": "b", "uses": "x", "config": {"queue": "io"}}, {"id": "c", "uses": "x"}],
    "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "c"}],
}
QUEUES = ("default", "io")


@pytest.fixture
def env(environment: Callable[..., TestEnvironment]) -> TestEnvironment:
    def x(ctx: Any) -> str:
        return str(ctx.node_id)

    return environment(
        settings=WorkerSettings(queues=QUEUES, threads=2), handlers={"x": x}, blueprints=CHAIN, workers=0
    )


def statuses(client: Client, run_id: str) -> dict[str, str]:
    return {name: str(node.status) for name, node in client.get_handle(run_id).describe().nodes.items()}


def test_the_history_has_since_when_a_node_was_ready(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(blueprints={"one": "nodes:\n  a: {uses: ok}\n"}, handlers={"ok": lambda ctx: None})
    admin = env.client.admin
    admin.pause_queue("default")
    run = env.client.start("one")
    env.clock.advance(60)
    admin.resume_queue("default")
    run.wait(60)
    (started,) = [event for event in run.events() if event.type == "node_started"]
    assert started.data["worker"]
    ready_at = started.data["ready_at"]
    assert 60 <= (started.at - ready_at).total_seconds() < 120
    stretches = stretches_of(run.events())["a"]
    assert [(each.kind, each.begin, each.state) for each in stretches] == [
        ("queue", ready_at, "queued"),
        ("run", started.at, "completed"),
    ]


def test_nothing_of_a_paused_queue_is_claimed(env: TestEnvironment) -> None:
    admin, client = env.client.admin, env.client
    since = admin.pause_queue("io").paused_since
    assert since is not None and admin.pause_queue("io").paused_since == since

    env.add_worker()
    client.start("chain", {}, run_id="r")
    env.run_until_idle()  # a hand-over from a to b would be a claim, too
    assert statuses(client, "r") == {"a": "completed", "b": "ready", "c": "pending"}
    node = client.get_handle("r").describe().nodes["b"]
    assert (node.queue, node.blocked_by) == ("io", "queue 'io' is paused")
    assert env.link.call(scripts.claim(env.partitions.for_run("r"), ClaimRequest("other", 9_000, "io"), 5)) == []

    env.clock.advance(3)
    found = {queue.name: queue for queue in admin.queues()}
    assert list(found) == ["default", "io"]
    io = found["io"]
    assert (io.ready, io.workers, io.paused_since) == (1, 1, since) and 3 <= (io.oldest_age or 0) < 60
    assert (found["default"].ready, found["default"].oldest_age, found["default"].paused_since) == (0, None, None)
    (defect,) = [each for each in admin.examine() if each.kind == "queue-paused"]
    assert "1 node is ready in queue 'io', which is paused since" in defect.explanation
    assert [each.kind for each in admin.examine("r")] == ["queue-paused"]

    resumed = admin.resume_queue("io")
    assert resumed.paused_since is None
    assert client.get_handle("r").result(timeout=60)["c"] == "c"
    assert admin.resume_queue("io").paused_since is None


def test_what_is_held_runs_on(env: TestEnvironment) -> None:
    keys, seat = env.partitions.for_run("r"), ClaimRequest("w", 600_000, "default,io")
    env.client.start("chain", {}, run_id="r")
    (claimed,) = env.link.call(scripts.claim(keys, seat))
    held = parse_claim(claimed)
    assert held is not None
    for queue in QUEUES:
        env.client.admin.pause_queue(queue)
    outcome = scripts.complete(
        keys, seat, run_id="r", instance_id="a", fencing_token=held.fencing_token, plan=held.plan_hash, state="C",
        action="", decisions="t", output=b"1",
    )  # fmt: skip
    assert env.link.call(outcome) == [b"ok", b"running", None, 0]
    assert statuses(env.client, "r") == {"a": "completed", "b": "ready", "c": "pending"}
    for queue in QUEUES:
        env.client.admin.resume_queue(queue)
    env.add_worker()
    env.client.get_handle("r").result(timeout=60)


def test_a_pause_outlives_workers_and_suspects_wait_as_well(env: TestEnvironment) -> None:
    env.client.admin.pause_queue("default")
    env.client.start("chain", {}, run_id="r")
    keys = env.partitions.for_run("r")
    env.add_worker().sever()
    assert env.link.redis.zcard(keys.ready("default")) == 1
    env.link.redis.rename(keys.ready("default"), keys.suspects("default"))
    env.link.redis.hset(keys.run("r"), "n:a", "R|1|0|0|0|default!")
    assert env.link.call(scripts.claim_suspects(keys, ClaimRequest("w", 9_000, "default"))) == []
    env.client.admin.resume_queue("default")
    env.add_worker()
    assert env.client.get_handle("r").result(timeout=60)["c"] == "c"


def test_the_asyncio_client_does_the_same(env: TestEnvironment) -> None:
    async def go() -> list[Any]:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            paused = await client.admin.pause_queue("io")
            listed = [queue.name for queue in await client.admin.queues()]
            return [paused.paused_since is not None, listed, (await client.admin.resume_queue("io")).paused_since]

    assert asyncio.run(go()) == [True, ["default", "io"], None]


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 65, 3])
def test_what_is_no_name_for_a_queue_is_refused(env: TestEnvironment, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="queue"):
        env.client.admin.pause_queue(wrong)


def test_two_thousand_nodes_are_resumed_at_once(env: TestEnvironment) -> None:
    admin = env.client.admin
    admin.pause_queue("default")
    for number in range(40):
        env.client.start("chain", {}, run_id=f"m{number}")
    env.add_worker()
    assert admin.resume_queue("default").ready <= 40
    for number in range(40):
        assert env.client.get_handle(f"m{number}").result(timeout=60)["c"] == "c"
