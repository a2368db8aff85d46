"""A signal id counts once, by whichever of its names the signal is sent, and whatever has become of the runs meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_server.engine.claims import Claim
from flowcraft_server.testing import TestEnvironment
from tests.engine.test_scripts import Bench

Environments = Callable[..., TestEnvironment]

BLUEPRINTS = {
    "inner": "nodes: {wait: {uses: wait}}",
    "outer": "nodes: {sub: {call: inner, inputs: {}}}",
    "top": "nodes: {mid: {call: outer, inputs: {}}}",
    "both": "nodes: {a: {call: inner, inputs: {}}, b: {call: inner, inputs: {}}}",
    "again": """
nodes:
  sub: {call: inner, inputs: {}}
  on: {uses: echo, inputs: sub, needs: sub}
edges:
  - {source: on, target: sub, condition: result.output < 3}
""",
}


def names(run_id: str) -> list[tuple[str, str, str]]:
    """Run, path, and what the path is in full."""
    paths = [(run_id, "mid/sub/wait"), (f"{run_id}~1", "sub/wait"), (f"{run_id}~1~1", "wait")]
    return [(run, short, path) for run, path in paths for short in (path, "")]


class Worker(Bench):
    """The test is the worker; it runs one node of `top` at a time, the outermost first."""

    def start_inner(self, claim: Claim, blueprint: str) -> str:
        call = scripts.start_child(
            self.keys, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token, blueprint_id=blueprint, max_depth=16, context={}
        )  # fmt: skip
        code, child = self.call(call)
        assert code == b"ok"
        return str(child.decode())

    def next(self) -> Claim:
        claim = self.claim()
        assert claim is not None
        return claim

    def park(self) -> None:
        claim = self.next()
        call = scripts.park(
            self.keys,
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            kind="signal",
        )
        assert self.call(call) == [b"ok"]

    def until_waiting(self, run_id: str) -> None:
        self.start("top", run_id)
        self.start_inner(self.next(), "outer")
        self.start_inner(self.next(), "inner")
        self.park()

    def signal(self, run_id: str, path: str, signal_id: str = "s") -> list[str]:
        reply = self.call(scripts.signal(self.keys, run_id=run_id, instance_id=path, signal_id=signal_id))
        return [part.decode() for part in reply]

    def found(self, run_id: str, path: str) -> list[str]:
        reply = self.call(scripts.find_wait(self.keys, run_id=run_id, instance_id=path, signal_id="s"))
        return [part.decode() for part in reply if part is not None]


def at_once(_: Worker, __: str) -> None:
    """Nothing happens in between."""


def claimed(worker: Worker, _: str) -> None:
    """A worker has the node."""
    worker.next()


def child_ended(worker: Worker, _: str) -> None:
    """The child is over, its parent's node is ready."""
    worker.complete(worker.next())


def all_but_the_top_ended(worker: Worker, _: str) -> None:
    for _round in range(2):
        worker.complete(worker.next())


def all_ended(worker: Worker, run_id: str) -> None:
    for _round in range(3):
        worker.complete(worker.next())
    assert worker.status(run_id) == "completed"


def retried(worker: Worker, run_id: str) -> None:
    """The child fails, and a further attempt of its parent's node has another child, which waits."""
    worker.fail(worker.next(), "final")
    worker.fail(worker.next(), "retry")
    assert worker.start_inner(worker.next(), "inner") == f"{run_id}~1~2"
    worker.park()


def removed(worker: Worker, run_id: str) -> None:
    """The child is over, and nothing of it is left."""
    child_ended(worker, run_id)
    gone = f"{run_id}~1~1"
    redis = worker.env.link.redis
    redis.delete(worker.keys.run(gone), worker.keys.events(gone))
    redis.zrem(worker.keys.index_status("completed"), gone)
    redis.zrem(worker.keys.index_blueprint("inner"), gone)
    redis.hdel(worker.keys.run(f"{run_id}~1"), f"k:{gone}")


MEANWHILE = [at_once, claimed, child_ended, all_but_the_top_ended, all_ended, retried, removed]


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda what: what.__name__)
def test_each_name_after_each_other(environment: Environments, meanwhile: Callable[[Worker, str], None]) -> None:
    worker = Worker(
        environment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input}, workers=0, partitions=1)
    )
    for number in range(len(names(""))):
        run_id = f"r{number}"
        worker.until_waiting(run_id)
        first, short, path = names(run_id)[number]
        assert worker.signal(first, short) == ["ok", path]
        meanwhile(worker, run_id)
        for run, short, path in names(run_id):
            if meanwhile is removed and run == f"{run_id}~1~1":
                continue
            assert worker.found(run, short) == ["duplicate", path], (first, run, short)
            assert worker.signal(run, short) == ["duplicate", path], (first, run, short)
        if meanwhile is retried:
            assert worker.signal(run_id, "", "another") == ["ok", "mid/sub/wait"], (
                "it still waits for a signal of its own"
            )
        worker.call(scripts.cancel(worker.keys, run_id=run_id, reason="", grace_ms=0))


