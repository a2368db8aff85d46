"""A child run that completes while its parent stops: it is undone by the compensation of its node, once, or by itself."""

import itertools
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeStatus, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_server.engine.claims import Claim
from flowcraft_server.testing import TestEnvironment, broken_invariants
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.test_scripts import Bench, chain

Make = Callable[..., TestEnvironment]


def node(name: str, uses: str = "x", compensate: str = "", **more: Any) -> dict[str, Any]:
    return {"id": name, "uses": uses, **more, **({"config": {"compensate": compensate}} if compensate else {})}


SAGA = {
    "id": "saga",
    "nodes": [
        node("first", compensate="undo-first"),
        node("sub", "subflow", "undo-sub", params={"blueprintId": "chain"}),
        node("after"),
        node("undo-first"),
        node("undo-sub"),
    ],
    "edges": [{"source": a, "target": b} for a, b in itertools.pairwise(("first", "sub", "after"))],
}
BESIDE = {
    "id": "beside",
    "nodes": [
        node("sub", "subflow", "undo-sub", params={"blueprintId": "chain"}),
        node("bad"),
        node("undo-sub"),
    ],
    "edges": [],
}


class Saga(Bench):
    """A run whose node `sub` has started its child; the test is the worker of both."""

    def begin(self, blueprint: str = "saga", **options: Any) -> Claim:
        """Start it as far as that the child's first node is claimed; gives that claim."""
        self.start(blueprint, **options)
        if blueprint == "saga":
            self.complete(self.next("first"), decisions="t", output=b'"did"')
        parent = self.next("sub")
        call = scripts.start_child(
            self.keys, run_id="r", instance_id="sub", fencing_token=parent.fencing_token, blueprint_id="chain",
            max_depth=16, context={},
        )  # fmt: skip
        assert self.call(call) == [b"ok", b"r~1"]
        if blueprint == "saga":
            self.complete(self.next("a", "r~1"), decisions="t")
            return self.next("b", "r~1")
        return self.next("a", "r~1")

    def next(self, node_id: str, run_id: str = "r") -> Claim:
        claim = self.claim()
        assert claim is not None and (claim.run_id, claim.instance_id) == (run_id, node_id)
        return claim

    def cancel(self, run_id: str = "r", grace_ms: int = 1000) -> None:
        self.call(scripts.cancel(self.keys, run_id=run_id, reason="enough", grace_ms=grace_ms))

    def undo_all(self, *names: str) -> None:
        """Expect the compensations in this order, and nothing else."""
        for name in names:
            self.complete(self.next(name))
        assert self.claim() is None

    def check(self, status: str, **marks: str) -> None:
        fields = self.fields()
        assert fields["st"] == status
        assert {fields[f"co:{n}"].split("|")[1]: fields[f"co:{n}"][0] for n in range(1, int(fields["cn"]) + 1)} == marks
        assert broken_invariants(self.env) == []


@pytest.fixture
def saga(environment: Make) -> Saga:
    return Saga(environment(workers=0, partitions=1, blueprints=[chain("a", "b"), SAGA, BESIDE]))


def test_it_completes_after_the_cancellation(saga: Saga) -> None:
    last = saga.begin()
    saga.cancel()
    assert saga.status("r~1") == "cancelling"
    saga.complete(last)  # what runs may finish; nothing of the child is left
    assert (saga.status(), saga.status("r~1")) == ("cancelling", "completed")
    back = saga.next("sub")
    assert back.attached == ("child", "r~1", "completed")
    saga.complete(back, decisions="t", output=b'"booked"')
    undo = saga.next("undo-sub")
    assert undo.input_value == b'"booked"'
    saga.complete(undo)
    saga.undo_all("undo-first")
    saga.check("cancelled", first="c", sub="c")


def test_it_had_completed_and_no_worker_had_recorded_that(saga: Saga) -> None:
    saga.complete(saga.begin())
    saga.cancel(grace_ms=0)
    saga.env.clock.advance(3600)
    saga.sweep()
    assert saga.status() == "cancelling"  # no grace ends what is to be undone
    saga.complete(saga.next("sub"), decisions="t")
    saga.undo_all("undo-sub", "undo-first")
    saga.check("cancelled", first="c", sub="c")


