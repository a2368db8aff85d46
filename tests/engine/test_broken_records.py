"""Records that something else has written over: each is an island. What stands beside one goes on, readers get an error, and the
doctor mends what can be mended."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import RunBrokenError, RunFailedError, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest, Keep
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
Damage = Callable[[TestEnvironment, str], None]
SEAT = ClaimRequest("w1", 10_000, "default")
GRAPHS: dict[str, Any] = {
    "one": {"id": "one", "nodes": [{"id": "a", "uses": "do"}], "edges": []},
    "sleep": {"id": "sleep", "nodes": [{"id": "a", "uses": "sleep", "params": {"duration": "1h"}}], "edges": []},
    "wait": {"id": "wait", "nodes": [{"id": "a", "uses": "wait"}], "edges": []},
    "up": {"id": "up", "nodes": [{"id": "a", "uses": "subflow", "params": {"blueprintId": "wait"}}], "edges": []},
}


def another_type(env: TestEnvironment, run: str) -> None:
    env.link.redis.delete(env.keys.run(run))
    env.link.redis.set(env.keys.run(run), "no hash")


def field(name: str, value: str | None) -> Damage:
    def damage(env: TestEnvironment, run: str) -> None:
        if value is None:
            env.link.redis.hdel(env.keys.run(run), name)
        else:
            env.link.redis.hset(env.keys.run(run), name, value)

    return damage


DAMAGES: dict[str, Damage] = {
    "another-type": another_type,
    "created": field("cr", "yesterday"),
    "no-creation": field("cr", None),
    "live": field("live", "many"),
    "parked": field("park", "?"),
    "status": field("st", "fine"),
    "node": field("n:a", "\x00\xff"),
    "no-plan": field("plan", None),
    "no-blueprint": field("bp", None),
}
damaged = pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))


@pytest.fixture
def env(environment: Make) -> Any:
    """Without workers. What a foreign hand leaves behind is nobody's to clean up, so nothing is looked over at the end."""
    made = environment(workers=0, partitions=1, handlers={"do": lambda ctx: 1}, blueprints=GRAPHS)
    yield made
    made.link.redis.unlink(*made.link.redis.scan_iter(match=made.keys.base + "*", count=1000))


def names(count: int, broken: int) -> list[str]:
    return ["broken" if number == broken else f"r{number}" for number in range(count)]


def sweep(env: TestEnvironment) -> list[int]:
    call = scripts.sweep(env.keys, limit=500, max_crashes=3, grace_ms=1000, queues="default")
    reply: list[int] = env.link.call(call)
    return reply


def claimed(env: TestEnvironment, count: int = 100) -> list[str]:
    return [reply[0].decode() for reply in env.link.call(scripts.claim(env.keys, SEAT, count))]


def ready(env: TestEnvironment) -> list[str]:
    return sorted(m.decode().partition("|")[0] for m in env.link.redis.zrange(env.keys.ready("default"), 0, -1))


def set_aside(env: TestEnvironment) -> list[str]:
    return sorted(name.decode() for name in env.link.redis.hkeys(env.keys.broken))


def innocent(runs: list[str]) -> list[str]:
    return sorted(run for run in runs if run != "broken")


def asleep(env: TestEnvironment, runs: list[str]) -> None:
    worker = env.add_worker()
    for run in runs:
        env.client.start("sleep", {}, run_id=run)
    for run in runs:
        env.client.get_handle(run).wait_for(RunStatus.WAITING, timeout=60)
    env.run_until_idle()
    worker.drain(5)
    worker.stop()
    env.workers.remove(worker)


