"""What the doctor finds: each defect is made by hand, found, explained, repaired, and not found again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowcraft_sdk import Defect, RunFailedError, RunNotFoundError, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine.claims import parse_claim
from flowcraft_server.testing import TestEnvironment, broken_invariants

Make = Callable[..., TestEnvironment]
GRAPHS: dict[str, Any] = {
    "chain": {
        "id": "chain",
        "nodes": [{"id": "a", "uses": "do"}, {"id": "b", "uses": "do"}],
        "edges": [{"source": "a", "target": "b"}],
    },
    "pause": {"id": "pause", "nodes": [{"id": "w", "uses": "wait"}], "edges": []},
    "sleep": {"id": "sleep", "nodes": [{"id": "w", "uses": "sleep", "params": {"duration": "1h"}}], "edges": []},
    "retry": {
        "id": "retry",
        "nodes": [{"id": "a", "uses": "bad", "config": {"maxRetries": 2, "retryDelay": "1h"}}],
        "edges": [],
    },
    "up": {"id": "up", "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": "pause"}}], "edges": []},
    "many": {
        "id": "many",
        "nodes": [{"id": "m", "uses": "map", "inputs": "list", "params": {"uses": "do"}}],
        "edges": [],
    },
}
SEAT = ClaimRequest("w1", 10_000, "default")


def bad(ctx: Any) -> Any:
    if ctx.attempt == 1:
        raise ValueError("once")
    return 1


@pytest.fixture
def env(environment: Make) -> TestEnvironment:
    """Without workers: they would repair much of this by themselves."""
    return environment(workers=0, partitions=1, handlers={"do": lambda ctx: 1, "bad": bad}, blueprints=GRAPHS)


def settle(env: TestEnvironment, blueprint: str, status: RunStatus = RunStatus.WAITING, **options: Any) -> None:
    """Start run `r` and let a worker bring it to where it stays."""
    worker = env.add_worker()
    run = env.client.start(blueprint, options.pop("ctx", {}), run_id="r", **options)
    run.wait_for(status, timeout=60)
    env.run_until_idle()
    worker.drain(5)
    worker.stop()
    env.workers.remove(worker)


def kinds(defects: list[Defect]) -> list[str]:
    return sorted(defect.kind for defect in defects)


def found_and_fixed(env: TestEnvironment, *expected: str, run_id: str | None = "r") -> list[Defect]:
    """The doctor finds these and no others, explains them, repairs them, and finds nothing any more."""
    defects = env.client.admin.examine(run_id)
    assert kinds(defects) == sorted(expected)
    assert all(defect.explanation and defect.remedy and not defect.fixed for defect in defects)
    assert broken_invariants(env), "and the checker for tests does"
    assert kinds(env.client.admin.examine(run_id)) == sorted(expected), "a look alone repairs nothing"
    mended = env.client.admin.examine(run_id, fix=True)
    assert kinds(mended) == sorted(expected) and all(defect.fixed for defect in mended)
    assert env.client.admin.examine(run_id, fix=True) == [], "a second repair finds nothing to do"
    assert env.client.admin.examine() == []
    return mended


def finish(env: TestEnvironment, run_id: str = "r") -> Any:
    """The result, now that a worker is there."""
    env.add_worker()
    return env.client.get_handle(run_id).result(60)


def fields(env: TestEnvironment, run_id: str = "r") -> dict[str, str]:
    return {k.decode(): v.decode() for k, v in env.link.read_hash(env.keys.run(run_id)).items()}


def test_a_healthy_store(env: TestEnvironment) -> None:
    env.client.start("chain")
    settle(env, "up")
    env.client.start("chain", delay=100, run_timeout=1000)
    assert env.client.admin.examine() == []
    assert broken_invariants(env) == []
    with pytest.raises(RunNotFoundError):
        env.client.admin.examine("never")


class TestNodes:
    def test_ready_but_in_no_queue(self, env: TestEnvironment) -> None:
        env.client.start("chain", run_id="r")
        env.link.redis.delete(env.keys.ready("default"), env.keys.wake("default"))
        (defect,) = found_and_fixed(env, "ready-not-queued")
        assert defect.explanation == "node 'a' is ready, but in no queue: no worker finds it"
        assert finish(env) == {"a": 1, "b": 1}

    def test_running_without_a_lease(self, env: TestEnvironment) -> None:
        env.client.start("chain", run_id="r")
        env.link.call(scripts.claim(env.keys, SEAT))
        env.link.redis.delete(env.keys.leases)
        found_and_fixed(env, "running-without-lease")
        env.clock.advance(11, keep_leases=False)
        assert finish(env) == {"a": 1, "b": 1}

    @pytest.mark.parametrize(("blueprint", "result"), [("sleep", {"w": None}), ("retry", {"a": 1})])
    def test_a_timer_that_is_not_there(self, env: TestEnvironment, blueprint: str, result: Any) -> None:
        settle(env, blueprint, RunStatus.WAITING if blueprint == "sleep" else RunStatus.RUNNING)
        env.link.redis.delete(env.keys.timers)
        (defect,) = found_and_fixed(env, "timer-missing")
        assert defect.subject in ("w", "a")
        assert finish(env) == result

    def test_a_child_that_is_gone(self, env: TestEnvironment) -> None:
        settle(env, "up")
        env.link.redis.delete(env.keys.run("r~1"), env.keys.events("r~1"))
        assert kinds(env.client.admin.examine("r")) == ["child-missing", "park-count"]
        env.client.admin.examine(fix=True)
        assert env.client.admin.examine() == []
        with pytest.raises(RunFailedError, match=r"subflow 'pause' \(run r.1\) failed"):
            finish(env)

    def test_a_child_whose_end_was_not_received(self, env: TestEnvironment) -> None:
        settle(env, "up")
        before = fields(env)["n:s"]
        env.client.get_handle("r~1").cancel(grace=0)
        env.link.redis.hset(env.keys.run("r"), mapping={"n:s": before})
        env.link.redis.hdel(env.keys.run("r"), "r:s")
        env.link.redis.delete(env.keys.ready("default"))
        found_and_fixed(env, "child-unheard")
        with pytest.raises(RunFailedError, match="was cancelled"):
            finish(env)

    def test_items_whose_end_was_not_received(self, env: TestEnvironment) -> None:
        env.client.start("many", {"list": [1, 2]}, run_id="r")
        fencing_token = parse_claim(env.link.call(scripts.claim(env.keys, SEAT))[0]).fencing_token
        node: dict[str, Any] = {"run_id": "r", "instance_id": "m", "fencing_token": fencing_token}
        env.link.call(scripts.store_items(env.keys, total=2, limit=9, first=0, items=[b"1", b"2"], **node))
        env.link.call(scripts.park(env.keys, kind="batch", **node))
        env.link.redis.delete(env.keys.ready("default"), env.keys.batch("r", "m"))
        env.link.redis.hset(env.keys.batch("r", "m"), mapping={"r:0": "1", "r:1": "1"})
        env.link.redis.hdel(env.keys.run("r"), "n:m[0]", "n:m[1]")
        env.link.redis.hset(env.keys.run("r"), mapping={"b:m": "2|2|2|9", "live": 1})
        found_and_fixed(env, "batch-unheard")
        assert finish(env)["m"] == [1, 1]


class TestRuns:
    def test_counters(self, env: TestEnvironment) -> None:
        settle(env, "pause")
        env.link.redis.hset(env.keys.run("r"), mapping={"live": 3, "park": 2})
        mended = found_and_fixed(env, "live-count", "park-count")
        assert {defect.subject for defect in mended} == {"3 for 1", "2 for 1"}
        env.link.call(scripts.signal(env.keys, run_id="r", signal_id="s", payload=b"7"))
        assert finish(env) == {"w": 7}

    def test_nothing_is_live(self, env: TestEnvironment) -> None:
        env.client.start("chain", run_id="r")
        env.link.redis.hdel(env.keys.run("r"), "n:a")
        env.link.redis.hset(env.keys.run("r"), "live", 0)
        env.link.redis.delete(env.keys.ready("default"))
        found_and_fixed(env, "nothing-live")
        with pytest.raises(RunFailedError, match="this node was never decided") as raised:
            env.client.get_handle("r").result(10)
        assert raised.value.failure.type == "Stalled"

    def test_nothing_is_live_and_all_is_done(self, env: TestEnvironment) -> None:
        settle(env, "chain", RunStatus.COMPLETED)
        env.link.redis.hset(env.keys.run("r"), "st", "running")
        env.link.redis.hdel(env.keys.run("r"), "en", "by")
        for name in ("idx:st:completed", "ended:completed"):
            env.link.redis.delete(env.keys.base + name)
        env.link.redis.zadd(env.keys.index_status("running"), {"r": 1})
        found_and_fixed(env, "nothing-live")
        assert env.client.get_handle("r").result(60) == {"a": 1, "b": 1}

    def test_the_plan_is_gone(self, env: TestEnvironment) -> None:
        settle(env, "pause")
        env.link.redis.delete(env.keys.plan(fields(env)["plan"]))
        (defect,) = env.client.admin.examine("r")
        assert defect.kind == "plan-missing"
        env.client.admin.examine("r", fix=True)
        assert env.client.get_handle("r").status() is RunStatus.FAILED
        env.publish(GRAPHS)  # what has ended needs it to be shown

    @pytest.mark.parametrize("index", ["idx:st:waiting", "idx:bp:pause", "idx:tag:blue"])
    def test_not_in_an_index(self, env: TestEnvironment, index: str) -> None:
        settle(env, "pause", tags=["blue"])
        env.link.redis.delete(env.keys.base + index)
        (defect,) = env.client.admin.examine("r", fix=True)
        assert (defect.kind, defect.subject, defect.fixed) == ("not-in-index", index, True)
        assert [run.run_id for run in env.client.list_runs(tag="blue", status=RunStatus.WAITING)] == ["r"]

    def test_an_ended_run_that_retention_would_overlook(self, env: TestEnvironment) -> None:
        settle(env, "chain", RunStatus.COMPLETED)
        env.link.redis.delete(env.keys.ended("completed"))
        found_and_fixed(env, "not-in-index")
        assert env.link.redis.zcard(env.keys.ended("completed")) == 1

    def test_timers_of_a_run(self, env: TestEnvironment) -> None:
        env.client.start("chain", run_id="r", delay=100, run_timeout=500)
        env.link.redis.delete(env.keys.timers)
        mended = found_and_fixed(env, "timer-missing", "timer-missing")
        assert {defect.subject for defect in mended} == {"b", "d"}
        assert finish(env) == {"a": 1, "b": 1}

    def test_the_end_of_a_grace(self, env: TestEnvironment) -> None:
        env.client.start("chain", run_id="r")
        env.link.call(scripts.claim(env.keys, SEAT))
        env.client.get_handle("r").cancel(grace=5)
        env.link.redis.delete(env.keys.timers)
        found_and_fixed(env, "timer-missing")
        env.clock.advance(31)
        env.add_worker()
        assert env.client.get_handle("r").wait(10).status is RunStatus.CANCELLED


class TestFamilies:
    def test_the_parent_is_gone(self, env: TestEnvironment) -> None:
        settle(env, "up")
        env.link.redis.delete(env.keys.run("r"), env.keys.events("r"))
        assert kinds(env.client.admin.examine("r~1")) == ["parent-missing"]
        env.client.admin.examine(fix=True)
        assert env.client.admin.examine() == []
        env.client.get_handle("r~1").cancel(grace=0)
        assert env.link.redis.zrange(env.keys.ended("cancelled"), 0, -1) == [b"r~1"], "retention finds it"

    def test_the_parent_does_not_know_its_child(self, env: TestEnvironment) -> None:
        settle(env, "up")
        env.link.redis.hdel(env.keys.run("r"), "k:r~1")
        found_and_fixed(env, "child-not-listed", run_id="r~1")
        assert env.client.get_handle("r").describe().children == ("r~1",)


ENTRIES = [
    ("ready:default", "gone|a"), ("ready:default", "r|b"), ("ready:default", "nonsense"), ("leases", "r|w"),
    ("leases", "gone|a"), ("timers", "T|r|w"), ("timers", "W|gone|w"), ("timers", "d|gone|"), ("timers", "g|r|"),
    ("timers", "b|r|"), ("timers", "p|r|w"), ("timers", "nonsense"), ("dead", "gone|a"), ("idx:st:waiting", "gone"),
    ("idx:st:running", "r"), ("idx:bp:chain", "r"), ("idx:bp:other", "gone"), ("idx:tag:red", "r"),
    ("ended:completed", "r"), ("ended:failed", "gone"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=lambda value: value)
def test_an_entry_that_stands_for_nothing(env: TestEnvironment, name: str, entry: str) -> None:
    settle(env, "pause")
    env.link.redis.zadd(env.keys.base + name, {entry: 10**15})
    (defect,) = found_and_fixed(env, "entry-without-subject", run_id=None)
    assert defect.subject == f"{name} {entry}"
    assert env.client.get_handle("r").status() is RunStatus.WAITING


def test_many_entries_are_looked_at_in_slices(env: TestEnvironment) -> None:
    env.link.redis.zadd(env.keys.leases, {f"gone|n{number}": number for number in range(1234)})
    assert len(env.client.admin.examine()) == 1234
    assert len(env.client.admin.examine(fix=True)) == 1234
    assert env.client.admin.examine() == []


def test_a_worker_at_work_is_not_disturbed(env: TestEnvironment) -> None:
    env.add_worker()
    runs = [env.client.start("chain", run_id=f"n{number}") for number in range(200)]
    while not all(run.done() for run in runs):
        assert env.client.admin.examine(fix=True) == []
    assert all(run.result() == {"a": 1, "b": 1} for run in runs)


def test_a_lease_that_goes_on_without_its_worker(env: TestEnvironment) -> None:
    env.client.start("chain", {}, run_id="r")
    env.link.call(scripts.claim(env.keys, ClaimRequest("gone", 10_000, "default")))
    assert env.client.admin.examine("r") == []
    env.clock.advance(61, keep_leases=False)
    env.link.redis.zadd(env.keys.leases, {"r|a": 10**15})
    found_and_fixed(env, "worker-silent")
    assert env.link.redis.zscore(env.keys.leases, "r|a") < 10**15
    env.clock.advance(11, keep_leases=False)
    worker = env.add_worker()
    assert env.client.get_handle("r").result(timeout=60)["b"] == 1
    worker.stop()
    env.workers.remove(worker)


def test_a_queue_that_no_worker_serves(environment: Any) -> None:
    blueprint = "nodes:\n  a: {uses: echo}\n  b: {uses: echo, config: {queue: io}, needs: a}\n"
    env = environment(blueprints={"q": blueprint}, handlers={"echo": lambda ctx: 1})
    env.client.start("q", run_id="r")
    env.client.start("q", run_id="other")
    env.run_until_idle()
    for found in (env.client.admin.examine(), env.client.admin.examine("r"), env.client.admin.examine("r", fix=True)):
        (defect,) = found
        assert (defect.kind, defect.subject, defect.fixed) == ("queue-unserved", "io", False)
        assert "2 nodes are ready in queue 'io', which no worker serves" in defect.explanation
    assert [worker.queues for worker in env.client.workers()] == [("default",)]
    served = env.add_worker(replace(env.settings, queues=("io",)))
    assert env.client.get_handle("r").result(timeout=60) == {"a": 1, "b": 1}
    assert env.client.get_handle("other").result(timeout=60) == {"a": 1, "b": 1}
    assert env.client.admin.examine() == []
    served.stop()
