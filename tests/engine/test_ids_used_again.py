"""A run id that is used again: the new run has nothing of the old one, whatever still runs for that."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk import NodeCancelled, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest, Keep
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
GRAPH = "nodes:\n  n: {uses: work, inputs: who}\n  m: {uses: work, needs: n, inputs: who}\n"
SEAT = ClaimRequest("w1", 10_000, "default")


class Gate:
    """A handler that the first run waits in."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()
        self.read: list[Any] = []

    def work(self, ctx: Any) -> Any:
        if ctx.input == "old":
            self.began.set()
            assert self.go.wait(60)
            try:
                self.read.append(ctx.context.get("secret"))
            except NodeCancelled as cancelled:
                self.read.append(type(cancelled))
                raise
        ctx.context.set("seen", ctx.input)
        return f"output of {ctx.input}"

    async def work_async(self, ctx: Any) -> Any:
        return ctx.input


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.go.set()


def removed(env: TestEnvironment, run_id: str) -> None:
    """What is lost if Redis comes back empty: the run and all that stands for it."""
    redis = env.link.redis
    for name in redis.scan_iter(match=f"{env.partitions.for_run(run_id).base}*"):
        kind = redis.type(name)
        if kind == b"zset":
            for member in redis.zrange(name, 0, -1):
                if run_id.encode() in member.split(b"|"):
                    redis.zrem(name, member)
        elif name.endswith(b":" + run_id.encode()):
            redis.delete(name)


def claimed(env: TestEnvironment) -> Claim:
    (reply,) = env.link.call(scripts.claim(env.partitions.for_run("r"), SEAT, 1))
    return parse_claim(reply)


def test_an_outcome_of_the_old_run_is_none_of_the_new_one(environment: Make, gate: Gate) -> None:
    env = environment(blueprints={"g": GRAPH}, handlers={"work": gate.work}, workers=1)
    env.client.start("g", {"who": "old"}, run_id="pay")
    assert gate.began.wait(60)
    removed(env, "pay")
    env.clock.advance(0.01)
    new = env.client.start("g", {"who": "new", "secret": "of the new run"}, run_id="pay")
    gate.go.set()
    assert new.result(timeout=60) == {
        "who": "new", "secret": "of the new run", "seen": "new", "n": "output of new", "m": "output of new",
    }  # fmt: skip
    assert gate.read == [NodeCancelled], "nothing of the new run is read for the old one"
    assert env.client.admin.examine() == []


@pytest.mark.parametrize("how", ["complete", "fail", "release", "emit", "renew", "slow path"])
def test_calls_about_the_old_run_are_refused(environment: Make, how: str) -> None:
    env = environment(blueprints={"g": GRAPH}, handlers={"work": lambda ctx: 1}, workers=0)
    keys = env.partitions.for_run("r")
    env.client.start("g", {"who": "old"}, run_id="r")
    old = claimed(env)
    removed(env, "r")
    env.clock.advance(0.01)
    env.client.start("g", {"who": "new"}, run_id="r")
    new = claimed(env)
    assert (old.claims, old.instance_id) == (new.claims, new.instance_id) == (1, "n")
    assert old.fencing_token != new.fencing_token
    where: dict[str, Any] = {"run_id": "r", "instance_id": "n", "fencing_token": old.fencing_token}
    if how in ("complete", "slow path"):
        more = {"writes": (("k", b"1"),)} if how == "slow path" else {}
        call = scripts.complete(
            keys, SEAT, plan=old.plan_hash, state="C", action="", decisions="t", output=b"1", **where, **more
        )
        assert env.link.call(call)[0] == b"stale"
    elif how == "fail":
        assert env.link.call(scripts.fail(keys, SEAT, verdict="final", failure=b"{}", **where))[0] == b"stale"
    elif how == "release":
        assert env.link.call(scripts.release(keys, **where))[0] == b"stale"
    elif how == "emit":
        assert env.link.call(scripts.emit(keys, events=[("g", b'[0.5,""]')], **where)) == 0
    else:
        held = [("r", "n", old.fencing_token)]
        assert env.link.call(scripts.renew(keys, worker="w1", lease_ms=1000, held=held)) == [b"r", b"n", b"lost"]
        held = [("r", "n", new.fencing_token)]
        assert env.link.call(scripts.renew(keys, worker="w1", lease_ms=1000, held=held)) == []
    assert env.client.get_handle("r").describe().nodes["n"].status == "running"


def test_a_cancel_of_the_old_run_is_none_of_the_new_one(environment: Make, gate: Gate) -> None:
    env = environment(blueprints={"g": GRAPH}, handlers={"work": gate.work}, workers=1)
    old = env.client.start("g", {"who": "old"}, run_id="order")
    assert gate.began.wait(60)
    old.cancel(grace=0)
    assert old.wait(timeout=10).status == RunStatus.CANCELLED
    env.clock.advance(5)
    env.link.call(
        scripts.expire(
            env.partitions.for_run("order"),
            keep=[Keep("cancelled", 1, None)],
            bytes=None,
            tombstone_age_ms=1,
            tombstone_count=1,
            limit=50,
        )
    )
    assert env.link.redis.exists(env.keys.run("order")) == 0
    new = env.client.start("g", {"who": "new"}, run_id="order")
    assert new.result(timeout=60)["m"] == "output of new"
    assert new.describe().nodes["n"].status == "completed"
