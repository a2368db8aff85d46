"""What a run closes with: compensations in reverse order, then `finally`, each once and however the run ends."""

import asyncio
from collections.abc import Callable, Iterator
from threading import Event, Lock
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, Handle, NodeContext, NodeStatus, RunFailedError, RunStatus
from flowcraft_server.cli.client_output import print_run
from flowcraft_server.testing import TestEnvironment, broken_invariants
from tests.engine.leaks import leaked_keys

SAGA = """
nodes:
  one: {uses: step, inputs: "= {n: 1}", config: {compensate: undo-one}}
  two: {uses: step, inputs: "= {n: 2}", needs: one, config: {compensate: undo-two}}
  three: {uses: step, inputs: "= {n: 3}", needs: two, config: {compensate: undo-three}}
  four: {uses: LAST, needs: three, config: {compensate: undo-four}}
  five: {uses: step, needs: four}
  undo-one: {uses: undo}
  undo-two: {uses: undo, inputs: {output: two, what: _compensates.node}, config: {maxRetries: 2}}
  undo-three: {uses: UNDO3}
  undo-four: {uses: undo}
finally:
  release: {uses: note}
  report: {uses: note, inputs: {status: _outcome.status, type: _outcome.error.type, reason: _outcome.reason}, needs: release}
"""
COMPLETES = """
nodes: {a: {uses: step, config: {compensate: undo}}, undo: {uses: undo}}
finally: {release: {uses: note}}
"""
FINALLY_FAILS = """
nodes: {a: {uses: step}}
finally: {release: {uses: fails}, after: {uses: note, needs: release}, other: {uses: note}}
"""
LOOP = """
nodes:
  again: {uses: loop-controller, params: {condition: "(n ?? 0) < 3"}, next: {continue: body, break: each}}
  body: {uses: count, next: again, config: {compensate: undo}}
  each: {uses: map, inputs: items, params: {uses: item}, config: {compensate: undo}}
  undo: {uses: undo}
outputs: {n: n}
"""
PARENT = """
nodes:
  sub: {call: child, config: {compensate: undo-sub}}
  broken: {uses: fails, needs: sub}
  undo-sub: {call: undoing, inputs: {done: sub}, config: {timeout: 1h}}
"""
CHILD = "nodes: {inner: {uses: step, inputs: '= {n: 9}', config: {compensate: undo}}, undo: {uses: undo}}\nfinally: {end: {uses: note}}\n"
UNDOING = "inputs: {done: any}\nnodes: {back: {uses: undo, inputs: done}}\n"
CHILD_FAILS = "nodes: {sub: {call: fails-inside}}\nfinally: {last: {uses: note}}\n"
FAILS_INSIDE = (
    "nodes: {inner: {uses: step, config: {compensate: undo}}, bad: {uses: fails, needs: inner}, undo: {uses: undo}}\n"
)
WAITS = """
nodes: {a: {uses: step, config: {compensate: undo}}, w: {uses: wait, needs: a}, undo: {uses: undo}}
finally: {nap: {uses: sleep, params: {duration: 1h}}, last: {uses: note, needs: nap}}
"""
CALLS_WAITS = "nodes: {sub: {call: waits}}\nfinally: {own: {uses: note}}\n"
LAST = "nodes: {inner: {uses: item, inputs: '= {n: 9}', config: {compensate: undo}}, undo: {uses: undo}}\n"
CALLS_LAST = (
    "nodes: {sub: {call: last, config: {compensate: undo}}, after: {uses: step, needs: sub}, undo: {uses: undo}}\n"
)
CLOSES = "nodes: {inner: {uses: item}}\nfinally: {end: {uses: note}}\n"
CAUGHT = """
nodes:
  a: {uses: fails, config: {fallback: b, compensate: undo-a}}
  b: {uses: step, config: {compensate: undo-b}}
  c: {uses: fails, needs: a}
  undo-a: {uses: undo}
  undo-b: {uses: undo}
onFailure: continue
"""


