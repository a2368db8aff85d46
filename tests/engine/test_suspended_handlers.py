"""Handlers that suspend themselves: they are called again once the nodes have ended that they have added."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import DynamicNode, NodeResult, RunFailedError
from flowcraft_server.engine.outcome import Suspended
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]

ASKING = {
    "id": "asking",
    "nodes": [{"id": "ask", "uses": "ask", "config": {"maxRetries": 2}}, {"id": "after", "uses": "after"}],
    "edges": [{"source": "ask", "target": "after"}],
}
ARGUMENTS = {"n": {"value": 4}, "text": {"value": "= {{ not read }}"}}


def asker(seen: list[Any], *nodes: DynamicNode) -> Any:
    """A handler that adds some nodes, and says what they have come to when it is called again."""

    async def ask(ctx: Any) -> Any:
        fields = [name for node in nodes for name in (f"n:{node.id}", f"o:{node.id}", f"f:{node.id}", f"a:{node.id}")]
        found = await ctx.context._read(ctx.context._run_key, fields)
        seen.append([None if raw is None else raw.decode() for raw in found])
        return Suspended(dynamic_nodes=nodes) if found[0] is None else "answered"

    return ask


def test_it_is_called_again_with_outputs_failures_and_actions_of_what_it_added(environment: Make) -> None:
    seen: list[Any] = []
    given: list[Any] = []

    def work(ctx: Any) -> NodeResult:
        given.append((ctx.input, ctx.attempt))
        return NodeResult(len(given), action="done")

    def boom(ctx: Any) -> None:
        raise ValueError("no such page")

    nodes = [
        DynamicNode("w", "work", inputs=ARGUMENTS),
        DynamicNode("b", "boom", config={"maxRetries": 2, "retryDelay": 0}),
    ]
    env = environment(
        blueprints=ASKING,
        handlers={"ask": asker(seen, *nodes), "work": work, "boom": boom, "after": lambda ctx: ctx.input},
    )
    handle = env.client.start("asking")
    assert handle.result(timeout=60)["after"] == "answered"
    assert given == [({"n": 4, "text": "= {{ not read }}"}, 1)]
    first, second = seen
    assert set(first) == {None}
    assert second[1] == "1" and second[3] == "done"
    assert second[4][0] == "F" and "no such page" in second[6]
    described = handle.describe()
    assert (described.nodes["ask"].attempts, described.nodes["b"].status) == (1, "failed")
    assert described.failures == ()


def test_the_wait_of_a_person_among_them_parks_the_run(environment: Make) -> None:
    seen: list[Any] = []
    wait = DynamicNode("ok", "wait", params={"prompt": "Send it?", "actions": ["approve", "refuse"]})
    env = environment(blueprints=ASKING, handlers={"ask": asker(seen, wait), "after": lambda ctx: ctx.input})
    handle = env.client.start("asking")
    env.run_until_idle()
    assert handle.describe().status == "waiting"
    assert env.workers[0].held.all() == []
    handle.signal("ok", payload="not now", action="refuse")
    assert handle.result(timeout=60)["after"] == "answered"
    assert seen[1][1:4] == ['"not now"', None, "refuse"]


def test_a_worker_that_dies_meanwhile_changes_nothing(environment: Make) -> None:
    seen: list[Any] = []
    wait = DynamicNode("ok", "wait")
    env = environment(blueprints=ASKING, handlers={"ask": asker(seen, wait), "after": lambda ctx: ctx.input})
    handle = env.client.start("asking")
    env.run_until_idle()
    env.kill_worker()
    handle.signal("ok")
    env.add_worker()
    assert handle.result(timeout=60)["after"] == "answered"
    assert len(seen) == 2


def test_one_that_is_called_again_may_fail_and_be_tried_again(environment: Make) -> None:
    seen: list[Any] = []
    ask = asker(seen, DynamicNode("w", "work"))

    async def failing(ctx: Any) -> Any:
        returned = await ask(ctx)
        if returned == "answered" and ctx.attempt == 1:
            raise ValueError("once")
        return returned

    env = environment(
        blueprints=ASKING, handlers={"ask": failing, "work": lambda ctx: 1, "after": lambda ctx: ctx.input}
    )
    assert env.client.start("asking").result(timeout=60)["after"] == "answered"
    assert len(seen) == 3


def test_a_rerun_of_a_run_that_stopped_meanwhile_begins_it_anew(environment: Make) -> None:
    seen: list[Any] = []
    wait = DynamicNode("ok", "wait")
    env = environment(
        blueprints=ASKING,
        handlers={"ask": asker(seen, DynamicNode("w", "work"), wait), "work": lambda ctx: 1, "after": lambda ctx: 2},
    )
    handle = env.client.start("asking")
    env.run_until_idle()
    handle.cancel(grace=0)
    again = handle.rerun()
    env.run_until_idle()
    assert seen == [[None] * 8] * 2
    again.signal("ok")
    assert again.result(timeout=60)["after"] == 2


def test_its_own_failure_while_it_is_called_again_is_its_own(environment: Make) -> None:
    ask = asker([], DynamicNode("b", "boom"))

    async def failing(ctx: Any) -> Any:
        returned = await ask(ctx)
        if returned == "answered":
            raise ValueError("cannot do without")
        return returned

    def boom(ctx: Any) -> None:
        raise ValueError("no such page")

    env = environment(blueprints=ASKING, handlers={"ask": failing, "boom": boom, "after": lambda ctx: 1})
    with pytest.raises(RunFailedError, match="cannot do without"):
        env.client.start("asking").result(timeout=10)
