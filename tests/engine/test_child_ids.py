"""Ids of child runs lie where no user can put a run, and creating a run overwrites nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import AsyncClient, ConfigurationError, RunConflictError, RunFailedError, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.test_scripts import Bench, bench

Environments = Callable[..., TestEnvironment]
__all__ = ["bench"]

BLUEPRINTS = {
    "echo": "nodes: {a: {uses: echo, inputs: x}}",
    "parent": "nodes: {sub: {call: echo, inputs: {x: x}}, ask: {uses: wait, inputs: sub, needs: sub}}",
    "asked": "nodes: {sub: {call: ask, inputs: {}}}",
    "ask": "nodes: {w: {uses: wait}}",
}


def echo(ctx: Any) -> Any:
    return ctx.input


@pytest.fixture
def env(environment: Environments) -> TestEnvironment:
    return environment(blueprints=BLUEPRINTS, handlers={"echo": echo})


@pytest.mark.parametrize("taken", ["p.1", "p:1", "p-1", "p1", "p.1:events"])
def test_a_run_with_an_id_like_a_child_s_is_not_the_child(env: TestEnvironment, taken: str) -> None:
    stranger = env.client.start("echo", {"x": "a stranger's"}, run_id=taken)
    assert stranger.result(timeout=60)["a"] == "a stranger's"
    parent = env.client.start("parent", {"x": "mine"}, run_id="p")
    assert parent.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    before = stranger.describe(ctx=True)
    assert (before.parent_run_id, before.ctx["a"]) == (None, "a stranger's")  # type: ignore[index]
    parent.signal("ask")
    assert parent.result(timeout=60)["sub"] == "mine"
    assert stranger.describe(ctx=True) == before


@pytest.mark.parametrize("run_id", ["p~1", "~", "p~", "~1", "p~1~2", "p~replay"])
def test_users_cannot_give_such_an_id(env: TestEnvironment, run_id: str) -> None:
    async def start() -> None:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            await client.start("echo", run_id=run_id)

    for call in (lambda: env.client.start("echo", run_id=run_id), lambda: asyncio.run(start())):
        with pytest.raises(ConfigurationError, match="ids with a ~ are given to child runs and replays"):
            call()
    assert env.client.count_runs() == 0


def test_all_that_takes_an_id_takes_a_child_s(env: TestEnvironment) -> None:
    run = env.client.start("asked", run_id="p")
    assert run.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    child = env.client.get_handle("p~1")
    assert child.describe().parent_run_id == "p"
    assert [each.run_id for each in env.client.list_runs(parent="p")] == ["p~1"]
    assert run.describe().children == ("p~1",)
    beside = env.client.start("echo", {"x": 1}, parent="p~1", run_id="p~beside")
    assert beside.result(timeout=60)["a"] == 1
    child.signal("w", 5)
    assert child.result(timeout=60)["w"] == 5
    assert run.result(timeout=60)["sub"] == 5
    other = env.client.start("asked", run_id="q")
    other.wait_for(RunStatus.WAITING, timeout=60)
    assert env.client.get_handle("q~1").cancel()
    with pytest.raises(RunFailedError, match=r"subflow 'ask' \(run q~1\) was cancelled"):
        other.result(timeout=10)


def nested(depth: int) -> dict[str, str]:
    """Blueprints that call each other, `n<depth>` the outermost of so many calls."""
    calls = {f"n{n}": f"nodes: {{sub: {{call: n{n - 1}, inputs: {{x: x}}}}}}" for n in range(1, depth + 1)}
    return calls | {"n0": "nodes: {a: {uses: echo, inputs: x}}"}


def test_long_ids_nest_as_deep_as_any(environment: Environments) -> None:
    limit = 16
    env = environment(blueprints=nested(limit + 1), handlers={"echo": echo}, settings=WorkerSettings(max_depth=limit))
    name = "x" * 200
    run = env.client.start(f"n{limit}", {"x": 7}, run_id=name)
    assert run.result(timeout=60)["sub"] == 7
    deepest = env.client.get_handle(name + "~1" * limit)
    assert deepest.result()["a"] == 7
    assert deepest.describe().parent_run_id == name + "~1" * (limit - 1)
    assert [event.type for event in deepest.events()][-1] == "run_ended"
    with pytest.raises(RunFailedError, match=r"subflows nest deeper than 16 \(limits.subflowDepth\)"):
        env.client.start(f"n{limit + 1}", {"x": 7}, run_id="y" * 200).result(timeout=20)


class TestNothingIsOverwritten:
    def child(self, bench: Bench) -> Any:
        bench.start("sub")
        claim = bench.claim()
        assert claim is not None
        return bench.call(
            scripts.start_child(
                bench.keys,
                run_id="r",
                instance_id="s",
                fencing_token=claim.fencing_token,
                blueprint_id="chain",
                max_depth=16,
                context={},
            )
        )

    def test_a_child_takes_the_next_free_number(self, bench: Bench) -> None:
        redis = bench.env.link.redis
        redis.hset(bench.keys.run("r~1"), "x", "not ours")
        redis.set(bench.keys.run("r~2"), "no hash")
        redis.rpush(bench.keys.events("r~3"), "B|0||")
        assert self.child(bench) == [b"ok", b"r~4"]
        assert redis.hgetall(bench.keys.run("r~1")) == {b"x": b"not ours"}
        assert redis.get(bench.keys.run("r~2")) == b"no hash"
        assert redis.lrange(bench.keys.events("r~3"), 0, -1) == [b"B|0||"]
        assert (bench.fields()["kids"], bench.fields()["w:s"]) == ("4", "r~4")
        redis.delete(bench.keys.run("r~1"), bench.keys.run("r~2"), bench.keys.events("r~3"))
        bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=0))

    def test_a_counter_that_is_broken_costs_no_run(self, bench: Bench) -> None:
        bench.start("chain", "r~1")
        bench.start("sub")
        bench.env.link.redis.hset(bench.keys.run("r"), "kids", "many")
        before = bench.fields("r~1")
        (claim,) = (each for each in (bench.claim(), bench.claim()) if each is not None and each.run_id == "r")
        call = scripts.start_child(
            bench.keys,
            run_id="r",
            instance_id="s",
            fencing_token=claim.fencing_token,
            blueprint_id="chain",
            max_depth=16,
            context={},
        )
        assert bench.call(call) == [b"ok", b"r~2"]
        after = bench.fields("r~1")
        assert {name: after[name] for name in ("bp", "cr", "tok")} == {
            name: before[name] for name in ("bp", "cr", "tok")
        }
        assert "par" not in after
        for run_id in ("r", "r~1"):
            bench.call(scripts.cancel(bench.keys, run_id=run_id, reason="", grace_ms=0))

    def test_when_all_are_taken_the_node_is_still_held(self, bench: Bench) -> None:
        pipe = bench.env.link.redis.pipeline()
        taken = [bench.keys.run(f"r~{number}") for number in range(1, 1002)]
        for name in taken:
            pipe.hset(name, "x", "1")
        pipe.execute()
        assert self.child(bench) == [b"taken", b"r~1001"]
        assert bench.env.link.redis.zscore(bench.keys.leases, "r|s") is not None
        assert "kids" not in bench.fields()
        bench.env.link.redis.delete(*taken)
        bench.call(scripts.cancel(bench.keys, run_id="r", reason="", grace_ms=0))

    def test_the_node_fails_then_and_says_why(self, env: TestEnvironment) -> None:
        pipe = env.link.redis.pipeline()
        taken = [env.keys.run(f"p~{number}") for number in range(1, 1002)]
        for name in taken:
            pipe.hset(name, "x", "1")
        pipe.execute()
        with pytest.raises(
            RunFailedError, match="no id is free for the child run: 'p~1001' and the ones before it are taken"
        ):
            env.client.start("parent", {"x": 1}, run_id="p").result(timeout=60)
        env.link.redis.delete(*taken)

    @pytest.mark.parametrize("broken", ["hash", "text"])
    def test_a_start_leaves_a_broken_record_alone(self, env: TestEnvironment, broken: str) -> None:
        key = env.keys.run("r")
        if broken == "hash":
            env.link.redis.hset(key, "plan", "h")
        else:
            env.link.redis.set(key, "no hash")
        before = env.link.redis.dump(key)
        with pytest.raises(RunConflictError, match="run r has a broken record in Redis; choose another id") as caught:
            env.client.start("echo", run_id="r")
        assert caught.value.reason == "broken"
        assert env.link.redis.dump(key) == before
        env.link.redis.delete(key)
        assert env.client.count_runs() == 0

    def test_a_history_without_a_record_does_not_become_part_of_a_new_run_s(self, env: TestEnvironment) -> None:
        env.link.redis.rpush(env.keys.events("r"), "B|0||", "E|5||failed")
        run = env.client.start("echo", {"x": 1}, run_id="r")
        assert run.result(timeout=60)["a"] == 1
        assert [event.type for event in run.events() if event.type.startswith("run_")] == ["run_started", "run_ended"]
