"""Schedules on the real engine, by the test clock."""

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flowcraft_sdk import ConfigurationError, RunStatus, ScheduleNotFoundError
from flowcraft_sdk.protocol import scripts
from flowcraft_server.config.schedules import schedules_of
from flowcraft_server.schedules.definition import Schedule
from flowcraft_server.store.schedules import publish_schedules
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.testing.schedules import read_schedules
from tests.blocking_client import BOTH, clients

Make = Callable[..., TestEnvironment]

BLUEPRINT: dict[str, Any] = {
    "id": "report",
    "inputs": {"source": {"type": "string"}},
    "nodes": [{"id": "a", "uses": "work"}],
    "edges": [],
}
HOLD = {"id": "hold", "nodes": [{"id": "w", "uses": "wait"}], "edges": []}
EVERY = {"blueprint": "report", "every": 60, "input": {"source": "x"}}
HOURLY = {**EVERY, "every": 3600}  # no hour ends while a test runs, or hardly ever
HOLDING = {"blueprint": "hold", "every": 60}


def schedules(make: Make, **found: Any) -> TestEnvironment:
    env = make(blueprints=[BLUEPRINT, HOLD], handlers={"work": lambda ctx: 1}, schedules=found)
    env.run_until_idle()
    return env


def runs(env: TestEnvironment, schedule: str) -> list[str]:
    """Ids of the runs of a schedule, the oldest first."""
    return sorted(run.run_id for run in env.client.list_runs(tag=f"schedule:{schedule}", limit=None))


def to_tick(env: TestEnvironment, schedule: str) -> datetime:
    """Move the clock to the next tick, and wait until what it starts has come to rest."""
    tick = env.client.schedules.get(schedule).next_times[0]
    env.clock.advance(tick - env.clock.now() + timedelta(milliseconds=20))
    env.run_until_idle()
    return tick


def publish(env: TestEnvironment, deployment: str = "host:file", **found: Any) -> list[str]:
    sections = read_schedules(found)
    removed = publish_schedules(env.link.redis, env.partitions, schedules_of(sections), deployment)
    env.run_until_idle()
    return removed


def test_each_tick_is_started_once_and_is_told_by_the_id(environment: Make) -> None:
    env = schedules(environment, nightly=HOURLY)
    for _ in range(2):
        env.add_worker()
    ticks = [to_tick(env, "nightly") for _ in range(20)]
    assert runs(env, "nightly") == [f"nightly~{tick:%Y%m%dT%H%M%SZ}" for tick in ticks]
    info = env.client.schedules.get("nightly")
    assert (info.starts, info.skips, info.last_tick, info.last_run_id) == (20, 0, ticks[-1], runs(env, "nightly")[-1])
    run = env.client.get_handle(info.last_run_id or "").describe(ctx=True)
    assert (run.status, run.ctx, run.memo) == (
        "completed", {**(run.ctx or {}), "source": "x"}, {"schedule": "nightly", "tick": f"{ticks[-1]:%Y-%m-%dT%H:%M:%SZ}"},
    )  # fmt: skip


def test_no_user_can_give_a_run_the_id_of_a_tick(environment: Make) -> None:
    env = schedules(environment, nightly=EVERY)
    tick = env.client.schedules.get("nightly").next_times[0]
    taken = f"nightly~{tick:%Y%m%dT%H%M%SZ}"
    with pytest.raises(ConfigurationError):
        env.client.start("hold", run_id=taken)
    parent = env.client.start("hold", run_id="nightly")
    with pytest.raises(ConfigurationError):
        env.client.start("hold", run_id=taken, parent=parent)
    child = env.client.start("hold", run_id="nightly~x20260101T000000Z", parent=parent)
    to_tick(env, "nightly")
    assert runs(env, "nightly") == [taken]
    assert {child.status(), parent.status()} == {RunStatus.WAITING}
    parent.cancel(grace=0)
    child.cancel(grace=0)


def test_servers_that_are_killed_between_ticks(environment: Make) -> None:
    env = schedules(environment, nightly=HOURLY)
    env.add_worker()
    ticks = []
    for number in range(12):
        if number % 3 == 0:
            env.kill_worker(env.workers[0])
            env.add_worker()
        ticks.append(to_tick(env, "nightly"))
    found = runs(env, "nightly")
    assert found == [f"nightly~{tick:%Y%m%dT%H%M%SZ}" for tick in ticks]
    assert len(found) == env.client.schedules.get("nightly").starts == 12


