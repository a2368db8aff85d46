"""Events of a run together with those of the runs below it, in both clients; each event in the class of its type."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, assert_type

import pytest

from flowcraft_sdk import (
    AsyncClient,
    ConfigurationError,
    CustomEvent,
    NodeCompletedEvent,
    NodeContext,
    NodeFailedEvent,
    NodeFailure,
    NodeProgressEvent,
    NodeRetryingEvent,
    NodeStartedEvent,
    RunEndedEvent,
    RunEvent,
    RunStatus,
    UnknownEvent,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol.events import parse_event
from flowcraft_sdk.records import EVENT_TYPES, typed_event
from flowcraft_server.testing import TestEnvironment

BLUEPRINTS = {
    "outer": "nodes:\n  first: {uses: say}\n  sub: {uses: subflow, params: {blueprintId: middle}, needs: [first]}\n",
    "middle": "nodes:\n  sub: {uses: subflow, params: {blueprintId: inner}}\n  after: {uses: say, needs: [sub]}\n",
    "inner": "nodes:\n  ask: {uses: wait}\n  done: {uses: say, needs: [ask]}\n",
    "flaky": "nodes:\n  a: {uses: fail, config: {maxRetries: 2}}\n",
}


def say(ctx: NodeContext) -> str:
    ctx.progress(0.5, "half")
    ctx.emit("said", {"n": 1})
    return "hello"


def fail(_ctx: NodeContext) -> None:
    raise ValueError("no stock")


pytestmark = pytest.mark.xdist_group("run tree")  # the tests look at one run, which the first of them starts


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers={"say": say, "fail": fail}) as env:
        yield env


def test_events_of_children_come_as_they_happen_in_both_clients(env: TestEnvironment) -> None:
    handle = env.client.start("outer", run_id="tree")
    answered = threading.Event()
    found: list[RunEvent] = []
    for event in handle.events(children=True, timeout=20):
        found.append(event)
        if event.type == "node_waiting" and event.run_id == "tree~1~1" and not answered.is_set():
            answered.set()
            handle.signal("sub/sub/ask")
    assert answered.is_set()
    assert {event.run_id for event in found} == {"tree", "tree~1", "tree~1~1"}
    ends = [event.run_id for event in found if isinstance(event, RunEndedEvent)]
    assert sorted(ends) == ["tree", "tree~1", "tree~1~1"]
    for run_id in ("tree", "tree~1", "tree~1~1"):
        own = list(env.client.get_handle(run_id).events())
        assert [event for event in found if event.run_id == run_id] == own

    async def read(**options: Any) -> list[RunEvent]:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            return [event async for event in client.get_handle("tree").events(children=True, **options)]

    later = asyncio.run(read(follow=False))
    assert [event.at for event in later] == sorted(event.at for event in later)
    assert sorted(later, key=repr) == sorted(found, key=repr)
    assert asyncio.run(read()) == later


def test_what_cannot_be_followed_is_refused(env: TestEnvironment) -> None:
    handle = env.client.start("inner", run_id="waits")
    with pytest.raises(ConfigurationError, match="leave it out, or children"):
        list(handle.events(after="1", children=True))
    with pytest.raises(WaitTimeoutError):
        list(handle.events(children=True, timeout=0.05))
    handle.cancel()


def test_each_event_has_the_class_of_its_type(env: TestEnvironment) -> None:
    handle = env.client.start("flaky", run_id="flaky")
    handle.wait(timeout=60)
    events = list(handle.events())
    (retrying,) = [event for event in events if isinstance(event, NodeRetryingEvent)]
    assert_type(retrying.error, NodeFailure)
    assert (retrying.attempt, retrying.delay, retrying.error.summary) == (2, 0.0, "ValueError: no stock")
    (failed,) = [event for event in events if isinstance(event, NodeFailedEvent) and event is not retrying]
    assert (failed.attempt, failed.error.message) == (2, "no stock")
    starts = [event for event in events if isinstance(event, NodeStartedEvent)]
    assert [event.attempt for event in starts] == [1, 2]
    assert starts[0].worker
    last = events[-1]
    assert isinstance(last, RunEndedEvent)
    assert_type(last.status, RunStatus)
    assert last.status is RunStatus.FAILED

    tree = env.client.start("outer", run_id="classes")
    for event in tree.events(children=True, timeout=60):
        if event.type == "node_waiting" and event.run_id == "classes~1~1":
            tree.signal("sub/sub/ask")
    completed = [event for event in tree.events() if isinstance(event, NodeCompletedEvent)]
    assert [event.action for event in completed] == [None, None]
    progress = [event for event in tree.events() if isinstance(event, NodeProgressEvent)]
    assert [(event.fraction, event.message) for event in progress] == [(0.5, "half")]
    (custom,) = [event for event in tree.events() if isinstance(event, CustomEvent)]
    assert (custom.name, custom.value) == ("said", {"n": 1})


def test_an_event_of_a_newer_server_is_unknown_and_json_gives_the_class_back() -> None:
    assert isinstance(parse_event(1, "?|5||what", 0.0, "r"), UnknownEvent)
    for name, kind in EVENT_TYPES.items():
        assert type(typed_event(id="1", type=name, at=0.0)) is kind
    event = parse_event(3, "r|5|a|2|1500|", 0.0, "r")
    assert typed_event(**event.model_dump(mode="json")) == event
    assert type(typed_event(**{**event.model_dump(), "type": "node_dreaming"})) is UnknownEvent
