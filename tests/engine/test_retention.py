"""What is kept of ended runs, for how long, and what is published of those that are gone."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flowcraft_sdk import AsyncClient, RunExpiredError, RunNotFoundError, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import Keep
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.background.retention import RetentionCleaner
from flowcraft_server.worker.settings import Retention, WorkerSettings
from tests.engine.routed_keys import in_one_partition

Make = Callable[..., TestEnvironment]
DAY = 86_400
FOREVER = Retention(tuple(Keep(name, None, None) for name in ("completed", "failed", "cancelled")), bytes=None)
GRAPHS: dict[str, Any] = {
    "one": {"id": "one", "nodes": [{"id": "a", "uses": "do", "inputs": "x"}], "edges": []},
    "pause": {"id": "pause", "nodes": [{"id": "w", "uses": "wait"}], "edges": []},
    "family": {
        "id": "family",
        "nodes": [
            {"id": "s", "uses": "subflow", "params": {"blueprintId": "middle"}},
            {"id": "t", "uses": "subflow", "params": {"blueprintId": "one", "inputs": {"x": "x"}}},
        ],
        "edges": [],
    },
    "middle": {
        "id": "middle",
        "nodes": [{"id": "m", "uses": "subflow", "params": {"blueprintId": "one"}}],
        "edges": [],
    },
}


def do(ctx: Any) -> Any:
    if ctx.input == "fail":
        raise ValueError("as asked")
    return ctx.input


@pytest.fixture
def env(environment: Make) -> TestEnvironment:
    return environment(handlers={"do": do}, blueprints=GRAPHS)


def cleaner(env: TestEnvironment, **changes: Any) -> RetentionCleaner:
    """A cleaner with rules of its own; the workers' own ones keep runs for days."""
    keep = changes.pop("keep", ())
    rules = {rule.name: rule for rule in (*FOREVER.keep, *keep)}
    options = {"bytes": None, "tombstone_count": 100, **changes}
    return RetentionCleaner(env.link, env.partitions, Retention(keep=tuple(rules.values()), **options))


def clean(env: TestEnvironment, **changes: Any) -> int:
    """Work a cleaner's rules off; how many runs were removed."""
    removed, found = 0, cleaner(env, **changes)
    while True:
        gone, _, more = found.remove_slice()
        removed += gone
        if not more:
            return removed


def run_ids(env: TestEnvironment) -> set[str]:
    return {run.run_id for run in env.client.list_runs(limit=None)}


def keys_of_runs(env: TestEnvironment) -> list[str]:
    prefix = env.keys.base
    names = [key.decode().removeprefix(prefix) for key in env.link.redis.scan_iter(match=prefix + "*", count=1000)]
    return sorted(name for name in names if name.startswith(("run:", "events:", "batch:", "idx:", "ended:", "dead")))


