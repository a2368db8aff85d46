"""Runs that have ended are counted by the minute, the hour and in all; `stats` reads what is kept of them."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import ConfigurationError, Stats
from flowcraft_sdk._operations.stats import totals
from flowcraft_sdk.protocol import scripts
from flowcraft_server.testing import TestEnvironment

DAY = 86_400
BLUEPRINTS = [
    {"id": "quick", "nodes": [{"id": "a", "uses": "ok"}]},
    {"id": "slow one", "nodes": [{"id": "a", "uses": "sleep", "params": {"duration": "100s"}}]},
    {"id": "bad", "nodes": [{"id": "a", "uses": "fails"}]},
    {"id": "parent", "nodes": [{"id": "a", "uses": "subflow", "params": {"blueprintId": "bad"}}]},
    {"id": "asks", "nodes": [{"id": "a", "uses": "wait"}]},
]


def fails(_ctx: Any) -> None:
    raise ValueError("no")


HANDLERS = {"ok": lambda _ctx: 1, "fails": fails}


@pytest.fixture(params=[1, 16])
def env(request: pytest.FixtureRequest, environment: Callable[..., TestEnvironment]) -> TestEnvironment:
    return environment(blueprints=BLUEPRINTS, handlers=HANDLERS, partitions=request.param)


def by_blueprint(stats: Stats) -> dict[str, tuple[int, int, int, int]]:
    return {
        each.blueprint_id: (each.completed, each.failed, each.cancelled, each.timed_out) for each in stats.blueprints
    }


def end_some(env: TestEnvironment) -> None:
    """Three complete, two fail (one of them a child, and its parent), one is cancelled, one times out."""
    client = env.client
    for run in [client.start("quick") for _ in range(2)] + [client.start("bad"), client.start("parent")]:
        run.wait(timeout=60)
    slow = client.start("slow one")
    slow.wait_for("waiting", timeout=60)
    asking, late = client.start("asks"), client.start("asks", run_timeout=50)
    for run in (asking, late):
        run.wait_for("waiting", timeout=60)
    asking.cancel()
    env.clock.advance(100)
    for run in (slow, asking, late):
        run.wait(timeout=60)


ENDED = {
    "quick": (2, 0, 0, 0),
    "slow one": (1, 0, 0, 0),
    "bad": (0, 2, 0, 0),
    "parent": (0, 1, 0, 0),
    "asks": (0, 0, 1, 1),
}


def test_runs_are_counted_by_blueprint_state_and_duration(env: TestEnvironment) -> None:
    now = env.client.stats()
    assert (now.ended, now.p50, now.workers, now.ready, now.oldest_age) == (0, None, 1, 0, None) and now.slots > 0
    end_some(env)
    stats = env.client.stats("1h")
    assert by_blueprint(stats) == ENDED
    assert (stats.ended, stats.completed, stats.failed, stats.cancelled, stats.timed_out) == (8, 3, 3, 1, 1)
    slow = next(each for each in stats.blueprints if each.blueprint_id == "slow one")
    assert slow.p50 is not None and slow.p95 is not None and 100 * 0.8 <= slow.p50 <= slow.p95 <= 130
    assert stats.step == 60 and stats.since < stats.until
    assert sum(point.ended for point in stats.points) == 8
    assert stats.memory and stats.runs["failed"] == 3 and stats.runs["timed_out"] == 1


def test_minutes_are_kept_for_a_day_and_hours_for_thirty(env: TestEnvironment) -> None:
    end_some(env)
    env.clock.advance(3 * 3600)
    env.client.execute("quick", timeout=60)
    assert env.client.stats("1h").ended == 1
    assert env.client.stats("24h").ended == 9
    env.clock.advance(2 * DAY)
    env.client.execute("quick", timeout=60)
    assert env.client.stats("24h").ended == 1
    long = env.client.stats("30d")
    assert long.ended == 10 and long.step >= 3600
    assert by_blueprint(long) == {**ENDED, "quick": (4, 0, 0, 0)}
    found = env.client.driver.run(totals(env.client.deployment))
    assert {name: counts.total() for name, counts in found.items()} == {
        "quick": 4,
        "slow one": 1,
        "bad": 2,
        "parent": 1,
        "asks": 2,
    }
    for keys in env.partitions.all:
        for name in env.link.redis.scan_iter(match=f"{keys.base}[mh][io]*s:*"):
            assert 0 < env.link.redis.ttl(name) <= 32 * DAY


def test_a_run_that_ends_twice_is_counted_once(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(blueprints=BLUEPRINTS, handlers=HANDLERS)
    run = env.client.start("asks")
    run.wait_for("waiting", timeout=60)
    for _ in range(2):
        env.link.call(scripts.cancel(env.partitions.for_run(run.run_id), run_id=run.run_id, reason="", grace_ms=1000))
    assert env.client.stats().ended == 1


def test_what_is_kept_is_bounded(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(blueprints=BLUEPRINTS, handlers=HANDLERS, partitions=1)
    home, redis = env.partitions.home, env.link.redis
    redis.hset(home.totals, mapping={f"other {number}": "c1=1" for number in range(1000)})
    minute = int(env.clock.now().timestamp()) // 60
    redis.hset(home.counting, mapping={f"{minute - 5} c1 many {number}": 1 for number in range(2500)})
    env.client.execute("quick", timeout=60)
    assert redis.hlen(home.totals) == 1001
    found = env.client.driver.run(totals(env.client.deployment))
    assert found[""].total() == 2500 and found["quick"].total() == 1
    env.clock.advance(120)
    redis.hset(home.counting, mapping={f"{minute} f1 again {number}": 1 for number in range(2500)} | {"minute": 0})
    env.client.execute("quick", timeout=60)
    assert redis.hlen(home.counting) == 2
    redis.hset(home.counting, mapping={f"filled {number}": 1 for number in range(2000)})
    env.client.start("bad").wait(timeout=60)
    kinds = [name.decode().split(" ", 2)[1:] for name in redis.hkeys(home.counting) if name[:1].isdigit()]
    assert [blueprint for kind, blueprint in kinds if kind.startswith("f")] == [""]


@pytest.mark.parametrize("window", ["0s", "30s", "31d", "soon", -1, True])
def test_windows_that_cannot_be_used_are_refused(environment: Callable[..., TestEnvironment], window: Any) -> None:
    env = environment()
    with pytest.raises(ConfigurationError, match="window"):
        env.client.stats(window)
