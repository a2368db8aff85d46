"""The scripts that count runs, through their typed wrappers, each sent twice."""

from collections.abc import Iterator

import pytest

from flowcraft_sdk import RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.place_scripts import PlaceEntry
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.testing import TestEnvironment

BLUEPRINTS = [
    "id: queueing\nlimits: {concurrentRuns: 1}\nnodes: {a: {uses: wait}}\n",
    "id: refusing\nlimits: {concurrentRunsPerKey: 1, overflow: reject}\nnodes: {a: {uses: wait}}\n",
    "id: latest\nlimits: {concurrentRuns: 2, overflow: cancelPrevious}\nnodes: {a: {uses: wait}}\n",
]


@pytest.fixture
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, workers=0) as environment:
        yield environment


def twice(env: TestEnvironment, call: ScriptCall) -> object:
    """The reply to a call; a second one changes nothing."""
    first = env.link.call(call)
    assert env.link.call(call) == first
    return first


def ask(env: TestEnvironment, entry: PlaceEntry, blueprint_id: str = "queueing", key: str = "") -> list[bytes]:
    reply = twice(env, scripts.ask_place(env.keys, entry, blueprint_id=blueprint_id, key=key))
    assert isinstance(reply, list)
    return reply


def test_places_are_given_in_the_order_of_creation(env: TestEnvironment) -> None:
    first, second, third = PlaceEntry("c", "1"), PlaceEntry("b", "2"), PlaceEntry("a", "3")
    assert ask(env, first) == [b"granted"]
    assert ask(env, third) == [b"waits", b"queueing", 1]
    assert ask(env, second) == [b"waits", b"queueing", 1]
    assert env.link.call(scripts.leave_place(env.keys, [first])) == 1
    assert env.link.call(scripts.leave_place(env.keys, [first])) == 0
    assert env.link.redis.zrange(env.keys.admitted, 0, -1) == [b"c|1", b"b|2"][1:]
    assert ask(env, second) == [b"granted"]
    assert env.link.call(scripts.leave_place(env.keys, [third, second])) == 2
    assert not env.link.redis.exists(env.keys.places, env.keys.line("queueing"), env.keys.running("queueing"))


def test_one_too_many_is_refused_or_takes_the_place_of_others(env: TestEnvironment) -> None:
    assert ask(env, PlaceEntry("a", "1"), "refusing", "k") == [b"granted"]
    assert ask(env, PlaceEntry("b", "2"), "refusing", "k") == [b"full", b"refusing|k", 1]
    assert ask(env, PlaceEntry("c", "3"), "refusing", "other") == [b"granted"]
    for number in range(2):
        assert ask(env, PlaceEntry(f"l{number}", str(number)), "latest") == [b"granted"]
    assert ask(env, PlaceEntry("l2", "2"), "latest") == [b"waits", b"latest", 2, b"l0|0"]
    assert ask(env, PlaceEntry("l3", "3"), "latest")[3:] == [b"l2|2", b"l0|0"]


def test_a_limit_that_allows_more_is_seen_by_a_review(env: TestEnvironment) -> None:
    ask(env, PlaceEntry("a", "1"))
    ask(env, PlaceEntry("b", "2"))
    assert env.link.call(scripts.review_places(env.keys, count=10)) == 1
    env.link.redis.hset(env.keys.run_limits, "queueing", "2||queue")
    env.clock.advance(2)
    assert twice(env, scripts.review_places(env.keys, count=10)) == 2


def test_a_run_with_its_place_begins_once(env: TestEnvironment) -> None:
    run = env.client.start("queueing", run_id="r")
    keys = env.partitions.for_run("r")
    (member,) = env.link.redis.zrange(keys.unplaced, 0, -1)
    entry = PlaceEntry.read(member.decode())
    assert env.link.call(scripts.take_place(keys, PlaceEntry("r", "1"))) == b"over"
    assert twice(env, scripts.take_place(keys, entry)) == b"begun"
    assert env.link.redis.zcard(keys.ready("default")) == 1
    assert not env.link.redis.exists(keys.unplaced)
    assert env.link.call(scripts.withdraw_run(keys, entry)) == 0
    run.cancel(grace=0)
    assert env.link.redis.zrange(keys.left, 0, -1) == [member]
    assert twice(env, scripts.take_place(keys, entry)) == b"over"


def test_a_run_that_waits_is_withdrawn_or_cancelled(env: TestEnvironment) -> None:
    run = env.client.start("queueing", run_id="r", run_timeout=60, tags=["t"])
    keys = env.partitions.for_run("r")
    entry = PlaceEntry.read(env.link.redis.zrange(keys.unplaced, 0, -1)[0].decode())
    assert env.link.call(scripts.withdraw_run(keys, PlaceEntry("r", "1"))) == 0
    assert env.link.call(scripts.withdraw_run(keys, entry)) == 1
    assert env.link.call(scripts.withdraw_run(keys, entry)) == 0
    assert not env.link.redis.exists(keys.run("r"), keys.timers, keys.unplaced, keys.index_tag("t"))
    run = env.client.start("queueing", run_id="r")
    assert run.cancel()
    assert run.status() is RunStatus.CANCELLED