class TestRules:
    def test_by_age_and_by_how_a_run_ended(self, env: TestEnvironment) -> None:
        env.client.execute("one", {"x": 1}, run_id="fine", timeout=60)
        env.client.start("one", {"x": "fail"}, run_id="bad").wait(10)
        env.client.start("pause", run_id="stopped").cancel(grace=0)
        env.client.start("pause", run_id="late", run_timeout=1)
        env.clock.advance(2)
        assert env.client.get_handle("late").wait(10).status is RunStatus.TIMED_OUT
        env.clock.advance(100)
        assert clean(env, keep=[Keep("completed", 200_000, None)]) == 0
        assert clean(env, keep=[Keep("completed", 50_000, None)]) == 1
        assert run_ids(env) == {"bad", "stopped", "late"}
        assert clean(env, keep=[Keep("failed", 50_000, None)]) == 2, "a run that timed out counts as failed"
        assert clean(env, keep=[Keep("cancelled", 50_000, None)]) == 1
        assert keys_of_runs(env) == []

    @in_one_partition
    def test_by_default_completed_runs_go_after_a_week_and_failed_ones_after_a_month(
        self, env: TestEnvironment
    ) -> None:
        fine, bad = env.client.start("one", {"x": 1}), env.client.start("one", {"x": "fail"})
        for run in (fine, bad):
            run.wait(10)
        default = RetentionCleaner(env.link, env.partitions, Retention())
        env.clock.advance(6.9 * DAY)
        assert default.remove_slice() == (0, 0, False)
        env.clock.advance(0.2 * DAY)
        assert default.look().roots["completed"] in (0, 1)  # the worker's own cleaner may be quicker
        default.remove_slice()
        assert run_ids(env) == {bad.run_id}
        env.clock.advance(24 * DAY)
        default.remove_slice()
        assert run_ids(env) == set()

    def test_by_count_the_oldest_ends_go_first(self, env: TestEnvironment) -> None:
        slow = env.client.start("pause", run_id="begun-first")
        for number in range(5):
            env.client.execute("one", {"x": number}, run_id=f"n{number}", timeout=60)
        slow.wait_for(RunStatus.WAITING, timeout=60)
        env.link.call(scripts.signal(env.keys, run_id="begun-first", signal_id="s"))
        slow.wait(10)
        assert clean(env, keep=[Keep("completed", None, 2)]) == 0, "whoever waited for it has a minute to read it"
        env.clock.advance(61)
        assert clean(env, keep=[Keep("completed", None, 2)]) == 4
        assert run_ids(env) == {"n4", "begun-first"}

    def test_by_bytes_across_all_ends(self, env: TestEnvironment) -> None:
        for number in range(6):
            value = "fail" if number % 2 else "x" * 10_000
            env.client.start("one", {"x": value}, run_id=f"n{number}").wait(10)
        env.clock.advance(61)
        taken = int(env.link.redis.hget(env.keys.stats, "bytes"))
        assert 3 * 20_000 < taken < 3 * 40_000, "input and output of the three large ones"
        assert cleaner(env, bytes=taken).look().over == 0
        assert clean(env, bytes=taken) == 0
        assert clean(env, bytes=taken - 1) == 1
        assert "n0" not in run_ids(env), "the one that ended first"
        clean(env, bytes=1)
        assert int(env.link.redis.hget(env.keys.stats, "bytes")) == 0
        assert keys_of_runs(env) == []

    def test_live_runs_stay_whatever_the_rules(self, env: TestEnvironment) -> None:
        waiting = env.client.start("pause")
        waiting.wait_for(RunStatus.WAITING, timeout=60)
        later = env.client.start("one", {"x": 1}, delay=3650 * DAY)
        env.clock.advance(365 * DAY)
        rules = [Keep(name, 1, 1) for name in ("completed", "failed", "cancelled")]
        assert clean(env, keep=rules, bytes=1) == 0
        assert run_ids(env) == {waiting.run_id, later.run_id}

    @in_one_partition
    def test_work_is_done_in_slices(self, env: TestEnvironment) -> None:
        for number in range(120):
            env.client.start("one", {"x": number})
        env.run_until_idle()
        env.clock.advance(61)
        rule = cleaner(env, keep=[Keep("completed", 1, None)])
        assert [rule.remove_slice() for _ in range(3)] == [(50, 0, True), (50, 0, True), (20, 0, False)]

    def test_the_workers_do_it_by_themselves(self, environment: Make) -> None:
        settings = WorkerSettings(retention=Retention(keep=(Keep("completed", 1_000, None),)))
        env = environment(handlers={"do": do}, blueprints=GRAPHS, settings=settings)
        run = env.client.start("one", {"x": 1})
        run.wait(10)
        env.clock.advance(2)  # wakes the cleaner
        until_gone(run)


def until_gone(run: Any) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            run.status()
        except RunExpiredError:
            return
        time.sleep(0.01)
    raise AssertionError("it is still there")


