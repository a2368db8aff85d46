"""Priorities of runs: which ready nodes are claimed first, and that none waits for ever."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

CHAIN = {
    "id": "chain",
    "nodes": [{"id": "a", "uses": "x"}, {"id": "b", "uses": "x"}],
    "edges": [{"source": "a", "target": "b"}],
}
WIDE = {
    "id": "wide",
    "nodes": [{"id": "a", "uses": "x"}, {"id": "b", "uses": "x"}, {"id": "c", "uses": "x"}],
    "edges": [{"source": "a", "target": "b"}, {"source": "a", "target": "c"}],
}
PARENT = {"id": "parent", "nodes": [{"id": "sub", "uses": "subflow", "params": {"blueprintId": "chain"}}]}
SEAT = ClaimRequest("w", 600_000, "default")


@pytest.fixture
def env(environment: Callable[..., TestEnvironment]) -> TestEnvironment:
    return environment(
        handlers={"x": lambda ctx: 1}, blueprints=[CHAIN, WIDE, PARENT], workers=0, partitions=1,
        settings=WorkerSettings(threads=1),
    )  # fmt: skip


def claimed(env: TestEnvironment, count: int = 1) -> list[str]:
    found = [parse_claim(each) for each in env.link.call(scripts.claim(env.keys, SEAT, count))]
    return [f"{claim.run_id}.{claim.instance_id}" for claim in found if claim]


def complete(env: TestEnvironment, claim: Claim | None, decisions: str) -> Claim | None:
    assert claim is not None
    reply = env.link.call(
        scripts.complete(
            env.keys, SEAT, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token,
            plan=claim.plan_hash, state="C", action="", decisions=decisions, output=b"1",
        )
    )  # fmt: skip
    return parse_claim(reply[2]) if reply[2] else None


def test_high_comes_first_and_low_last(env: TestEnvironment) -> None:
    for priority in ("low", None, "normal", "high"):
        env.client.start("chain", run_id=str(priority), priority=priority)
        env.clock.advance(0.01)
    assert env.client.get_handle("high").describe().priority == "high"
    assert env.client.get_handle("None").describe().priority == "normal"
    assert claimed(env, 9) == ["high.a", "None.a", "normal.a", "low.a"]


def test_none_waits_longer_than_an_hour_behind_others(env: TestEnvironment) -> None:
    env.client.start("chain", run_id="low", priority="low")
    env.clock.advance(3590)
    env.client.start("chain", run_id="before")
    env.clock.advance(0.01)
    env.client.start("chain", run_id="normal")
    env.clock.advance(20)
    env.client.start("chain", run_id="after")
    env.clock.advance(3590)
    env.client.start("chain", run_id="high", priority="high")
    (queue,) = env.client.admin.queues()
    assert 7200 <= (queue.oldest_age or 0) < 7260
    assert claimed(env, 9) == ["before.a", "normal.a", "low.a", "high.a", "after.a"]


def test_a_chain_is_not_handed_on_ahead_of_a_higher_priority(env: TestEnvironment) -> None:
    env.client.start("chain", run_id="low", priority="low")
    (low,) = map(parse_claim, env.link.call(scripts.claim(env.keys, SEAT)))
    env.client.start("chain", run_id="normal")
    normal = complete(env, low, "t")  # its successor waits
    assert normal is not None and normal.run_id == "normal"
    env.client.start("wide", run_id="high", priority="high")
    high = complete(env, normal, "t")
    assert high is not None and (high.run_id, high.instance_id) == ("high", "a")
    following = complete(env, high, "tt")  # of its own run, as nothing higher waits
    assert following is not None and following.run_id == "high"
    assert claimed(env, 9) == ["high.c" if following.instance_id == "b" else "high.b", "normal.b", "low.b"]


def test_children_retries_and_replays_have_the_priority_of_their_run(env: TestEnvironment) -> None:
    env.client.start("chain", run_id="before")
    parent = env.client.start("parent", run_id="parent", priority="high")
    env.clock.advance(0.01)
    env.client.start("chain", run_id="below", parent=parent)
    env.client.start("chain", run_id="own", parent=parent, priority="normal")
    assert env.client.get_handle("below").describe().priority == "high"
    assert env.client.get_handle("own").describe().priority == "normal"
    (sub, below) = map(parse_claim, env.link.call(scripts.claim(env.keys, SEAT, 2)))
    assert sub is not None and below is not None and (sub.run_id, below.run_id) == ("parent", "below")
    env.link.call(
        scripts.start_child(
            env.keys, run_id="parent", instance_id="sub", fencing_token=sub.fencing_token, blueprint_id="chain",
            max_depth=9, context={},
        )
    )  # fmt: skip
    env.link.call(
        scripts.fail(
            env.keys, ClaimRequest("w", 9_000, "default", scripts.ClaimMode.NONE), run_id="below", instance_id="a",
            fencing_token=below.fencing_token, verdict="retry", failure=b"{}",
        )
    )  # fmt: skip
    assert sorted(claimed(env, 2)) == ["below.a", "parent~1.a"]
    assert sorted(claimed(env, 9)) == ["before.a", "own.a"]


def test_runs_of_all_priorities_end(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(handlers={"x": lambda ctx: 1}, blueprints=[CHAIN, WIDE, PARENT])
    runs = [
        env.client.start(("chain", "wide", "parent")[number % 3], priority=("high", "normal", "low")[number // 3 % 3])
        for number in range(90)
    ]
    for run in runs:
        run.result(timeout=60)


@pytest.mark.parametrize("wrong", ["urgent", 1, ""])
def test_another_priority_is_refused(env: TestEnvironment, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="priority is 'high', 'normal' or 'low'"):
        env.client.start("chain", priority=wrong)