class Journal:
    """What was called, in order."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.lines: list[tuple[str, str, Any]] = []

    def note(self, ctx: NodeContext) -> Any:
        with self.lock:
            self.lines.append((ctx.run_id, ctx.node_id, ctx.input))
        return ctx.input

    def of(self, run_id: str) -> list[tuple[str, Any]]:
        return [(node, value) for run, node, value in self.lines if run == run_id]


JOURNAL = Journal()


def fails(ctx: NodeContext) -> Any:
    raise ValueError("card declined")


def undo_once_in_two(ctx: NodeContext) -> Any:
    if ctx.attempt == 1 and ctx.node_id == "undo-two":
        raise RuntimeError("try again")
    return JOURNAL.note(ctx)


def count(ctx: NodeContext) -> int:
    number = int(ctx.context.get("n") or 0) + 1
    ctx.context.set("n", number)
    return number


def item(ctx: NodeContext) -> Any:
    if ctx.input == "bad":
        raise ValueError("bad item")
    return f"made {ctx.input}"


async def hangs(ctx: AsyncNodeContext) -> Any:
    await asyncio.Event().wait()


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    blueprints = {
        "saga": SAGA.replace("LAST", "fails").replace("UNDO3", "undo"),
        "half-undone": SAGA.replace("LAST", "fails").replace("UNDO3", "fails"),
        "hanging": SAGA.replace("LAST", "hangs").replace("UNDO3", "undo"),
        "hanging-half": SAGA.replace("LAST", "hangs").replace("UNDO3", "fails"),
        "completes": COMPLETES, "finally-fails": FINALLY_FAILS, "loop": LOOP, "parent": PARENT, "child": CHILD,
        "undoing": UNDOING, "child-fails": CHILD_FAILS, "fails-inside": FAILS_INSIDE, "waits": WAITS, "caught": CAUGHT,
        "calls-waits": CALLS_WAITS, "last": LAST, "calls-last": CALLS_LAST,
        "closes": CLOSES, "calls-closes": CALLS_LAST.replace("last", "closes"),
    }  # fmt: skip
    handlers: dict[str, Callable[..., Any]] = {
        "step": lambda ctx: ctx.input, "undo": undo_once_in_two, "note": JOURNAL.note, "fails": fails, "count": count,
        "item": item, "hangs": hangs,
    }  # fmt: skip
    with TestEnvironment(blueprints=blueprints, handlers=handlers, check=False) as env:
        yield env
        assert not [*leaked_keys(env), *broken_invariants(env)]


def ended(env: TestEnvironment, blueprint: str, context: dict[str, Any] | None = None, **options: Any) -> Handle[Any]:
    handle = env.client.start(blueprint, context or {}, **options)
    handle.wait(timeout=60)
    return handle


def undone(handle: Handle[Any]) -> list[tuple[str, str, str]]:
    return [(each.compensates, each.node_id, str(each.status)) for each in handle.describe().compensations]


def error(kind: str, **more: Any) -> dict[str, Any]:
    return {"status": "failed", "error": {"type": kind, **more}, "reason": None}


def test_a_failed_run_is_undone_in_reverse_and_then_finally_runs(
    env: TestEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = ended(env, "saga")
    assert JOURNAL.of(handle.run_id) == [
        ("undo-three", {"n": 3}),
        ("undo-two", {"output": {"n": 2}, "what": "two"}),
        ("undo-one", {"n": 1}),
        ("release", error("ValueError", message="card declined", node="four")),
        ("report", {"status": "failed", "type": "ValueError", "reason": None}),
    ]
    found = handle.describe()
    assert (found.status, found.closing) == (RunStatus.FAILED, None)
    assert undone(handle) == [
        ("three", "undo-three", "completed"), ("two", "undo-two", "completed"), ("one", "undo-one", "completed"),
    ]  # fmt: skip
    assert [failure.node_id for failure in found.failures] == ["four"]
    assert found.nodes["undo-two"].attempts == 2
    print_run(found, handle.attempts(), unfold=False)
    assert "three (completed), two (completed), one (completed)" in " ".join(capsys.readouterr().out.split())
    events = [(event.type, event.node_id) for event in handle.events(follow=False)]
    assert ("run_closing", None) in events
    order = [node for kind, node in events if kind == "node_compensating"]
    assert order == ["undo-three#3", "undo-two#2", "undo-one#1"]
    assert [node for kind, node in events if kind == "node_completed"][-3:] == ["undo-one#1", "release", "report"]
    with pytest.raises(RunFailedError, match="card declined"):
        handle.result(timeout=20)


def test_a_completed_run_is_not_undone_and_finally_runs(env: TestEnvironment) -> None:
    handle = ended(env, "completes")
    outcome = {"status": "completed", "error": None, "reason": None}
    assert JOURNAL.of(handle.run_id) == [("release", outcome)]
    assert handle.describe().status is RunStatus.COMPLETED
    assert handle.result(timeout=60) == {"a": None, "release": outcome}
    progress = handle.describe().progress
    assert (progress.done, progress.total) == (2, 2)
    assert undone(handle) == []


def test_a_compensation_that_fails_for_good_leaves_the_others_to_run(env: TestEnvironment) -> None:
    handle = ended(env, "half-undone")
    assert [node for node, _ in JOURNAL.of(handle.run_id)] == ["undo-two", "undo-one", "release", "report"]
    assert undone(handle)[0] == ("three", "undo-three", "failed")
    found = handle.describe()
    assert [failure.node_id for failure in found.failures] == ["four", "undo-three"]
    assert found.status is RunStatus.FAILED


@pytest.mark.parametrize(
    ("blueprint", "status"), [("hanging", RunStatus.CANCELLED), ("hanging-half", RunStatus.FAILED)]
)
@pytest.mark.parametrize("grace", [10, 0])
def test_a_cancelled_run_closes_too(env: TestEnvironment, blueprint: str, status: RunStatus, grace: int) -> None:
    handle = env.client.start(blueprint)
    while handle.describe().nodes["four"].status is not NodeStatus.RUNNING:
        pass
    handle.cancel(grace=grace, reason="not wanted")
    handle.wait(timeout=60)
    assert handle.describe().status is status
    lines = JOURNAL.of(handle.run_id)
    assert [node for node, _ in lines][-4:] == ["undo-two", "undo-one", "release", "report"]
    assert lines[-1][1]["reason"] == "not wanted"
    assert lines[-1][1]["status"] == str(status)


def test_a_compensation_that_may_run_yet_is_shown_as_one(
    env: TestEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = env.client.start("waits")
    handle.wait_for(RunStatus.WAITING, timeout=60)
    found = handle.describe()
    assert (found.nodes["undo"].compensates, found.nodes["a"].compensates) == ("a", None)
    print_run(found, handle.attempts(), unfold=False)
    assert "undo pending undoes 'a' if the run does not complete" in " ".join(capsys.readouterr().out.split())
    handle.cancel(grace=0)
    while handle.describe().nodes["nap"].status is not NodeStatus.WAITING:
        pass
    print_run(handle.describe(), handle.attempts(), unfold=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "undoing a (completed)" in shown and "undoes 'a'" in shown and "undoes 'a' if" not in shown


def test_a_run_that_times_out_closes_without_a_deadline(env: TestEnvironment) -> None:
    handle = env.client.start("waits", run_timeout=60)
    handle.wait_for(RunStatus.WAITING, timeout=60)
    env.clock.advance(61)
    while handle.describe().nodes["nap"].status is not NodeStatus.WAITING:
        pass
    found = handle.describe()
    assert (found.closing, found.status.is_terminal) == (RunStatus.TIMED_OUT, False)
    assert not handle.cancel(grace=0) or not handle.describe().status.is_terminal
    assert [*broken_invariants(env)] == []
    env.clock.advance(3601)
    handle.wait(timeout=60)
    assert handle.describe().status is RunStatus.TIMED_OUT
    assert [node for node, _ in JOURNAL.of(handle.run_id)] == ["undo", "last"]


def test_a_failure_in_finally_is_visible_and_changes_nothing_else(env: TestEnvironment) -> None:
    handle = ended(env, "finally-fails")
    found = handle.describe()
    assert found.status is RunStatus.COMPLETED
    assert [failure.node_id for failure in found.failures] == ["release"]
    assert found.nodes["after"].status is NodeStatus.SKIPPED
    assert [node for node, _ in JOURNAL.of(handle.run_id)] == ["other"]


def test_each_round_of_a_loop_and_each_item_of_a_map_is_undone(env: TestEnvironment) -> None:
    handle = ended(env, "loop", {"items": ["x", "y", "bad"]})
    values = [value for _, value in JOURNAL.of(handle.run_id)]
    assert values[-3:] == [3, 2, 1]
    assert sorted(values[:-3]) in ([], ["made x"], ["made y"], ["made x", "made y"])
    assert [each.compensates for each in handle.describe().compensations][-3:] == ["body#2", "body#1", "body#0"]
    assert ended(env, "loop", {"items": ["x"]}).describe().status is RunStatus.COMPLETED


def test_a_subflow_is_undone_by_its_own_compensation(env: TestEnvironment) -> None:
    handle = ended(env, "parent", run_timeout=3600)
    child = env.client.get_handle(f"{handle.run_id}~1")
    assert [node for node, _ in JOURNAL.of(child.run_id)] == ["end"]
    assert undone(child) == []
    assert JOURNAL.of(f"{handle.run_id}~2") == [("back", {"n": 9})]
    assert undone(handle) == [("sub", "undo-sub", "completed")]


def test_a_child_that_fails_closes_before_its_parent_goes_on(env: TestEnvironment) -> None:
    handle = ended(env, "child-fails")
    assert [node for node, _ in JOURNAL.of(f"{handle.run_id}~1")] == ["undo"]
    assert [node for node, _ in JOURNAL.of(handle.run_id)] == ["last"]
    runs = [run for run, _, _ in JOURNAL.lines]
    assert runs.index(f"{handle.run_id}~1") < runs.index(handle.run_id)


def test_what_a_fallback_stood_in_for_is_not_undone(env: TestEnvironment) -> None:
    handle = ended(env, "caught")
    assert undone(handle) == [("b", "undo-b", "completed")]
    assert handle.describe().status is RunStatus.FAILED


def napping(env: TestEnvironment, blueprint: str = "waits", **options: Any) -> Handle[Any]:
    """A run that was cancelled and sleeps in its `finally`; or the child of such a kind of a run."""
    handle = env.client.start(blueprint, **options)
    handle.wait_for(RunStatus.WAITING, timeout=60)
    handle.cancel(grace=0)
    closing = env.client.get_handle(f"{handle.run_id}~1") if blueprint == "calls-waits" else handle
    while closing.describe().nodes["nap"].status is not NodeStatus.WAITING:
        pass
    return handle


def test_a_parent_that_stops_waits_for_a_child_that_closes(env: TestEnvironment) -> None:
    handle = napping(env, "calls-waits")
    child = env.client.get_handle(f"{handle.run_id}~1")
    assert (handle.status(), child.describe().closing) == (RunStatus.CANCELLING, RunStatus.CANCELLED)
    assert handle.cancel(grace=0)
    assert child.status() is RunStatus.CANCELLING
    assert broken_invariants(env) == []
    env.clock.advance(3601)
    assert handle.wait(timeout=60).status is RunStatus.CANCELLED
    assert child.status() is RunStatus.CANCELLED
    assert [node for node, _ in JOURNAL.of(child.run_id)] == ["undo", "last"]
    assert [node for node, _ in JOURNAL.of(handle.run_id)] == ["own"]


@pytest.mark.parametrize(("called", "ends_as"), [("last", RunStatus.CANCELLED), ("closes", RunStatus.COMPLETED)])
def test_a_child_that_completes_while_its_parent_stops_is_undone(
    env: TestEnvironment, called: str, ends_as: RunStatus
) -> None:
    begun, release = Event(), Event()

    def finishes(ctx: NodeContext) -> Any:
        begun.set()
        release.wait(20)
        return ctx.input

    with env.override("item", finishes):
        handle = env.client.start(f"calls-{called}", {})
        assert begun.wait(60)
        handle.cancel()
        release.set()
        assert handle.wait(timeout=60).status is RunStatus.CANCELLED
    child = env.client.get_handle(f"{handle.run_id}~1")
    assert child.status() is ends_as  # a rerun takes over what has completed
    by_itself = called == "last"  # it has a compensation of its own; else that of its node runs: one of the two, once
    assert undone(child) == ([("inner", "undo", "completed")] if by_itself else [])
    assert undone(handle) == ([] if by_itself else [("sub", "undo", "completed")])
    assert len(JOURNAL.of(child.run_id)) + len(JOURNAL.of(handle.run_id)) == 1 + (called == "closes")


def test_a_run_whose_plan_is_lost_while_it_closes_fails(env: TestEnvironment) -> None:
    handle = napping(env)
    keys = env.partitions.for_run(handle.run_id)
    plan = keys.plan(handle.describe().blueprint_version)
    kept = env.link.redis.dump(plan)
    env.link.redis.delete(plan)
    try:
        env.clock.advance(3601)
        handle.wait_for(RunStatus.FAILED, timeout=60)
        env.link.redis.restore(plan, 0, kept)
        assert handle.describe().failures[0].type == "PlanMissing"
        assert handle.describe().closing is None
    finally:
        env.link.redis.restore(plan, 0, kept, replace=True)


def test_the_doctor_lets_a_run_that_closes_go_on(env: TestEnvironment) -> None:
    handle = napping(env)
    keys = env.partitions.for_run(handle.run_id)
    record = keys.run(handle.run_id)
    env.link.redis.zrem(keys.timers, f"W|{handle.run_id}|nap")
    env.link.redis.hset(record, mapping={"n:nap": "S|0|1|0|5", "n:last": "S|0|0|0|5"})
    env.link.redis.hdel(record, "live", "park")
    found = env.client.admin.examine(handle.run_id, fix=True)
    assert [defect.kind for defect in found] == ["nothing-live"]
    assert handle.wait(timeout=60).status is RunStatus.CANCELLED


class Killer:
    """Ends the worker at the first execution of each node, before or after what it does; the result never arrives."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.seen: set[tuple[str, str]] = set()
        self.done: list[tuple[str, str]] = []
        self.at_node, self.killed = Event(), Event()

    def run(self, ctx: NodeContext) -> Any:
        with self.lock:
            first = (ctx.run_id, ctx.node_id) not in self.seen
            self.seen.add((ctx.run_id, ctx.node_id))
        if first:
            self.at_node.set()
            self.killed.wait(20)
        self.done.append((ctx.run_id, ctx.node_id))
        if ctx.node_id == "four":
            raise ValueError("card declined")
        return ctx.node_id