def test_its_node_was_being_recorded(saga: Saga) -> None:
    saga.complete(saga.begin())
    back = saga.next("sub")
    saga.cancel(grace_ms=0)
    assert saga.complete(back, decisions="t")[0] == b"ok"
    assert saga.complete(back, decisions="t")[0] == b"already"
    saga.undo_all("undo-sub", "undo-first")
    saga.check("cancelled", first="c", sub="c")


@pytest.mark.parametrize("how", ["lost", "handed back", "given up"])
def test_the_worker_that_recorded_it_goes(saga: Saga, how: str) -> None:
    saga.complete(saga.begin())
    back = saga.next("sub")
    saga.cancel(grace_ms=0)
    if how == "lost":
        saga.env.clock.advance(11, keep_leases=False)
    elif how == "handed back":
        saga.call(
            scripts.release(
                saga.keys, run_id="r", instance_id="sub", fencing_token=back.fencing_token, delay_ms=0
            )
        )  # fmt: skip
    else:  # by a worker that took the stop for one of this node's
        saga.fail(back, "cancelled")
        saga.env.clock.advance(1)
    saga.sweep()
    assert saga.complete(back)[0] == b"stale"
    saga.complete(saga.next("sub"), decisions="t")
    saga.undo_all("undo-sub", "undo-first")
    saga.check("cancelled", first="c", sub="c")


def test_it_could_not_be_recorded_at_first(saga: Saga) -> None:
    saga.complete(saga.begin())
    back = saga.next("sub")
    saga.cancel(grace_ms=0)
    saga.fail(back, "retry", delay_ms=500)
    saga.env.clock.advance(1)
    saga.sweep()
    again = saga.next("sub")  # not with another child: the run stops
    assert (again.attached, again.attempt) == (("child", "r~1", "completed"), 2)
    saga.complete(again, decisions="t")
    saga.undo_all("undo-sub", "undo-first")
    saga.check("cancelled", first="c", sub="c")


def test_one_that_does_not_complete_is_not_undone(saga: Saga) -> None:
    last = saga.begin()
    saga.cancel()
    saga.fail(last, "cancelled")
    assert saga.status("r~1") == "cancelled"
    saga.undo_all("undo-first")
    saga.check("cancelled", first="c")


def test_the_parent_times_out(saga: Saga) -> None:
    last = saga.begin(run_timeout_ms=60_000)
    saga.env.clock.advance(61)
    saga.complete(last)
    saga.sweep()
    saga.complete(saga.next("sub"), decisions="t")
    saga.undo_all("undo-sub", "undo-first")
    saga.check("timed_out", first="c", sub="c")


def test_a_sibling_fails(saga: Saga) -> None:
    saga.start("beside")
    first, second = saga.claim(), saga.claim()
    assert first is not None and second is not None
    parent, bad = (first, second) if first.instance_id == "sub" else (second, first)
    saga.call(
        scripts.start_child(
            saga.keys, run_id="r", instance_id="sub", fencing_token=parent.fencing_token, blueprint_id="chain",
            max_depth=16, context={},
        )
    )  # fmt: skip
    saga.complete(saga.next("a", "r~1"), decisions="t")
    last = saga.next("b", "r~1")
    saga.fail(bad, "final")
    saga.complete(last)
    assert saga.status("r~1") == "completed"
    saga.complete(saga.next("sub"))
    saga.undo_all("undo-sub")
    saga.check("failed", sub="c")


PICKS = """
nodes:
  each: {uses: map, inputs: items, params: {call: picked}, config: {compensate: undo FALLBACK}}
  rest: {uses: step, needs: each}
  last: {uses: LAST, needs: rest}
  caught: {uses: step}
  undo: {uses: undo}
"""
PICKED = "inputs: {}\nnodes: {a: {uses: pick}}\n"


