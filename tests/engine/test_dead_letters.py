"""Nodes that killed their workers: listed, done again, dropped."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import (
    AsyncClient,
    DeadLetter,
    DeadLetterNotFoundError,
    NodeContext,
    RunNotFoundError,
    RunStateError,
    RunStatus,
)
from flowcraft_sdk._operations.deployment import record
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.scripts import ClaimRequest, Keep
from flowcraft_server.engine.claims import parse_claim
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
GRAPHS: dict[str, Any] = {
    "g": {
        "id": "g",
        "nodes": [{"id": "w", "uses": "write", "inputs": "x"}, {"id": "a", "uses": "deadly", "inputs": "x"}],
        "edges": [{"source": "w", "target": "a"}],
    },
    "up": {
        "id": "up",
        "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": "g", "inputs": {"x": "x"}}}],
        "edges": [],
    },
    "with": {
        "id": "with",
        "nodes": [{"id": "a", "uses": "deadly", "config": {"fallback": "b"}}, {"id": "b", "uses": "wait"}],
        "edges": [],
    },
}


def write(ctx: NodeContext) -> Any:
    """Writes over what the run was started with, and besides it."""
    ctx.context.set("x", "overwritten")
    ctx.context.set("more", 1)
    ctx.context.delete("gone")
    return ctx.input


@pytest.fixture
def env(environment: Make) -> TestEnvironment:
    return environment(workers=0, handlers={"write": write, "deadly": lambda ctx: ctx.input}, blueprints=GRAPHS)


def keys_of(env: TestEnvironment, run_id: str = "r") -> Keys:
    """The keys where a run lies."""
    return env.partitions.for_run(run_id)


def kill(env: TestEnvironment, crashes: int = 3, run_id: str = "r") -> None:
    """Let workers die of the next node in the queue, which was their only one."""
    claim_request, keys = ClaimRequest("w1", 10_000, "default,default!"), keys_of(env, run_id)
    sweep = scripts.sweep(keys, limit=100, max_crashes=crashes, grace_ms=1000, queues="default", alone=["w1"])
    for _ in range(crashes):
        assert env.link.call(scripts.claim(keys, claim_request))
        env.clock.advance(11, keep_leases=False)
        env.link.call(sweep)


def letter(env: TestEnvironment, run_id: str = "r", **options: Any) -> DeadLetter:
    env.client.start("g", {"x": [1], "gone": None}, run_id=run_id, **options)
    complete_first(env, run_id)
    kill(env, run_id=run_id)
    (found,) = [each for each in env.client.admin.dead_letters() if each.run_id == run_id]
    return found


def complete_first(env: TestEnvironment, run_id: str = "r") -> None:
    """Do node `w` by hand, as its handler does it."""
    claim_request = ClaimRequest("w1", 10_000, "default", "-")
    keys = keys_of(env, run_id)
    claim = parse_claim(env.link.call(scripts.claim(keys, claim_request))[0])
    call = scripts.complete(
        keys, claim_request, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token, plan=claim.plan_hash, state="C", action="",
        decisions="t", output=b"[1]", writes=[("x", b'"overwritten"'), ("more", b"1")], deletes=["gone"],
    )  # fmt: skip
    assert env.link.call(call)[0] == b"ok"


def test_a_letter_says_which_node_when_and_why(env: TestEnvironment) -> None:
    found = letter(env)
    assert (found.run_id, found.node_id, found.blueprint_id, found.crashes) == ("r", "a", "g", 3)
    assert found.status is RunStatus.FAILED
    assert (
        found.reason
        == "WorkerLost: the worker died or stalled 3 times while running this node alone (executor.maxCrashes)"
    )
    assert abs((env.clock.now() - found.at).total_seconds()) < 60


def test_a_replay_is_a_new_run_with_the_context_that_the_old_one_was_started_with(env: TestEnvironment) -> None:
    letter(env, tags=["blue"], memo={"by": "test"})
    before = env.client.get_handle("r").describe(ctx=True, outputs=True)
    assert before.ctx is not None and before.ctx["x"] == "overwritten"
    again = env.client.admin.replay("r")
    assert (again.run_id, again.attached) == ("r~replay", False)
    env.add_worker()
    assert again.result(60) == {"w": [1], "a": "overwritten", "x": "overwritten", "more": 1}
    reported = again.describe()
    assert (reported.forked_from, reported.tags, reported.memo) == ("r", ("blue",), {"by": "test"})
    assert reported.blueprint_version == before.blueprint_version
    assert env.client.get_handle("r").describe(ctx=True, outputs=True) == before, "an ended run never changes"
    assert env.client.admin.dead_letters() == []
    with pytest.raises(DeadLetterNotFoundError):
        env.client.admin.replay("r")


def test_the_start_context_is_what_it_was(env: TestEnvironment) -> None:
    letter(env)
    fields = env.client.driver.run(record(env.client.deployment, "r"))
    assert fields.start_context() == {"x": "[1]", "gone": "null"}


def test_a_replay_that_was_cut_off_is_taken_up(env: TestEnvironment) -> None:
    letter(env)
    env.client.admin.replay("r")
    env.link.redis.zadd(keys_of(env).dead, {"r|a": 1})  # as if it had ended before it dropped the letter
    again = env.client.admin.replay("r")
    assert again.attached
    assert env.client.count_runs() == 2
    assert env.client.admin.dead_letters() == []


def test_of_a_child_the_outermost_parent_is_done_again(env: TestEnvironment) -> None:
    env.client.start("up", {"x": [1]}, run_id="top")
    claim = parse_claim(env.link.call(scripts.claim(keys_of(env, "top"), ClaimRequest("w1", 10_000, "default")))[0])
    child = scripts.start_child(
        keys_of(env, "top"),
        run_id="top",
        instance_id="s",
        fencing_token=claim.fencing_token,
        blueprint_id="g",
        max_depth=9,
        context={"x": b"[1]"},
    )
    assert env.link.call(child) == [b"ok", b"top~1"]
    complete_first(env, "top")
    kill(env, run_id="top")
    (found,) = env.client.admin.dead_letters()
    assert found.run_id == "top~1"
    with pytest.raises(RunStateError, match="run top is still running; replay it when it has ended"):
        env.client.admin.replay("top~1")
    env.client.get_handle("top").cancel(grace=0)
    assert env.client.admin.replay("top~1").run_id == "top~replay"


def test_a_run_that_goes_on_is_not_done_again(env: TestEnvironment) -> None:
    env.client.start("with", run_id="r")
    kill(env)
    assert [each.node_id for each in env.client.admin.dead_letters()] == ["a"], "its fallback goes on"
    with pytest.raises(RunStateError, match=r"run r is still (queued|running)"):
        env.client.admin.replay("r")
    assert len(env.client.admin.dead_letters()) == 1


def test_dropping(env: TestEnvironment) -> None:
    letter(env)
    with pytest.raises(DeadLetterNotFoundError, match="no dead letter of run r, node 'w'"):
        env.client.admin.delete_dead_letters("r", "w")
    assert env.client.admin.delete_dead_letters("r", "a") == 1
    with pytest.raises(DeadLetterNotFoundError):
        env.client.admin.delete_dead_letters("r")
    with pytest.raises(RunNotFoundError):
        env.client.admin.replay("never")
    assert env.client.get_handle("r").status() is RunStatus.FAILED


def test_letters_go_with_their_run(env: TestEnvironment) -> None:
    letter(env)
    env.clock.advance(100)
    rules = [Keep("failed", 1000, None)]
    env.link.call(
        scripts.expire(keys_of(env), keep=rules, bytes=None, tombstone_age_ms=10**9, tombstone_count=9, limit=10)
    )
    assert env.client.admin.dead_letters() == []
    assert not env.link.redis.exists(keys_of(env).dead)


def test_for_asyncio(env: TestEnvironment) -> None:
    async def use() -> None:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            assert len(await client.admin.dead_letters(limit=1)) == 1
            assert (await client.admin.replay("r")).run_id == "r~replay"
            assert await client.admin.examine() == []

    letter(env)
    asyncio.run(use())
