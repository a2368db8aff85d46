"""Something else has written under a key of ours, whichever it is: each call reports which key, and what that key does not concern goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from flowcraft_sdk import Client, FlowcraftError, ForeignKeyError, RunBrokenError
from flowcraft_sdk._operations import doctor as doctor_module
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys, type_of_key
from flowcraft_sdk.protocol.scripts import Keep
from flowcraft_server.service.namespace_peers import look_around
from flowcraft_server.store.publish import publish_settings
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Make = Callable[..., TestEnvironment]
TIMEOUT = 10.0
BLUEPRINTS = {
    "one": {"id": "one", "nodes": [{"id": "a", "uses": "do"}], "edges": []},
    "apart": {"id": "apart", "nodes": [{"id": "a", "uses": "do", "config": {"queue": "other"}}], "edges": []},
    "wait": {"id": "wait", "nodes": [{"id": "a", "uses": "wait"}], "edges": []},
    "sleep": {"id": "sleep", "nodes": [{"id": "a", "uses": "sleep", "params": {"duration": "1h"}}], "edges": []},
}
KEYS: dict[str, Callable[[Keys], str]] = {
    "run": lambda keys: keys.run("waits"),
    "events": lambda keys: keys.events("waits"),
    "logs": lambda keys: keys.logs("waits"),
    "batch": lambda keys: keys.batch("waits", "a"),
    "steps": lambda keys: keys.steps("waits", "a"),
    "step_values": lambda keys: keys.step_values("waits", "a"),
    "stream": lambda keys: keys.stream("done", "a"),
    "streams": lambda keys: keys.streams("done"),
    "plan": lambda keys: keys.plan("PLAN"),
    "ready": lambda keys: keys.ready("default"),
    "limited": lambda keys: keys.limited("few"),
    "slots": lambda keys: keys.slots("few"),
    "limit": lambda keys: keys.limit("few"),
    "wake": lambda keys: keys.wake("default"),
    "worker": lambda keys: keys.worker("WORKER"),
    "server": lambda keys: keys.server("s"),
    "requests": lambda keys: keys.requests("s"),
    "answers": lambda keys: keys.answers("r"),
    "schedule": lambda keys: keys.schedule("s"),
    "draft": lambda keys: keys.draft("t"),
    "index_status": lambda keys: keys.index_status("running"),
    "index_blueprint": lambda keys: keys.index_blueprint("one"),
    "index_tag": lambda keys: keys.index_tag("tag"),
    "ended": lambda keys: keys.ended("completed"),
    "suspects": lambda keys: keys.suspects("default"),
    "line": lambda keys: keys.line("one"),
    "running": lambda keys: keys.running("one"),
    "lost": lambda keys: keys.lost("WORKER"),
    "minutes": lambda keys: keys.minutes(1),
    "hours": lambda keys: keys.hours(1),
    "usage": lambda keys: keys.usage(1),
    "memory": lambda keys: keys.memory("m/k"),
    "calls": lambda keys: keys.calls("main/m"),
    "underway": lambda keys: keys.underway("main/m"),
    "pace": lambda keys: keys.pace("main/m"),
    "parked": lambda keys: keys.parked("main/m"),
    "reply": lambda keys: keys.reply("a1"),
    **{
        name: lambda keys, name=name: getattr(keys, name)  # type: ignore[misc]
        for name in (
            "broken", "gone", "parking", "plans", "blueprints", "publishers", "leases", "timers", "dead", "workers", "settings", "stats",
            "synced", "protocol", "clock", "claiming", "limits", "servers", "schedules", "counting", "totals", "work",
            "run_limits", "places", "waited_for", "admitted", "unplaced", "left", "memories", "replies", "reply_sizes", "usage_total",
        )
    },
}  # fmt: skip
NO_KEYS = {
    "namespace",
    "partition",
    "base",
    "channel",
    "end_channel",
    "inbox_prefix",
    "control",
    "messages",
    "notified",
    "script_keys",
}
NO_KEYS |= {"wake_channel", "help_channel"}
EVERYTHING = {"leases", "settings", "run_limits", "plan", "clock", "blueprints"}
"""Without these no run can be started, no node claimed, or none of that plan."""


def test_there_is_a_case_for_each_kind_of_key() -> None:
    names = {name for name in dir(Keys) if not name.startswith("_")} | {"clock"}
    assert names - NO_KEYS == set(KEYS)
    assert all(type_of_key(make(Keys("x"))) for make in KEYS.values())


@pytest.fixture
def env(environment: Make) -> Iterator[TestEnvironment]:
    settings = WorkerSettings(queues=("other", "default"))
    made = environment(handlers={"do": lambda ctx: 1}, blueprints=BLUEPRINTS, settings=settings)
    yield made
    for worker in made.workers:
        worker.drain(5)
        worker.stop()
    made.workers.clear()
    made.link.redis.unlink(*made.link.redis.scan_iter(match=made.keys.base + "*", count=1000))


def calls(env: TestEnvironment, client: Client) -> dict[str, Callable[[], Any]]:
    """What clients, the doctor, servers and their background threads do."""
    doctor, deployment = doctor_module.examine, client.deployment
    handle, keep = client.get_handle("waits"), [Keep("completed", 1000, 1)]
    retention = {"keep": keep, "bytes": 1, "tombstone_age_ms": 1, "tombstone_count": 1, "limit": 10}
    return {
        "start": lambda: client.start("one", tags=["tag"]),
        "describe": lambda: handle.describe(ctx=True, outputs=True),
        "status": lambda: handle.status(),
        "wait": lambda: client.get_handle("done").wait(timeout=TIMEOUT),
        "result": lambda: client.get_handle("done").result(timeout=TIMEOUT),
        "events": lambda: list(client.get_handle("done").events()),
        "stream": lambda: list(client.get_handle("done").stream("a")),
        "signal": lambda: handle.signal("a", 1),
        "cancel": lambda: client.get_handle("sleeps").cancel(grace=0),
        "list": lambda: list(client.list_runs(tag="tag")),
        "list-all": lambda: list(client.list_runs()),
        "list-blueprint": lambda: list(client.list_runs(blueprint_id="one")),
        "count": lambda: client.count_runs(),
        "blueprints": lambda: client.blueprints(),
        "dead-letters": lambda: client.admin.dead_letters(),
        "memories": lambda: client.admin.memories(),
        "memory": lambda: client.admin.memory("m/k"),
        "memory-delete": lambda: client.admin.delete_memory("m/k"),
        "doctor": lambda: client.driver.run(doctor(deployment, None, False)),
        "doctor-all": lambda: client.driver.run(doctor_module.examine_all(deployment)),
        "doctor-one": lambda: client.driver.run(doctor(deployment, "waits", False)),
        "doctor-fix": lambda: client.driver.run(doctor(deployment, None, True)),
        "workers": lambda: client.workers(),
        "servers": lambda: client.admin.servers(),
        "look-around": lambda: look_around(env.link.redis, env.keys, "host:file"),
        "settings": lambda: publish_settings(
            env.link.redis, env.partitions, history=True, max_events=100, cancel_grace_ms=1
        ),
        "sweep": lambda: env.link.call(
            scripts.sweep(env.keys, limit=10, max_crashes=3, grace_ms=1, queues="default,other")
        ),
        "expire": lambda: env.link.call(scripts.expire(env.keys, **retention)),
        "lose": lambda: env.link.call(
            scripts.lose_worker(env.keys, worker="WORKER", first=0, count=10, max_crashes=3, executed=[])
        ),
    }


@pytest.mark.parametrize("foreign", ["string", "hash"])
@pytest.mark.parametrize("kind", KEYS)
def test_each_call_names_the_key_and_the_rest_goes_on(env: TestEnvironment, kind: str, foreign: str) -> None:
    client, redis = env.client, env.link.redis
    plan = redis.hget(env.keys.blueprints, "one").decode()
    key = KEYS[kind](env.keys).replace("PLAN", plan).replace("WORKER", env.workers[0].settings.worker_id)
    if type_of_key(key) == foreign:
        pytest.skip("it is of this type")
    client.start("one", run_id="done", tags=["tag"]).result(timeout=TIMEOUT)
    client.start("wait", run_id="waits")
    client.start("sleep", run_id="sleeps")
    env.run_until_idle()
    redis.delete(key)
    write: dict[str, Callable[[], Any]] = {
        "string": lambda: redis.set(key, "x"),
        "hash": lambda: redis.hset(key, "x", "y"),
    }
    write[foreign]()

    wrong = []
    for name, call in calls(env, client).items():
        try:
            call()
        except (ForeignKeyError, RunBrokenError):
            continue
        except FlowcraftError as error:
            if "WRONGTYPE" in str(error) or len(str(error).splitlines()) > 1:
                wrong.append(f"{name}: {error!r}")
        except Exception as error:
            if key not in str(error):
                wrong.append(f"{name}: {error!r}")
    assert wrong == []
    if kind not in EVERYTHING:
        assert client.start("apart").result(timeout=TIMEOUT) == {"a": 1}

    redis.delete(key)
    if kind not in ("blueprints", "plan", "plans", "settings", "protocol"):  # which servers publish again
        assert client.start("apart").result(timeout=TIMEOUT) == {"a": 1}
        assert client.start("one").result(timeout=TIMEOUT) == {"a": 1}


@pytest.mark.parametrize("kind", ["timers", "leases", "ended", "stats", "workers"])
def test_a_worker_neither_dies_nor_spins(env: TestEnvironment, kind: str) -> None:
    key = KEYS[kind](env.keys)
    env.link.redis.delete(key)
    env.link.redis.set(key, "x")
    (worker,) = env.workers
    asked: list[float] = []
    send = worker._link.send
    worker._link.send = lambda calls: (asked.append(len(calls)), send(calls))[1]  # type: ignore[method-assign]
    waiting = env.client.start("apart")
    worker.wake()
    waiting.wait_for("completed", timeout=TIMEOUT) if kind != "leases" else None
    assert not worker.restart_dead_threads()
    assert len(asked) < 200
    env.link.redis.delete(key)
    assert waiting.result(timeout=TIMEOUT) == {"a": 1}


def test_timers_that_cannot_be_read_hold_up_no_lease(env: TestEnvironment) -> None:
    env.client.start("one", run_id="left")
    env.link.redis.delete(env.keys.timers)
    env.link.redis.set(env.keys.timers, "x")
    env.link.redis.zadd(env.keys.leases, {"gone|a": 1})
    with pytest.raises(ResponseError, match=f"FOREIGNKEY {env.keys.timers} is a string and no zset"):
        env.link.call(scripts.sweep(env.keys, limit=10, max_crashes=3, grace_ms=1, queues="default"))
    assert env.link.redis.zscore(env.keys.leases, "gone|a") is None