class TestFamilies:
    def test_children_go_with_their_root(self, env: TestEnvironment) -> None:
        env.client.start("family", {"x": 1}, run_id="root").wait(10)
        assert len(run_ids(env)) == 4
        env.clock.advance(100)
        assert clean(env, keep=[Keep("completed", 1_000, None)]) == 4
        assert keys_of_runs(env) == []
        assert int(env.link.redis.hget(env.keys.stats, "bytes")) == 0

    def test_a_slice_that_ends_within_a_family_leaves_no_orphan(self, env: TestEnvironment) -> None:
        env.client.start("family", {"x": 1}, run_id="root").wait(10)
        env.clock.advance(100)
        for left in (3, 2, 1, 0):
            call = scripts.expire(
                env.keys, keep=[Keep("completed", 1_000, None)], bytes=None, tombstone_age_ms=10**9, tombstone_count=9,
                limit=1,
            )  # fmt: skip
            assert int(env.link.call(call)[0]) == 1
            there = run_ids(env)
            assert len(there) == left
            assert all(run.rpartition("~")[0] in there for run in there if "~" in run)

    @in_one_partition
    def test_a_child_that_goes_on_keeps_those_above_it(self, env: TestEnvironment) -> None:
        env.client.start("family", {"x": 1}, run_id="root").wait(10)
        (child,) = [run_id for run_id in run_ids(env) if run_id.count("~") == 2]
        for index, mark in (("st", "running"), ("en", "")):
            env.link.redis.hset(env.keys.run(child), index, mark)  # as if it had not ended
        env.clock.advance(100)
        assert cleaner(env, keep=[Keep("completed", 1_000, None)]).remove_slice() == (1, 1, False)
        assert run_ids(env) == {"root", child.rpartition("~")[0], child}
        env.link.redis.hset(env.keys.run(child), mapping={"st": "completed", "en": "1"})
        assert clean(env, keep=[Keep("completed", 1_000, None)]) == 0, "its age counts from the last look"
        env.clock.advance(100)
        assert clean(env, keep=[Keep("completed", 1_000, None)]) == 3
        assert keys_of_runs(env) == []