@pytest.mark.parametrize("caught", [False, True])
def test_another_item_of_its_map_fails(environment: Make, caught: bool) -> None:
    begun, failed, release = Event(), Event(), Event()
    undone: list[Any] = []

    def pick(ctx: NodeContext) -> Any:
        if ctx.input == "slow":
            begun.set()
            release.wait(30)
        elif ctx.input == "bad":
            begun.wait(30)
            raise ValueError("none left")
        return f"picked {ctx.input}"

    def fails(ctx: NodeContext) -> None:
        raise RuntimeError("no courier")

    text = PICKS.replace("FALLBACK", ", fallback: caught" if caught else "").replace("LAST", "fails")
    if not caught:
        text = text.replace("  caught: {uses: step}\n", "")
    handlers = {"pick": pick, "step": lambda ctx: 1, "undo": lambda ctx: undone.append(ctx.input), "fails": fails}
    env = environment(workers=2, blueprints={"picks": text, "picked": PICKED}, handlers=handlers)
    run = env.client.start("picks", {"items": ["slow", "bad"]})
    for event in run.events(timeout=30):
        if event.type == "node_failed" and event.node_id == "each[1]":
            failed.set()
            break
    assert failed.is_set()
    slow = env.client.get_handle(next(child for child, item in run.describe().child_nodes.items() if item == "each[0]"))
    assert slow.wait_for(RunStatus.CANCELLING, timeout=30) is RunStatus.CANCELLING
    assert run.describe().nodes["each[0]"].status is NodeStatus.WAITING
    release.set()
    assert slow.wait(timeout=30).status is RunStatus.COMPLETED
    ended = run.wait(timeout=30)
    assert ended.status is RunStatus.FAILED
    assert [each.compensates for each in ended.compensations] == ["each[0]"]
    assert undone == ["picked slow"]
    assert [event.type for event in slow.events(follow=False)].count("cancel_requested") == 1
    assert broken_invariants(env) == []


WAITS_BEFORE = """
nodes:
  sub: {call: quick, inputs: {x: x}, outputs: {made: b}, config: {compensate: undo, queue: late}}
  after: {uses: step, needs: sub}
  undo: {uses: undo, inputs: {made: made, whole: sub}}
"""


@pytest.mark.parametrize("partitions", [1, 16])
def test_a_worker_that_comes_later_records_it(environment: Make, partitions: int) -> None:
    undone: list[Any] = []
    gate = Event()
    handlers = {
        "step": lambda ctx: ctx.input, "undo": lambda ctx: undone.append(ctx.input),
        "quick": lambda ctx: "it" if gate.wait(30) else None,
    }  # fmt: skip
    flows = {"waits-before": WAITS_BEFORE, "quick": "inputs: {x: any}\nnodes: {b: {uses: quick}}\n"}
    env = environment(blueprints=flows, handlers=handlers, partitions=partitions)
    late = env.add_worker(WorkerSettings(queues=("late",)))
    run = env.client.start("waits-before", {"x": 1})
    while not run.describe().children:
        pass
    env.kill_worker(late)
    gate.set()
    child = env.client.get_handle(run.describe().children[0])
    assert child.wait(timeout=30).status is RunStatus.COMPLETED
    run.cancel("enough", grace=0)
    found = run.describe()
    assert found.status is RunStatus.CANCELLING and found.nodes["sub"].status is not NodeStatus.CANCELLED
    env.add_worker(WorkerSettings(queues=("late",)))
    assert run.wait(timeout=30).status is RunStatus.CANCELLED
    assert undone == [{"made": "it", "whole": "it"}]
    assert run.describe(ctx=True).ctx["made"] == "it"  # type: ignore[index]


def test_in_a_large_run_that_is_stopped_in_pieces(environment: Make) -> None:
    gate, undone = Event(), []

    def pick(ctx: NodeContext) -> Any:
        gate.wait(60)
        return ctx.input

    text = PICKS.replace("FALLBACK", "").replace("LAST", "step").replace("  caught: {uses: step}\n", "")
    handlers = {"pick": pick, "step": lambda ctx: 1, "undo": lambda ctx: undone.append(ctx.input)}
    env = environment(workers=2, blueprints={"picks": text, "picked": PICKED}, handlers=handlers, partitions=1)
    env.link.redis.hset(env.keys.settings, "steps", 2)  # a record of more than 16 fields is large
    run = env.client.start("picks", {"items": list(range(5))})
    while len(run.describe().children) < 5:
        pass
    run.cancel()
    gate.set()
    ended = run.wait(timeout=60)
    assert ended.status is RunStatus.CANCELLED
    completed = [each.run_id for each in env.client.list_runs(parent=run.run_id, status=RunStatus.COMPLETED)]
    assert len(completed) == len(undone) == len(set(undone)) == len(ended.compensations)


