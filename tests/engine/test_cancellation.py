"""Cancellation: what is reported, what is fenced, what a caller receives."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import FAILED, AsyncNodeContext, NodeContext, RunCancelledError, RunNotFoundError, RunStatus
from flowcraft_server.testing import TestEnvironment, broken_invariants
from tests.engine.test_failures import graph

Make = Callable[..., TestEnvironment]


class Gate:
    """A handler that says when it began and obeys, or does not, when it is asked to stop."""

    def __init__(self, obeys: bool = True) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.obeys = obeys

    def __call__(self, ctx: NodeContext) -> str:
        self.begun.set()
        while not self.release.is_set():
            if self.obeys:
                ctx.check_cancelled()
            time.sleep(0.001)
        return "late"


def test_a_cooperative_function_ends_the_run_with_the_reason(environment: Make) -> None:
    gate, ran = Gate(), []
    env = environment(
        handlers={"gate": gate.__call__, "after": lambda ctx: ran.append(1)},
        blueprints=graph({"a": "gate", "b": "after"}, ["a b"]),
    )
    run = env.client.start("g")
    assert gate.begun.wait(60)
    assert run.cancel("no longer wanted") is True
    with pytest.raises(RunCancelledError, match="no longer wanted") as caught:
        run.result(timeout=10)
    assert (caught.value.reason, caught.value.forced) == ("no longer wanted", False)
    assert ran == []
    assert run.cancel("again") is False


def test_a_coroutine_is_cancelled_at_its_next_await(environment: Make) -> None:
    begun, seen = threading.Event(), []

    async def sleeps(ctx: AsyncNodeContext) -> None:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("reported")
            raise

    env = environment(handlers={"sleeps": sleeps}, blueprints=graph({"a": "sleeps"}))
    run = env.client.start("g")
    assert begun.wait(60)
    run.cancel()
    assert run.wait(timeout=60).status is RunStatus.CANCELLED
    assert seen == ["reported"]


def test_coroutines_that_were_claimed_and_not_begun_end_as_well(environment: Make) -> None:
    begun, release = threading.Event(), threading.Event()

    async def holds_the_loop(ctx: AsyncNodeContext) -> None:
        begun.set()
        release.wait(5)

    async def sleeps(ctx: AsyncNodeContext) -> None:
        await asyncio.sleep(30)

    others = {f"b{i}": "sleeps" for i in range(8)}
    env = environment(handlers={"holds": holds_the_loop, "sleeps": sleeps}, blueprints=graph({"a": "holds", **others}))
    run = env.client.start("g")
    assert begun.wait(60)
    while sum(node.status == "running" for node in run.describe().nodes.values()) < 1 + len(others):
        pass
    run.cancel()
    while not all(attempt.stopped for attempt in env.workers[0].held.all()):
        pass
    release.set()
    assert run.wait(timeout=60).status is RunStatus.CANCELLED


def test_a_handler_that_ignores_it_is_fenced_when_the_grace_is_over(environment: Make) -> None:
    gate = Gate(obeys=False)
    env = environment(handlers={"gate": gate.__call__}, blueprints=graph({"a": "gate"}))
    run = env.client.start("g")
    assert gate.begun.wait(60)
    assert run.cancel("now", grace=60)
    assert run.status() is RunStatus.CANCELLING
    env.clock.advance(61)
    snapshot = run.wait(timeout=60)
    assert (snapshot.status, snapshot.cancel.forced) == (RunStatus.CANCELLED, True)
    gate.release.set()
    env.run_until_idle()
    assert "a" not in run.describe(ctx=True).ctx


def test_no_grace_ends_it_at_once(environment: Make) -> None:
    gate = Gate(obeys=False)
    env = environment(handlers={"gate": gate.__call__}, blueprints=graph({"a": "gate"}))
    run = env.client.start("g")
    assert gate.begun.wait(60)
    run.cancel(grace=0)
    assert run.status() is RunStatus.CANCELLED
    gate.release.set()


def test_queued_and_scheduled_runs_end_at_once(environment: Make) -> None:
    env = environment(workers=0, blueprints=graph({"a": "x"}))
    for options in ({}, {"delay": 3600}):
        run = env.client.start("g", **options)
        assert run.cancel("why") is True
        assert run.status() is RunStatus.CANCELLED


def test_the_first_reason_is_kept(environment: Make) -> None:
    gate = Gate(obeys=False)
    env = environment(handlers={"gate": gate.__call__}, blueprints=graph({"a": "gate"}))
    run = env.client.start("g")
    assert gate.begun.wait(60)
    assert run.cancel("first") and run.cancel("second", grace=0)
    with pytest.raises(RunCancelledError, match="first"):
        run.result(timeout=5)
    gate.release.set()


def test_it_reaches_subflows_two_levels_down(environment: Make) -> None:
    gate = Gate()

    def subflow(name: str, child: str) -> dict[str, Any]:
        return {"id": name, "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": child}}], "edges": []}

    env = environment(
        handlers={"gate": gate.__call__},
        blueprints=[graph({"a": "gate"}) | {"id": "leaf"}, subflow("middle", "leaf"), subflow("top", "middle")],
    )
    run = env.client.start("top")
    assert gate.begun.wait(60)
    run.cancel("all of it")
    assert run.wait(timeout=60).status is RunStatus.CANCELLED
    child = run.describe().children[0]
    leaf = env.client.get_handle(child).describe().children[0]
    assert env.client.get_handle(child).status() is RunStatus.CANCELLED
    assert env.client.get_handle(leaf).status() is RunStatus.CANCELLED


@pytest.mark.parametrize("cut", ["loop", "batch"])
def test_a_loop_and_a_batch_that_were_to_go_on_are_left_undone(environment: Make, cut: str) -> None:
    gate, calls = Gate(obeys=False), []

    def counted(ctx: NodeContext) -> int:
        calls.append(ctx.node_id)
        gate(ctx)
        number = int(ctx.context.get("n") or 0) + 1
        ctx.context.set("n", number)
        return number

    env = environment(
        handlers={"work": counted, "last": lambda ctx: ctx.input},
        blueprints={
            "loop": """
nodes:
  again: {uses: loop-controller, params: {condition: "(n ?? 0) < 3"}, next: {continue: body, break: after}}
  body: {uses: work, next: again}
  after: {uses: last, inputs: n}
""",
            "batch": """
nodes:
  spread: {uses: batch-scatter, inputs: list, params: {workerUsesKey: work, gatherNodeId: collect, maxLive: 1}}
  collect: {uses: batch-gather}
  after: {uses: last, needs: collect, inputs: n}
""",
        },
    )
    run = env.client.start(cut, {"list": [1, 2, 3]})
    assert gate.begun.wait(60)
    run.cancel()
    gate.release.set()
    with pytest.raises(RunCancelledError):
        run.result(timeout=10)
    assert len(calls) == 1
    again = run.rerun(FAILED)
    again.result(timeout=60)
    assert (len(calls), again.describe(outputs=True).nodes["after"].output) == (3, 3)
    assert broken_invariants(env) == []


def test_an_unknown_run(environment: Make) -> None:
    env = environment(workers=0)
    for call in ("cancel", "status", "result", "describe", "wait"):
        with pytest.raises(RunNotFoundError):
            getattr(env.client.get_handle("nope"), call)()