@damaged
@pytest.mark.parametrize("place", [0, 14, 29], ids=["first", "middle", "last"])
def test_timers_that_are_due_beside_a_broken_record(env: TestEnvironment, damage: Damage, place: int) -> None:
    runs = names(30, place)
    asleep(env, runs)
    damage(env, "broken")
    env.clock.advance(3601)
    assert sweep(env)[0] == 30
    assert [run for run in ready(env) if run != "broken"] == innocent(runs), "no other timer is lost"
    if ready(env) == innocent(runs):
        assert set_aside(env) == ["timers W|broken|a"]
    assert sweep(env)[0] == 0


@damaged
def test_leases_that_run_out_beside_a_broken_record(env: TestEnvironment, damage: Damage) -> None:
    runs = names(10, 4)
    for run in runs:
        env.client.start("one", {}, run_id=run)
    assert sorted(claimed(env)) == sorted(runs)
    damage(env, "broken")
    env.clock.advance(11, keep_leases=False)
    sweep(env)
    assert [run for run in ready(env) if run != "broken"] == innocent(runs)


@damaged
def test_claims_beside_a_broken_record(env: TestEnvironment, damage: Damage) -> None:
    runs = names(10, 0)
    for run in runs:
        env.client.start("one", {}, run_id=run)
    damage(env, "broken")
    assert sorted(run for run in claimed(env) if run != "broken") == innocent(runs)
    assert ready(env) == []


@damaged
def test_retention_beside_a_broken_record(env: TestEnvironment, damage: Damage) -> None:
    runs = names(10, 4)
    for run in runs:
        env.client.start("one", {}, run_id=run).cancel(grace=0)
    damage(env, "broken")
    env.clock.advance(7 * 86_400)
    call = scripts.expire(
        env.keys,
        keep=[Keep("cancelled", 1000, None)],
        bytes=None,
        tombstone_age_ms=10**12,
        tombstone_count=10**6,
        limit=100,
    )
    assert env.link.call(call)[0] >= 9
    left = [name.decode() for name in env.link.redis.scan_iter(match=env.keys.base + "run:*")]
    assert left in ([], [env.keys.run("broken")])
    assert env.link.redis.zcard(env.keys.ended("cancelled")) == 0


@damaged
def test_lists_and_the_doctor_beside_a_broken_record(env: TestEnvironment, damage: Damage) -> None:
    runs = names(5, 2)
    for run in runs:
        env.client.start("one", {}, run_id=run, tags=["t"])
    damage(env, "broken")
    for options in ({}, {"tag": "t"}, {"blueprint_id": "one"}, {"status": RunStatus.QUEUED}):
        listed = {run.run_id: run for run in env.client.list_runs(**options)}
        assert set(innocent(runs)) <= set(listed), options
    assert "broken" in {run.run_id for run in env.client.list_runs()}, "nothing is hidden"
    assert any(defect.run_id == "broken" for defect in env.client.admin.examine())
    env.client.admin.examine(fix=True)
    worker = env.add_worker()
    for run in innocent(runs):
        assert env.client.get_handle(run).result(timeout=60) == {"a": 1}
    worker.stop()


@pytest.mark.parametrize(
    "ask",
    [
        lambda handle: handle.describe(ctx=True, outputs=True),
        lambda handle: handle.status(),
        lambda handle: handle.result(timeout=1),
        lambda handle: handle.cancel(),
        lambda handle: handle.signal("a", 1),
        lambda handle: list(handle.events()),
    ],
    ids=["describe", "status", "result", "cancel", "signal", "events"],
)
def test_who_asks_for_a_broken_run_is_reported(env: TestEnvironment, ask: Callable[[Any], Any]) -> None:
    env.client.start("one", {}, run_id="broken")
    another_type(env, "broken")
    with pytest.raises(
        RunBrokenError, match=r"the record of run broken in Redis cannot be read.*doctor --fix"
    ) as reported:
        ask(env.client.get_handle("broken"))
    assert reported.value.run_id == "broken"