COURSE = """
nodes:
  first: {uses: step, config: {compensate: undo}}
  sub: {call: below, needs: first, config: {compensate: undo}}
  after: {uses: step, needs: sub, config: {compensate: undo}}
  last: {uses: step, needs: after}
  undo: {uses: undo, inputs: _compensates.node}
"""
BELOW = "nodes:\n  a: {uses: step}\n  b: {uses: step, needs: a}\nfinally: {c: {uses: step}}\n"


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("grace", [0, 30])
@pytest.mark.parametrize("at", ["first", "a", "b", "c", "after", "last"])
def test_wherever_the_cancellation_comes_a_completed_child_is_undone_once(
    environment: Make, at: str, grace: int, kill: bool
) -> None:
    undone: list[Any] = []
    there, go = Event(), Event()

    def step(ctx: NodeContext) -> str:
        if ctx.node_id == at and not there.is_set():
            there.set()
            go.wait(30)
        return ctx.node_id

    handlers = {"step": step, "undo": lambda ctx: undone.append((ctx.input, ctx.idempotency_key))}
    env = environment(workers=2, blueprints={"course": COURSE, "below": BELOW}, handlers=handlers)
    run = env.client.start("course")
    assert there.wait(30)
    run.cancel("enough", grace=grace)
    if kill:
        env.kill_worker()
    go.set()
    if kill:
        env.add_worker()
    while not run.done():
        env.clock.advance(5)  # leases of the worker that was killed, and the grace
    ended = run.describe()
    children = [env.client.get_handle(child).status() for child in ended.children]
    completed = children == [RunStatus.COMPLETED]
    if ended.status is RunStatus.COMPLETED:  # nothing of it was left when the cancellation came
        assert undone == [] and at == "last"
        return
    assert ended.status is RunStatus.CANCELLED
    names = [name for name, _ in dict.fromkeys(undone)]
    assert names == [each.compensates for each in ended.compensations]
    assert ("sub" in names) == completed
    assert names == [name for name in ("after", "sub", "first") if name in names]
    assert completed == (ended.nodes["sub"].status is NodeStatus.COMPLETED)


HOLDS = """
nodes:
  each: {uses: map, inputs: items, params: {call: held}, config: {fallback: caught}}
  caught: {uses: caught}
"""
HELD = "inputs: {}\nnodes: {a: {uses: pick}}\nfinally: {hold: {uses: wait}}\n"


@pytest.mark.parametrize("first", ["parent", "child"])
def test_one_that_closes_and_waits_when_its_item_is_given_up_counts_no_more(environment: Make, first: str) -> None:
    begun, go = Event(), Event()

    def pick(ctx: NodeContext) -> Any:
        if ctx.input == "bad":
            raise ValueError("none left")
        return ctx.input

    def caught(ctx: NodeContext) -> str:
        begun.set()
        go.wait(30)
        return "instead"

    env = environment(blueprints={"holds": HOLDS, "held": HELD}, handlers={"pick": pick, "caught": caught})
    run = env.client.start("holds", {"items": ["x", "bad"]})
    while len(run.describe().children) < 2:
        pass
    good, bad = (
        env.client.get_handle(child) for _, child in sorted((n, c) for c, n in run.describe().child_nodes.items())
    )
    for child in (good, bad):
        child.wait_for(RunStatus.WAITING, timeout=30)
    bad.signal("hold", 1)  # it has failed, and with it the map; `good` is at its end, and is left to close
    assert begun.wait(30)
    assert run.status() is RunStatus.RUNNING
    assert broken_invariants(env) == []
    for name in (first, "child" if first == "parent" else "parent"):
        if name == "parent":
            go.set()
            assert run.result(timeout=30) is not None
        else:
            good.signal("hold", 1)
            assert good.wait(timeout=30).status is RunStatus.COMPLETED
        assert broken_invariants(env) == []