def test_one_id_for_two_runs_is_two_signals(environment: Environments) -> None:
    worker = Worker(
        environment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input}, workers=0, partitions=1)
    )
    for run_id, second in (("r", ("{b}", "wait")), ("q", ("{top}", "b/wait"))):
        worker.start("both", run_id)
        owners = {claim.instance_id: worker.start_inner(claim, "inner") for claim in (worker.next(), worker.next())}
        for _ in owners:
            worker.park()
        runs = {"{a}": owners["a"], "{b}": owners["b"], "{top}": run_id}
        assert worker.signal(owners["a"], "wait") == ["ok", "wait"]
        assert worker.signal(runs[second[0]], second[1]) == ["ok", second[1]]
        assert worker.signal(run_id, "a/wait")[0] == "duplicate"
        assert worker.signal(run_id, "b/wait") == ["duplicate", "b/wait"]
        assert worker.signal(owners["a"], "") == worker.signal(owners["b"], "") == ["duplicate", "wait"]
        worker.call(scripts.cancel(worker.keys, run_id=run_id, reason="", grace_ms=0))


def test_a_kept_one_counts_by_each_name_too(environment: Environments) -> None:
    worker = Worker(
        environment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input}, workers=0, partitions=1)
    )
    worker.start("top", "r")
    worker.start_inner(worker.next(), "outer")
    worker.start_inner(worker.next(), "inner")
    early = {"signal_id": "s", "early": True}
    assert worker.call(scripts.signal(worker.keys, run_id="r~1", instance_id="sub/wait", **early)) == [
        b"kept",
        b"sub/wait",
    ]
    for run, short, path in names("r"):
        assert worker.signal(run, short) == ["duplicate", path]
    claim = worker.next()
    call = scripts.park(
        worker.keys,
        run_id=claim.run_id,
        instance_id=claim.instance_id,
        fencing_token=claim.fencing_token,
        kind="signal",
    )
    assert worker.call(call) == [b"ok"]
    for run, short, path in names("r"):
        assert worker.signal(run, short) == ["duplicate", path]
    worker.call(scripts.cancel(worker.keys, run_id="r", reason="", grace_ms=0))


def test_a_run_remembers_a_bounded_number_of_signals(environment: Environments) -> None:
    worker = Worker(
        environment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input}, workers=0, partitions=1)
    )
    worker.until_waiting("r")
    old = {"sn": "10000", "sq:1": "sp:old\nmid/sub/wait", "sp:old\nmid/sub/wait": "", "sp:old": "mid/sub/wait"}
    worker.env.link.redis.hset(worker.keys.run("r"), mapping=old)
    worker.env.link.redis.hset(worker.keys.run("r~1"), mapping={"sn": "20000", "sq:1": "sg:old", "sg:old": "sub/wait"})
    assert worker.signal("r", "", "old") == ["duplicate", "mid/sub/wait"]
    assert worker.signal("r~1~1", "wait", "new") == ["ok", "wait"]
    for run_id in ("r", "r~1"):
        kept = {
            name: value
            for name, value in worker.fields(run_id).items()
            if name.startswith("s") and "old" in name + value
        }
        assert kept == {}, "the oldest made room"
    assert worker.fields("r")["sn"] == "10001"
    for run, short, path in names("r"):
        assert worker.signal(run, short, "new") == ["duplicate", path]
    worker.call(scripts.cancel(worker.keys, run_id="r", reason="", grace_ms=0))


def test_in_a_loop_each_round_has_a_child_of_its_own(environment: Environments) -> None:
    env = environment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input})
    run = env.client.start("again", run_id="r")
    for number in (1, 2, 3):
        assert run.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
        env.run_until_idle()
        child = env.client.get_handle(f"r~{number}")
        by: Any = (child, "wait") if number % 2 else (run, "sub/wait")
        by[0].signal(by[1], number, signal_id=f"answer {number}")
        for earlier in range(1, number + 1):
            run.signal("sub/wait", 99, signal_id=f"answer {earlier}")
            run.signal(None, 99, signal_id=f"answer {earlier}")
            env.client.get_handle(f"r~{earlier}").signal("wait", 99, signal_id=f"answer {earlier}")
        env.run_until_idle()
    assert run.result(timeout=60)["sub"] == 3
    assert [env.client.get_handle(f"r~{number}").result()["wait"] for number in (1, 2, 3)] == [1, 2, 3]