@pytest.mark.parametrize("name", ["cr", "sr", "tags", "memo", "n:a", "f:a", "dl", "cx"])
def test_a_field_that_cannot_be_read_is_reported_and_no_traceback(env: TestEnvironment, name: str) -> None:
    env.client.start("one", {}, run_id="broken", tags=["t"], memo={"m": 1}, run_timeout=60)
    field(name, "{nonsense")(env, "broken")
    try:
        env.client.get_handle("broken").describe(ctx=True, outputs=True)
    except RunBrokenError as error:
        assert error.run_id == "broken"
    field(name, None)(env, "broken")
    env.client.admin.examine("broken", fix=True)


@damaged
def test_the_doctor_ends_what_it_cannot_mend(env: TestEnvironment, damage: Damage) -> None:
    env.client.start("one", {}, run_id="broken")
    damage(env, "broken")
    defects = env.client.admin.examine(fix=True)
    assert {"record-broken", "field-broken"} & {defect.kind for defect in defects}
    if damage is another_type:
        assert [run.run_id for run in env.client.list_runs()] == [], "it is taken off the lists"
        assert env.link.redis.get(env.keys.run("broken")) == b"no hash", "what somebody else wrote is not touched"
        return
    assert env.client.admin.examine() == []
    worker = env.add_worker()
    run = env.client.get_handle("broken")
    if damage in (DAMAGES["node"], DAMAGES["no-plan"]):
        with pytest.raises(RunFailedError, match=r"written over|no longer in Redis"):
            run.result(timeout=10)
    else:
        assert run.result(timeout=60) == {"a": 1}
    worker.stop()


def test_what_was_set_aside_comes_back_once_it_can_be_read(env: TestEnvironment) -> None:
    asleep(env, ["broken"])
    env.link.redis.rename(env.keys.run("broken"), env.keys.run("broken") + ":aside")
    env.link.redis.set(env.keys.run("broken"), "no hash")
    env.clock.advance(3601)
    sweep(env)
    (reported,) = [defect for defect in env.client.admin.examine() if defect.kind == "set-aside"]
    assert (reported.run_id, reported.subject) == (
        "broken",
        "timers W|broken|a",
    ) and "WRONGTYPE" in reported.explanation
    env.link.redis.rename(env.keys.run("broken") + ":aside", env.keys.run("broken"))
    env.client.admin.examine(fix=True)
    assert set_aside(env) == [] and env.client.admin.examine() == []
    worker = env.add_worker()
    env.client.get_handle("broken").result(timeout=60)
    worker.stop()


@damaged
def test_a_parent_stops_beside_a_broken_child(env: TestEnvironment, damage: Damage) -> None:
    worker = env.add_worker()
    up = env.client.start("up", {}, run_id="p")
    up.wait_for(RunStatus.WAITING, timeout=60)
    worker.drain(5)
    worker.stop()
    env.workers.remove(worker)
    child = up.describe().children[0]
    damage(env, child)
    up.cancel(grace=0)
    assert up.status() is RunStatus.CANCELLED
    if damage is another_type:
        env.link.redis.delete(env.keys.run(child), env.keys.events(child))
    env.client.admin.examine(fix=True)
    if damage is not another_type and not env.client.get_handle(child).done():
        env.client.get_handle(child).cancel(grace=0)
    env.client.admin.examine(fix=True)


@damaged
def test_a_child_ends_beside_a_broken_parent(env: TestEnvironment, damage: Damage) -> None:
    worker = env.add_worker()
    env.client.start("up", {}, run_id="broken")
    env.client.get_handle("broken").wait_for(RunStatus.WAITING, timeout=60)
    child = env.client.get_handle("broken").describe().children[0]
    damage(env, "broken")
    env.client.get_handle(child).signal("a", 1)
    env.client.get_handle(child).result(timeout=60)
    worker.drain(5)
    worker.stop()
    env.workers.remove(worker)