def test_a_saga_under_fifty_kills_is_undone_once_and_in_order(environment: Callable[..., TestEnvironment]) -> None:
    killer = Killer()
    handlers = {"step": killer.run, "fails": killer.run, "undo": killer.run, "note": killer.run}
    blueprint = SAGA.replace("LAST", "fails").replace("UNDO3", "undo").replace("{maxRetries: 2}", "{maxRetries: 1}")
    env = environment(blueprints={"saga": blueprint}, handlers=handlers)
    kills, runs = 0, []
    while kills < 50:
        handle = env.client.start("saga")
        runs.append(handle)
        while not handle.done():
            if killer.at_node.wait(0.02):
                env.kill_worker()
                kills += 1
                killer.at_node.clear()
                killer.killed.set()
                env.add_worker()
                env.clock.advance(11, keep_leases=False)
                killer.killed.clear()
    for handle in runs:
        assert handle.describe().status is RunStatus.FAILED
        recorded = [event.node_id for event in handle.events(follow=False) if event.type == "node_completed"]
        assert recorded == ["one", "two", "three", "undo-three#3", "undo-two#2", "undo-one#1", "release", "report"]
        assert [each.status for each in handle.describe().compensations] == [NodeStatus.COMPLETED] * 3
        assert {node for run, node in killer.done if run == handle.run_id}.isdisjoint({"five", "undo-four"})


@pytest.mark.parametrize("last", ["{uses: wait}", "{call: asks}"])
def test_what_waits_in_finally_for_ever_is_ended_after_a_day(last: str) -> None:
    flows = {
        "ends": f"nodes: {{a: {{uses: echo, inputs: x}}}}\nfinally: {{ask: {last}, after: {{uses: echo, inputs: x}}}}\n",
        "asks": "nodes: {w: {uses: wait}}\n",
    }
    with TestEnvironment(blueprints=flows, handlers={"echo": lambda ctx: ctx.input}, check=False) as env:
        run = env.client.start("ends", {"x": 1})
        run.wait_for(RunStatus.WAITING, timeout=30)
        env.clock.advance("23h")
        env.run_until_idle()
        assert not run.done()
        run.cancel("it cannot be ended by this")
        env.clock.advance("1h 1s")
        found = run.wait(timeout=30)
        assert (found.status, found.nodes["ask"].status) == (RunStatus.COMPLETED, NodeStatus.FAILED)