class TestTombstones:
    def gone(self, env: TestEnvironment) -> str:
        run = env.client.start("one", {"x": "fail"}, run_id="gone")
        run.wait(10)
        env.clock.advance(100)
        assert clean(env, keep=[Keep("failed", 1_000, None)]) == 1
        return "gone"

    def test_every_method_says_when_and_how_it_had_ended(self, env: TestEnvironment) -> None:
        before = env.clock.now()
        run = env.client.get_handle(self.gone(env))
        calls: list[Callable[[], Any]] = [
            run.status, run.done, run.describe, run.cancel, lambda: run.result(60), lambda: run.wait(5),
            lambda: list(run.events()), lambda: list(env.client.as_completed([run], timeout=5)),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(RunExpiredError) as raised:
                call()
            assert raised.value.status == "failed"
            assert abs(raised.value.ended_at - before) < timedelta(seconds=5)
            assert "failed at" in str(raised.value)
        with pytest.raises(RunNotFoundError) as unknown:
            env.client.get_handle("never").status()
        assert not isinstance(unknown.value, RunExpiredError)

    def test_for_asyncio(self, env: TestEnvironment) -> None:
        async def ask(run_id: str) -> None:
            async with AsyncClient(env.url, namespace=env.namespace) as client:
                await client.get_handle(run_id).result(60)

        with pytest.raises(RunExpiredError, match="has been removed"):
            asyncio.run(ask(self.gone(env)))

    def test_they_go_too(self, env: TestEnvironment) -> None:
        run = env.client.get_handle(self.gone(env))
        rules: dict[str, Any] = {"tombstone_age_ms": 30 * DAY * 1000}
        env.clock.advance(29 * DAY)
        clean(env, **rules)
        with pytest.raises(RunExpiredError):
            run.status()
        env.clock.advance(2 * DAY)
        clean(env, **rules)
        with pytest.raises(RunNotFoundError) as raised:
            run.status()
        assert not isinstance(raised.value, RunExpiredError)

    def test_there_is_a_bound(self, env: TestEnvironment) -> None:
        for number in range(8):
            env.client.execute("one", {"x": number}, timeout=60)
        env.clock.advance(100)
        clean(env, keep=[Keep("completed", 1_000, None)], tombstone_count=5)
        clean(env, tombstone_count=5)
        assert env.link.redis.zcard(env.keys.gone) == 5

    def test_an_id_may_be_used_again(self, env: TestEnvironment) -> None:
        run_id = self.gone(env)
        assert env.client.execute("one", {"x": 2}, run_id=run_id, timeout=60) == {"x": 2, "a": 2}
        assert env.client.get_handle(run_id).status() is RunStatus.COMPLETED

    def test_its_client_does_not_take_the_first_end_for_the_second(self, env: TestEnvironment) -> None:
        env.client.execute("one", {"x": 1}, timeout=60)  # from here on ends are sent to the client's inbox
        env.client.start("one", {"x": "fail"}, run_id="gone")
        env.run_until_idle()  # and this one lies there unread
        env.clock.advance(100)
        clean(env, keep=[Keep("failed", 1_000, None)])
        assert env.client.execute("one", {"x": 2}, run_id="gone", timeout=60) == {"x": 2, "a": 2}


def test_records_of_dead_workers_go_after_a_day(env: TestEnvironment) -> None:
    victim = env.workers[0]
    record = env.keys.worker(victim.settings.worker_id)
    assert env.link.redis.ttl(record) == -1, "as long as it is seen"
    env.kill_worker(victim)
    env.clock.advance(0.5 * DAY)
    clean(env)
    assert env.link.redis.exists(record)
    env.clock.advance(0.6 * DAY)
    clean(env)
    assert not env.link.redis.exists(record, env.keys.workers)


@in_one_partition
def test_a_run_that_was_deleted_by_hand_leaves_nothing_in_the_common_indexes(env: TestEnvironment) -> None:
    env.client.start("one", {"x": 1}, run_id="r").wait(10)
    env.link.redis.delete(env.keys.run("r"), env.keys.events("r"))
    env.clock.advance(100)
    clean(env, keep=[Keep("completed", 1_000, None)])
    assert keys_of_runs(env) == ["idx:bp:one"], "that one is for the doctor: nothing says which it was"
    env.client.admin.examine(fix=True)
    assert keys_of_runs(env) == []


@pytest.fixture
def wide_family(env: TestEnvironment) -> tuple[TestEnvironment, list[str]]:
    """A root whose record is read in pieces, and its children, all ended but the last one."""
    env.client.start("one", {"x": 1}, run_id="root").result(timeout=60)
    children = [env.client.start("one", {"x": 1}, parent="root") for _ in range(129)]
    children.append(env.client.start("pause", parent="root"))
    for child in children[:-1]:
        child.result(timeout=60)
    env.run_until_idle()
    fields = {f"c:{number}": "1" for number in range(6_000)}
    env.link.redis.hset(env.keys.run("root"), mapping=fields)  # type: ignore[arg-type]
    return env, [child.run_id for child in children]


def test_a_record_with_many_fields_is_read_in_pieces(wide_family: tuple[TestEnvironment, list[str]]) -> None:
    env, children = wide_family
    old = {"keep": [Keep("completed", 0, None), Keep("cancelled", 0, None)]}
    env.clock.advance(DAY)
    assert clean(env, **old) == 129
    assert env.client.get_handle("root").status() == "completed", "one below it goes on"
    assert env.link.redis.hget(env.keys.run("root"), "kc") is None
    assert [run for run in children if env.link.redis.exists(env.keys.run(run))] == children[-1:]
    env.client.get_handle(children[-1]).cancel(grace=0)
    env.clock.advance(DAY)
    assert clean(env, **old) == 2
    assert not env.link.redis.exists(env.keys.run("root"))


def test_a_child_that_comes_while_the_record_is_read_goes_before_its_parent(
    wide_family: tuple[TestEnvironment, list[str]],
) -> None:
    env, children = wide_family
    env.client.get_handle(children[-1]).cancel(grace=0)
    env.clock.advance(DAY)
    slices = cleaner(env, keep=[Keep("completed", 0, None), Keep("cancelled", 0, None)])
    removed, _, more = slices.remove_slice()
    assert 0 < removed < 130
    assert more
    assert env.link.redis.hget(env.keys.run("root"), "kc") is not None
    late = env.client.start("one", {"x": 1}, parent="root")
    late.result(timeout=60)
    going_on = env.client.start("pause", parent="root")
    while more:
        _, _, more = slices.remove_slice()
    assert env.client.get_handle("root").status() == "completed", "whatever place in the record the last child got"
    going_on.cancel(grace=0)
    env.clock.advance(DAY)
    clean(env, keep=[Keep("completed", 0, None), Keep("cancelled", 0, None)])
    assert not env.link.redis.exists(*map(env.keys.run, ("root", late.run_id, going_on.run_id)))