@pytest.mark.parametrize(
    "name",
    ["events:r", "idx:st:queued", "idx:st:completed", "idx:bp:one", "idx:tag:t", "ended:completed", "stats", "plans"],
)
def test_a_key_of_another_type_stops_no_run(env: TestEnvironment, name: str) -> None:
    key = env.keys.base + name
    if not name.startswith("events"):
        env.link.redis.delete(key)
        env.link.redis.set(key, "something else")
    run = env.client.start("one", {}, run_id="r", tags=["t"])
    if name.startswith("events"):
        env.link.redis.delete(key)
        env.link.redis.set(key, "something else")
    worker = env.add_worker()
    assert run.result(timeout=60) == {"a": 1}
    worker.drain(5)
    worker.stop()
    assert f"key {name}" in set_aside(env)
    assert any(defect.kind == "set-aside" and name in defect.explanation for defect in env.client.admin.examine())
    env.link.redis.delete(key)
    env.client.admin.examine(fix=True)
    env.client.admin.examine("r", fix=True)
    assert set_aside(env) == []


def test_what_is_set_aside_is_bounded(env: TestEnvironment) -> None:
    env.link.redis.zadd(env.keys.timers, {f"no timer {number}": 1 for number in range(1_200)})
    while sweep(env)[0]:
        pass
    assert len(set_aside(env)) == 1_000
    assert env.link.redis.hget(env.keys.stats, "broken") == b"1200", "but all are counted"
    assert env.link.redis.zcard(env.keys.timers) == 0


@pytest.mark.parametrize("name", ["cr", "sr", "dl", "en"])
@pytest.mark.parametrize("value", ["1e18", "1e300", "99999999999999999"])
def test_times_that_no_clock_shows_break_no_reader(env: TestEnvironment, name: str, value: str) -> None:
    env.client.start("one", {}, run_id="r", run_timeout=60)
    field(name, value)(env, "r")
    run = env.client.get_handle("r")
    assert run.describe().run_id == "r"
    assert [found.run_id for found in env.client.list_runs()] == ["r"]
    assert list(run.events(follow=False))
    run.cancel(grace=0)
    assert run.wait(timeout=60).status is RunStatus.CANCELLED


@pytest.mark.parametrize("name", ["bp", "par", "pn", "o:a", "w:a", "c:k", "tags", "f:a"])
def test_bytes_that_are_no_text_stop_neither_the_doctor_nor_a_reader(env: TestEnvironment, name: str) -> None:
    env.client.start("one", {}, run_id="broken")
    env.client.start("one", {}, run_id="fine")
    env.link.redis.hset(env.keys.run("broken"), mapping={name: b"\xff\x00", b"c:\xff": b"1"})
    for fix in (False, True, False):
        env.client.admin.examine(fix=fix)
        env.client.admin.examine("broken", fix=fix)
    try:
        env.client.get_handle("broken").describe(ctx=True, outputs=True)
    except RunBrokenError as error:
        assert error.run_id == "broken"
    worker = env.add_worker()
    assert env.client.get_handle("fine").result(timeout=60) == {"a": 1}
    worker.stop()


def test_a_child_that_is_no_record_stops_no_doctor(env: TestEnvironment) -> None:
    worker = env.add_worker()
    up = env.client.start("up")
    up.wait_for(RunStatus.WAITING, timeout=60)
    worker.stop()
    child = up.describe().children[0]
    another_type(env, child)
    kinds = {(defect.run_id, defect.kind) for defect in env.client.admin.examine()}
    assert (up.run_id, "child-missing") in kinds and (child, "record-broken") in kinds
    env.client.admin.examine(fix=True)
    worker = env.add_worker()
    assert up.wait(timeout=10).status == RunStatus.FAILED
    worker.stop()


def test_what_was_set_aside_under_a_key_of_another_type(env: TestEnvironment) -> None:
    env.link.redis.set(f"{env.keys.base}broken", "x")
    (defect,) = env.client.admin.examine()
    assert (defect.kind, defect.subject) == ("set-aside", "key broken")