class TestOverlap:
    def test_skip(self, environment: Make) -> None:
        env = schedules(environment, one=HOLDING)
        to_tick(env, "one")
        skipped = to_tick(env, "one")
        info = env.client.schedules.get("one")
        assert (info.starts, info.skips, info.skipped_tick) == (1, 1, skipped)
        assert info.skipped_because == f"run {runs(env, 'one')[0]} was going on"
        env.client.get_handle(runs(env, "one")[0]).signal("w")
        env.run_until_idle()
        to_tick(env, "one")
        assert len(runs(env, "one")) == 2

    def test_queue_holds_one_tick(self, environment: Make) -> None:
        env = schedules(environment, one={**HOLDING, "overlap": "queue"})
        first, second, third = (to_tick(env, "one") for _ in range(3))
        info = env.client.schedules.get("one")
        assert (info.last_tick, info.queued_tick, info.skipped_tick) == (first, second, third)
        assert info.skipped_because == "an earlier tick was waiting"
        env.client.get_handle(runs(env, "one")[0]).signal("w")
        env.run_until_idle()
        info = env.client.schedules.get("one")
        assert (info.last_tick, info.queued_tick, info.starts) == (second, None, 2)
        assert runs(env, "one")[1] == f"one~{second:%Y%m%dT%H%M%SZ}"

    def test_cancel_previous(self, environment: Make) -> None:
        env = schedules(environment, one={**HOLDING, "overlap": "cancelPrevious"})
        to_tick(env, "one")
        second = to_tick(env, "one")
        first, later = runs(env, "one")
        assert env.client.get_handle(first).status() is RunStatus.CANCELLED
        cancelled = env.client.get_handle(first).describe().cancel
        assert cancelled is not None
        assert cancelled.reason == "schedule one: the next tick is due"
        assert later == f"one~{second:%Y%m%dT%H%M%SZ}"
        assert env.client.get_handle(later).status() is RunStatus.WAITING

    def test_cancel_previous_when_the_server_dies_before_it_cancels(self, environment: Make) -> None:
        env = schedules(environment, one={**HOLDING, "overlap": "cancelPrevious"})
        tick = int((to_tick(env, "one") + timedelta(minutes=1)).timestamp() * 1000)
        env.kill_worker()
        keys, schedule = env.partitions.for_run("one"), Schedule("one", "hold", every=60_000, overlap="cancelPrevious")
        revision = int(env.link.read_hash(keys.schedule("one"))[b"rev"])
        start = {
            "id": "one",
            "tick": tick,
            "revision": revision,
            "overlap": schedule.overlap,
            "following": "[]",
            "due": 0,
        }
        call = scripts.start(
            keys, token="t", run_id=schedule.run_id(tick), blueprint_id="hold", digest="", context={}, schedule_json=json.dumps(start)
        )  # fmt: skip
        assert env.link.call(call)[1] == b"queued"
        env.add_worker()
        env.run_until_idle()
        first, later = runs(env, "one")
        assert env.client.get_handle(first).status() is RunStatus.CANCELLED
        assert later == schedule.run_id(tick)
        assert env.client.get_handle(later).status() is RunStatus.WAITING


class TestMissedTicks:
    def test_within_the_window_run_once(self, environment: Make) -> None:
        env = schedules(environment, one={**EVERY, "catchUp": 3600})
        first = env.client.schedules.get("one").next_times[0]
        env.clock.advance("30m")
        env.run_until_idle()
        info = env.client.schedules.get("one")
        assert (info.starts, info.skips, info.skipped_tick, info.skipped_because) == (1, 1, first, "missed")
        assert info.last_tick is not None
        assert timedelta(0) <= env.clock.now() - info.last_tick < timedelta(minutes=1)

    def test_later_they_do_not(self, environment: Make) -> None:
        env = schedules(environment, one={**EVERY, "every": 86_400, "catchUp": 60})
        tick = env.client.schedules.get("one").next_times[0]
        env.clock.advance(tick - env.clock.now() + timedelta(minutes=2))
        env.run_until_idle()
        info = env.client.schedules.get("one")
        assert (info.starts, info.skipped_tick, info.skipped_because) == (0, tick, "missed")
        assert info.next_times[0] == tick + timedelta(days=1)

    def test_a_clock_set_back_repeats_nothing(self, environment: Make) -> None:
        env = schedules(environment, one=EVERY)
        tick = to_tick(env, "one")
        for keys in env.partitions.all:
            env.link.redis.decrby(keys.clock, 600_000)
        env.run_until_idle()
        for _ in range(9):
            env.clock.advance("1m")
            env.run_until_idle()
        assert env.client.schedules.get("one").starts == 1
        env.clock.advance("2m")
        env.run_until_idle()
        assert runs(env, "one")[1:] == [f"one~{tick + timedelta(minutes=1):%Y%m%dT%H%M%SZ}"]


