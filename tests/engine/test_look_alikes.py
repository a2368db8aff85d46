"""Runs whose ids look like keys, channels and children of each other do not touch each other."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_server.testing import TestEnvironment
from tests.engine.leaks import leaked_keys, names_of

Environments = Callable[..., TestEnvironment]

IDS = [
    "X", "X:events", "X:end", "X:batch:m", "X:batch:m:events", "X.1", "X.1:events", "X:replay", "run:X", "events:X", "end:X", "batch:X",
    "batch:X.m", "run:X:events", "-", ":", ".", "X:", "X::", ":X", "1", "T", "W", "d", "X" * 200, "X" * 193 + ":events",
]  # fmt: skip
FLOW = """
nodes:
  m: {uses: map, inputs: list, params: {uses: echo}}
  sub: {call: inner, inputs: {list: list}, needs: m}
  ask: {uses: wait, inputs: m, needs: sub}
  end: {uses: echo, inputs: m, needs: ask}
"""
INNER = "nodes: {m: {uses: map, inputs: list, params: {uses: echo}}}"


@pytest.fixture
def env(environment: Environments) -> TestEnvironment:
    return environment(blueprints={"flow": FLOW, "inner": INNER}, handlers={"echo": lambda ctx: ctx.input}, workers=2)


def start_all(env: TestEnvironment) -> dict[str, Any]:
    """All of them, each with a context of its own, until each waits."""
    handles = {run_id: env.client.start("flow", {"list": [run_id, n]}, run_id=run_id) for n, run_id in enumerate(IDS)}
    for handle in handles.values():
        assert handle.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    return handles


def keys_of_runs(env: TestEnvironment) -> dict[str, Any]:
    """Every key of a run, with all that is in it."""
    found: dict[str, Any] = {}
    for name in names_of(env):
        short = name.removeprefix(env.keys.base)
        if short.startswith("events:"):
            found[name] = env.link.redis.lrange(name, 0, -1)
        elif short.startswith(("run:", "batch:")):
            found[name] = env.link.redis.hgetall(name)
    return found


def test_they_run_together_to_the_end(env: TestEnvironment) -> None:
    handles = start_all(env)
    for handle in handles.values():
        handle.signal("ask")
    for n, (run_id, handle) in enumerate(handles.items()):
        assert handle.result(timeout=60)["end"] == [run_id, n]
        begun, *_, ended = list(handle.events())
        assert (begun.type, ended.type) == ("run_started", "run_ended")
        assert len([event for event in handle.events() if event.type == "run_ended"]) == 1
    assert not leaked_keys(env)


def test_each_waiter_is_notified_of_its_own_run_only(env: TestEnvironment) -> None:
    handles = start_all(env)
    listening = env.link.redis.pubsub(ignore_subscribe_messages=True)
    channels = {env.keys.end_channel(run_id): run_id for run_id in IDS}
    channels |= {env.keys.channel(run_id): run_id for run_id in IDS}
    listening.subscribe(*channels)
    for run_id in IDS:
        handles[run_id].signal("ask")
        received: set[str] = set()
        while True:
            message = listening.get_message(timeout=10)
            if message is None:
                continue
            received.add(channels[message["channel"].decode()])
            if message["channel"].decode() == env.keys.end_channel(run_id):
                break
        assert received == {run_id}
        assert handles[run_id].result(timeout=60)["end"][0] == run_id
        others = [other for other in IDS[IDS.index(run_id) + 1 :] if handles[other].status() is not RunStatus.WAITING]
        assert others == []
        drained = listening.get_message(timeout=0)
        while drained is not None:
            assert channels[drained["channel"].decode()] == run_id
            drained = listening.get_message(timeout=0)
    listening.close()


def test_retention_removes_one_and_leaves_the_others_as_they_are(env: TestEnvironment) -> None:
    handles = start_all(env)
    for handle in handles.values():
        handle.signal("ask")
    for handle in handles.values():
        handle.result(timeout=60)
    env.run_until_idle()
    before = keys_of_runs(env)
    for first in IDS:
        env.link.redis.zadd(env.keys.ended("completed"), {first: 1})  # long ago: it alone is past the age
        mine = {
            key for key in before
            if any(key == name or key.startswith(f"{name}|") for run_id in (first, f"{first}~1") for name in own_names(env, run_id))
        }  # fmt: skip
        assert len(mine) == 6, "the record, the history and the batch of the run and of its child"
        keep = [scripts.Keep("completed", 10**9, None)]
        env.link.call(
            scripts.expire(env.keys, keep=keep, bytes=None, tombstone_age_ms=10**9, tombstone_count=10**6, limit=2)
        )
        for key in mine:
            del before[key]
        assert keys_of_runs(env) == before, first
    assert before == {}


def own_names(env: TestEnvironment, run_id: str) -> tuple[str, str, str]:
    return env.keys.run(run_id), env.keys.events(run_id), f"{env.keys.base}batch:{run_id}"
