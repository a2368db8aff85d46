"""A run whose plan is no longer in Redis fails and says so; nothing hangs on it, nothing else is disturbed."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import RunFailedError, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.claims import parse_claim
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
SEAT = ClaimRequest("w1", 10_000, "default")


def graph(name: str, *uses: str) -> dict[str, Any]:
    nodes = [{"id": f"n{i}", "uses": each} for i, each in enumerate(uses)]
    edges = [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(len(uses) - 1)]
    return {"id": name, "nodes": nodes, "edges": edges}


SUB = {"id": "s", "uses": "subflow", "params": {"blueprintId": "pause"}}
GRAPHS: dict[str, Any] = {
    "lost": graph("lost", "do", "do"),
    "other": graph("other", "do"),
    "pause": graph("pause", "wait"),
    "up": {"id": "up", "nodes": [SUB, {"id": "n0", "uses": "do"}], "edges": []},
}


@pytest.fixture
def env(environment: Make) -> TestEnvironment:
    return environment(workers=0, handlers={"do": lambda ctx: 1}, blueprints=GRAPHS)


def lose(env: TestEnvironment, run_id: str) -> bytes:
    plan = env.link.redis.hget(env.keys.run(run_id), "plan")
    env.link.redis.rename(env.keys.plan(plan.decode()), env.keys.base + "aside")
    return bytes(plan)


def put_back(env: TestEnvironment, plan: bytes) -> None:
    env.link.redis.rename(env.keys.base + "aside", env.keys.plan(plan.decode()))


def test_a_ready_node_is_not_lost_with_its_plan(env: TestEnvironment) -> None:
    run = env.client.start("lost")
    other = env.client.start("other")
    plan = lose(env, run.run_id)
    env.add_worker()
    assert other.result(60) == {"n0": 1}
    with pytest.raises(
        RunFailedError, match=r"plan \w+ of blueprint lost is no longer in Redis; publish it again"
    ) as raised:
        run.result(60)
    assert raised.value.failure.type == "PlanMissing"
    put_back(env, plan)


def test_a_worker_that_has_the_plan_fails_the_run_too(env: TestEnvironment) -> None:
    run = env.client.start("lost", run_id="r")
    claim = parse_claim(env.link.call(scripts.claim(env.keys, SEAT))[0])
    plan = lose(env, "r")
    env.clock.advance(11, keep_leases=False)  # the worker is gone as well
    env.add_worker()
    with pytest.raises(RunFailedError, match="is no longer in Redis"):
        run.result(10)
    assert claim.instance_id == "n0"
    put_back(env, plan)


def test_the_children_of_such_a_run_are_stopped(env: TestEnvironment) -> None:
    run = env.client.start("up", run_id="r")
    claims = [parse_claim(reply) for reply in env.link.call(scripts.claim(env.keys, SEAT, 2))]
    fences = {claim.instance_id: claim.fencing_token for claim in claims}
    env.link.call(
        scripts.start_child(
            env.keys,
            run_id="r",
            instance_id="s",
            fencing_token=fences.pop("s"),
            blueprint_id="pause",
            max_depth=9,
            context={},
        )
    )
    for instance_id, fencing_token in fences.items():
        env.link.call(scripts.release(env.keys, run_id="r", instance_id=instance_id, fencing_token=fencing_token))
    plan = lose(env, "r")
    env.add_worker()
    with pytest.raises(RunFailedError, match="is no longer in Redis"):
        run.result(10)
    assert env.client.get_handle("r~1").wait(10).status is RunStatus.CANCELLED
    put_back(env, plan)


def test_an_outcome_for_such_a_run_is_refused_and_the_run_fails(env: TestEnvironment) -> None:
    run = env.client.start("lost", run_id="r")
    claim = parse_claim(env.link.call(scripts.claim(env.keys, SEAT))[0])
    plan = lose(env, "r")
    node: dict[str, Any] = {"run_id": "r", "instance_id": "n0", "fencing_token": claim.fencing_token}
    done = {"plan": claim.plan_hash, "state": "C", "action": "", "decisions": "t", "output": b"1"}
    assert env.link.call(scripts.complete(env.keys, SEAT, **node, **done))[0] == b"stale"
    assert env.link.call(scripts.fail(env.keys, SEAT, verdict="final", failure=b"{}", **node))[0] == b"stale"
    assert env.link.call(scripts.park(env.keys, kind="signal", **node))[0] == b"stale"
    assert env.link.redis.zscore(env.keys.leases, "r|n0") is not None
    env.add_worker()
    with pytest.raises(RunFailedError, match="is no longer in Redis"):
        run.result(10)
    put_back(env, plan)


def test_such_a_run_can_be_cancelled(env: TestEnvironment) -> None:
    run = env.client.start("lost", run_id="r")
    plan = lose(env, "r")
    assert run.cancel()
    assert run.status() is RunStatus.FAILED
    put_back(env, plan)


def test_the_end_of_a_child_wakes_a_parent_without_a_plan(env: TestEnvironment) -> None:
    run = env.client.start("up", run_id="r")
    while parse := env.link.call(scripts.claim(env.keys, SEAT)):
        claim = parse_claim(parse[0])
        if claim.instance_id == "s":
            child: dict[str, Any] = {
                "run_id": "r",
                "instance_id": "s",
                "fencing_token": claim.fencing_token,
                "blueprint_id": "other",
            }
            env.link.call(scripts.start_child(env.keys, max_depth=9, context={}, **child))
            break
    plan = lose(env, "r")
    env.clock.advance(11, keep_leases=False)
    env.add_worker()
    with pytest.raises(RunFailedError, match="is no longer in Redis"):
        run.result(10)
    put_back(env, plan)