def test_jitter_is_bounded_and_the_same_for_all(environment: Make) -> None:
    env = schedules(environment, one={**EVERY, "every": 3600, "jitter": 600})
    tick = env.client.schedules.get("one").next_times[0]
    env.clock.advance(tick - env.clock.now())
    env.run_until_idle()
    (due,) = [
        score for keys in env.partitions.all for _, score in env.link.redis.zrange(keys.base + "schedules", 0, -1, withscores=True)
    ]  # fmt: skip
    assert 0 <= due - tick.timestamp() * 1000 < 600_000
    env.clock.advance(due / 1000 - env.clock.now().timestamp() + 0.02)
    env.run_until_idle()
    assert runs(env, "one") == [f"one~{tick:%Y%m%dT%H%M%SZ}"]


@pytest.fixture(params=BOTH, ids=["sync", "asyncio"])
def client_of(request: pytest.FixtureRequest) -> Any:
    yield from clients(request.param)


def test_what_clients_do_with_schedules(environment: Make, client_of: Any) -> None:
    env = schedules(environment, one={**EVERY, "tags": ["t"]}, two=HOLDING, off={**EVERY, "paused": True})
    client = client_of(env)
    off, one, two = client.schedules.list()
    assert [info.id for info in (off, one, two)] == ["off", "one", "two"]
    assert off.paused
    assert off.next_times == ()
    assert (one.blueprint_id, one.every, one.cron, one.tags, one.overlap) == ("report", 60.0, None, ("t",), "skip")
    assert len(one.next_times) == 5
    assert all(b - a == timedelta(minutes=1) for a, b in zip(one.next_times, one.next_times[1:], strict=False))

    to_tick(env, "two")
    client.schedules.pause("two")
    triggered = client.schedules.trigger("two")  # although it is paused, and its run goes on
    env.run_until_idle()
    assert env.client.get_handle(triggered.run_id).status() is RunStatus.WAITING
    info = client.schedules.get("two")
    assert (info.paused, info.next_times, info.triggered_run_id) == (True, (), triggered.run_id)
    env.clock.advance("10m")
    env.run_until_idle()
    assert len(runs(env, "two")) == 2
    for run in runs(env, "two"):
        env.client.get_handle(run).signal("w")
    client.schedules.resume("two")
    client.schedules.resume("two")
    env.run_until_idle()
    assert len(runs(env, "two")) == 2, "what was due while it was paused is not made up for"
    to_tick(env, "two")
    assert len(runs(env, "two")) == 3

    client.schedules.delete("two")
    with pytest.raises(ScheduleNotFoundError, match="no schedule 'two' is published"):
        client.schedules.get("two")
    for method in (client.schedules.pause, client.schedules.trigger, client.schedules.delete):
        with pytest.raises(ScheduleNotFoundError, match="did you mean 'one'"):
            method("onee")


class TestPublishing:
    def test_what_a_file_has_no_more_is_removed_and_others_stay(self, environment: Make) -> None:
        env = schedules(environment)
        env._schedules = read_schedules({"x": EVERY})  # so that it waits for the scheduler
        publish(env, "host1:/a", one=EVERY, two=EVERY)
        publish(env, "host1:/b", other=EVERY)
        to_tick(env, "one")
        assert sorted(publish(env, "host2:/a", one=EVERY)) == ["two"]
        assert [info.id for info in env.client.schedules.list()] == ["one", "other"]
        assert env.client.schedules.get("one").starts == 1

    def test_a_changed_definition_keeps_the_state(self, environment: Make) -> None:
        env = schedules(environment, one=EVERY)
        to_tick(env, "one")
        publish(env, one={**EVERY, "input": {"source": "y"}})
        tick = to_tick(env, "one")
        info = env.client.schedules.get("one")
        assert (info.starts, info.last_tick) == (2, tick)
        assert (env.client.get_handle(info.last_run_id or "").describe(ctx=True).ctx or {})["source"] == "y"

    def test_other_ticks_count_from_now_on(self, environment: Make) -> None:
        env = schedules(environment, one={**EVERY, "every": 86_400 * 7})
        publish(env, one={**EVERY, "catchUp": 86_400})
        assert env.client.schedules.get("one").starts == 0
        to_tick(env, "one")
        assert env.client.schedules.get("one").starts == 1

    def test_what_a_file_says_of_a_pause_counts_when_it_changes(self, environment: Make) -> None:
        env = schedules(environment, one=EVERY)
        env.client.schedules.pause("one")
        publish(env, one=EVERY)
        assert env.client.schedules.get("one").paused, "a pause outlives a restart"
        publish(env, one={**EVERY, "paused": True})
        env.client.schedules.resume("one")
        publish(env, one={**EVERY, "paused": True})
        assert not env.client.schedules.get("one").paused
        publish(env, one=EVERY)
        assert not env.client.schedules.get("one").paused


class TestFailures:
    def test_a_run_that_cannot_be_started_is_shown_and_tried_again(self, environment: Make) -> None:
        env = schedules(environment, one=EVERY)
        env.publish({**BLUEPRINT, "inputs": {"source": "string", "more": "string"}})
        tick = env.client.schedules.get("one").next_times[0]
        env.clock.advance(tick - env.clock.now() + timedelta(milliseconds=20))
        env.run_until_idle()
        info = env.client.schedules.get("one")
        assert info.last_error.endswith("more: is missing, expected string")
        assert info.last_error_at is not None
        assert runs(env, "one") == []
        env.publish(BLUEPRINT)
        env.clock.advance("6s")
        env.run_until_idle()
        info = env.client.schedules.get("one")
        assert (info.last_error, info.last_error_at, info.last_tick) == ("", None, tick)

    def test_a_broken_schedule_stops_no_other(self, environment: Make) -> None:
        env = schedules(environment, bad=EVERY, worse=EVERY, good=EVERY)
        for name, wrong in (("bad", {"def": "{"}), ("worse", {"handled": "x"})):
            env.link.redis.hset(env.partitions.for_run(name).base + f"schedule:{name}", mapping=wrong)
        tick = env.client.schedules.get("good").next_times[0]
        env.clock.advance(tick - env.clock.now() + timedelta(milliseconds=20))
        started = threading.Event()
        for _ in range(200):
            if env.client.schedules.get("good").starts or started.wait(0.02):
                break
        assert env.client.schedules.get("good").starts == 1
        assert [info.id for info in env.client.schedules.list()] == ["bad", "good", "worse"]
        assert env.client.schedules.get("bad").last_error == "its record in Redis cannot be read"


def test_what_is_wrong_is_said_at_once(environment: Make) -> None:
    with pytest.raises(ConfigurationError, match=r"schedules.x.blueprint: no blueprint 'nope'"):
        environment(blueprints=[BLUEPRINT], schedules={"x": {"blueprint": "nope", "every": 5}})
    with pytest.raises(ConfigurationError, match=r"schedules.x.cron: '61 \* \* \* \*' is no cron expression"):
        TestEnvironment(schedules={"x": {"blueprint": "report", "cron": "61 * * * *"}})


def test_cron_over_days_on_which_the_clocks_change(environment: Make) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    env = schedules(
        environment,
        one={"blueprint": "report", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "input": {"source": "x"}},
    )
    year = env.clock.now().year + 1
    for month, expected in (
        (3, ["02:30 CET", "03:00 CEST", "02:30 CEST"]),
        (10, ["02:30 CEST", "02:30 CEST", "02:30 CET"]),
    ):
        last_sunday = max(day for day in range(25, 32) if datetime(year, month, day).weekday() == 6)
        noon = datetime(year, month, last_sunday - 2, 12, tzinfo=berlin)
        env.clock.advance(noon - env.clock.now())
        env.run_until_idle()
        found = [f"{to_tick(env, 'one').astimezone(berlin):%H:%M %Z}" for _ in range(3)]
        assert found == expected
    assert env.client.schedules.get("one").starts == 6
    assert len(runs(env, "one")) == 3, "retention has removed those of the spring"
