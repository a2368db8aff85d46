"""Child runs with `onParentCancel: abandon`: they go on when their parent is cancelled, fails or times out."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk import (
    FAILED,
    AsyncNodeContext,
    ChildAbandonedEvent,
    ConfigurationError,
    DynamicNode,
    Handle,
    NodeContext,
    NodeResult,
    NodeStatus,
    NotWaitingError,
    ParentStoppedEvent,
    RunCancelledError,
    RunStateError,
    RunStatus,
)
from flowcraft_sdk.protocol.scripts import Keep
from flowcraft_server.cli.client_output import print_run
from flowcraft_server.testing import TestEnvironment, broken_invariants
from flowcraft_server.worker.background.retention import RetentionCleaner
from flowcraft_server.worker.settings import Retention
from tests.blocking_client import BOTH, clients

Make = Callable[..., TestEnvironment]
ClientOf = Callable[[TestEnvironment], Any]

CALLS = """
nodes:
  first: {uses: say}
  call: {call: asks, needs: first, config: {onParentCancel: abandon TIMEOUT}}
  after: {uses: say, needs: call}
  beside: {uses: BESIDE, needs: first}
"""
ASKS = "nodes:\n  ask: {uses: wait}\n  done: {uses: say, needs: ask}\n"
BLUEPRINTS = {
    "asks": ASKS,
    "calls": CALLS.replace("TIMEOUT", "").replace("BESIDE", "say"),
    "calls-shortly": CALLS.replace("TIMEOUT", ", timeout: 1h").replace("BESIDE", "say"),
    "fails": CALLS.replace("TIMEOUT", "").replace("BESIDE", "say")
    + "  asked: {uses: wait}\n  broken: {uses: fail, needs: asked}\n",
    "outer": "nodes:\n  sub: {call: calls}\n",
    "closes": CALLS.replace("TIMEOUT", "").replace("BESIDE", "say")
    + "finally:\n  nap: {uses: sleep, params: {duration: 2h}}\n",
    "map": "nodes:\n  each: {uses: map, inputs: items, params: {call: picked}, config: {onParentCancel: abandon}}\n",
    "picked": "nodes:\n  pick: {uses: pick}\n  ask: {uses: wait, needs: pick}\n",
    "dynamic": "nodes:\n  add: {uses: add}\n",
    "starts": "nodes:\n  a: {uses: start}\n  w: {uses: wait, needs: a}\n",
    "starts-on-loop": "nodes:\n  a: {uses: start_async}\n  w: {uses: wait, needs: a}\n",
    "awaits": "nodes:\n  a: {uses: awaits}\n",
}


def fail(ctx: NodeContext) -> None:
    raise ValueError("no stock")


def pick(ctx: NodeContext) -> Any:
    if ctx.input == "bad":
        raise ValueError("none left")
    return ctx.input


def add(ctx: NodeContext) -> Any:
    node = DynamicNode("extra", uses="subflow", params={"blueprintId": "asks"}, config={"onParentCancel": "abandon"})
    return NodeResult(output=1, dynamic_nodes=[node])


def start(ctx: NodeContext) -> list[str]:
    return [ctx.start_child("asks", on_parent_cancel="abandon"), ctx.start_child("asks")]


async def start_async(ctx: AsyncNodeContext) -> list[str]:
    return [await ctx.start_child("asks", on_parent_cancel="abandon"), await ctx.start_child("asks")]


async def awaits(ctx: AsyncNodeContext) -> Any:
    return await ctx.run_child("asks", key="k", on_parent_cancel="abandon")


HANDLERS: dict[str, Callable[..., Any]] = {
    "say": lambda ctx: "hello", "fail": fail, "pick": pick, "add": add, "start": start, "start_async": start_async,
    "awaits": awaits,
}  # fmt: skip


@pytest.fixture(params=BOTH, ids=["sync", "async"])
def client_of(request: pytest.FixtureRequest) -> Iterator[ClientOf]:
    yield from clients(request.param)


@pytest.fixture(params=[1, 16], ids=["one partition", "16 partitions"])
def env(request: pytest.FixtureRequest, environment: Make) -> TestEnvironment:
    return environment(blueprints=BLUEPRINTS, handlers=HANDLERS, partitions=request.param)


def child_of(env: TestEnvironment, run: Any, number: int = 0) -> Handle[Any]:
    """A child run, once it waits."""
    run.wait_for(RunStatus.WAITING, timeout=30)
    child = env.client.get_handle(run.describe().children[number])
    child.wait_for(RunStatus.WAITING, timeout=30)
    return child


def complete(child: Handle[Any]) -> None:
    child.signal("ask", "yes")
    assert child.result(timeout=30)["done"] == "hello"


def test_it_goes_on_when_its_parent_is_cancelled_and_both_say_so(
    env: TestEnvironment, client_of: ClientOf, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_of(env)
    run = client.start("calls", run_timeout=600)
    child = child_of(env, run)
    before = child.describe()
    assert (before.on_parent_cancel, before.abandoned, before.deadline) == ("abandon", None, None)
    assert run.describe().on_parent_cancel == "cancel"
    assert run.cancel("not wanted") is True
    with pytest.raises(RunCancelledError):
        run.result(timeout=30)
    assert child.status() is RunStatus.WAITING
    above, below = run.describe(), client.get_handle(child.run_id).describe()
    assert (above.abandoned_children, above.children) == ((child.run_id,), (child.run_id,))
    assert above.child_nodes == {child.run_id: "call"}
    assert (above.nodes["call"].status, above.nodes["after"].status) == (NodeStatus.CANCELLED, NodeStatus.PENDING)
    assert below.abandoned is not None
    assert (below.abandoned.cause, below.parent_run_id, below.cancel) == ("cancelled", run.run_id, None)
    (left,) = [event for event in run.events(follow=False) if isinstance(event, ChildAbandonedEvent)]
    assert (left.node_id, left.child_run_id) == ("call", child.run_id)
    (heard,) = [event for event in child.events(follow=False) if isinstance(event, ParentStoppedEvent)]
    assert (heard.cause, heard.at) == ("cancelled", below.abandoned.at)
    print_run(above, run.attempts(), unfold=False)
    print_run(below, child.attempts(), unfold=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"go on {child.run_id}" in shown and "parent cancelled" in shown
    complete(child)
    assert run.describe().status is RunStatus.CANCELLED
    assert {each.run_id for each in client.list_runs(parent=run.run_id)} == {child.run_id}


def test_one_that_completes_in_time_is_its_node_s_outcome(env: TestEnvironment) -> None:
    run = env.client.start("calls")
    child_of(env, run).signal("ask", "yes")
    assert run.result(timeout=30)["after"] == "hello"
    found = run.describe()
    assert (found.abandoned_children, found.nodes["call"].status) == ((), NodeStatus.COMPLETED)


def test_it_goes_on_when_its_parent_fails(env: TestEnvironment) -> None:
    run = env.client.start("fails")
    child = child_of(env, run)
    run.signal("asked", "yes")
    assert run.wait(timeout=30).status is RunStatus.FAILED
    found = child.describe()
    assert found.abandoned is not None and found.abandoned.cause == "failed"
    complete(child)


def test_it_goes_on_when_its_parent_times_out_and_no_deadline_is_inherited(env: TestEnvironment) -> None:
    run = env.client.start("calls-shortly", run_timeout=60)
    child = child_of(env, run)
    env.clock.advance(61)
    assert run.wait(timeout=30).status is RunStatus.TIMED_OUT
    found = child.describe()
    assert found.abandoned is not None and found.abandoned.cause == "timed_out"
    assert found.deadline is not None
    env.clock.advance(3600)
    assert child.wait(timeout=30).status is RunStatus.TIMED_OUT  # its node's own timeout


def test_below_a_child_that_is_stopped(env: TestEnvironment) -> None:
    run = env.client.start("outer")
    middle = child_of(env, run)
    inner = child_of(env, middle)
    run.cancel(grace=0)
    assert (run.status(), middle.status(), inner.status()) == (
        RunStatus.CANCELLED, RunStatus.CANCELLED, RunStatus.WAITING,
    )  # fmt: skip
    complete(inner)


def test_a_parent_that_closes_does_not_wait_with_it(env: TestEnvironment) -> None:
    run = env.client.start("closes")
    child = child_of(env, run)
    run.cancel(grace=0)
    while run.describe().nodes["nap"].status is not NodeStatus.WAITING:
        pass
    with pytest.raises(NotWaitingError):
        run.signal("call/ask", "yes")  # no node of the run waits for it any more
    assert broken_invariants(env) == []  # a child's state counts among its parent's no more
    complete(child)
    assert run.describe().closing is RunStatus.CANCELLED
    env.clock.advance(7201)
    assert run.wait(timeout=30).status is RunStatus.CANCELLED


@pytest.mark.parametrize("fails", [False, True])
def test_items_of_a_map(env: TestEnvironment, fails: bool) -> None:
    run = env.client.start("map", {"items": ["x", "y", "bad"] if fails else ["x", "y"]})
    if not fails:
        for number in range(2):
            child_of(env, run, number)
        run.cancel()
    ended = run.wait(timeout=30)
    assert ended.status is (RunStatus.FAILED if fails else RunStatus.CANCELLED)
    names = {ended.child_nodes[child] for child in ended.abandoned_children}
    assert names <= {"each[0]", "each[1]"} and (fails or len(names) == 2)
    for child in ended.abandoned_children:
        handle = env.client.get_handle(child)
        handle.wait_for(RunStatus.WAITING, timeout=30)
        found = handle.describe()
        assert found.abandoned is not None
        assert found.abandoned.cause == ("node_given_up" if fails else "cancelled")
        handle.signal("ask", "yes")
        assert handle.wait(timeout=30).status is RunStatus.COMPLETED


def test_a_dynamic_node(env: TestEnvironment) -> None:
    run = env.client.start("dynamic")
    child = child_of(env, run)
    run.cancel()
    assert run.wait(timeout=30).status is RunStatus.CANCELLED
    complete(child)


@pytest.mark.parametrize("blueprint", ["starts", "starts-on-loop"])
def test_runs_that_a_handler_starts(env: TestEnvironment, blueprint: str) -> None:
    run = env.client.start(blueprint, run_timeout=900)
    run.wait_for(RunStatus.WAITING, timeout=30)
    goes_on, stops = (env.client.get_handle(run_id) for run_id in run.describe(ctx=True).ctx["a"])  # type: ignore[index]
    for child in (goes_on, stops):
        child.wait_for(RunStatus.WAITING, timeout=30)
    assert (goes_on.describe().deadline is None, stops.describe().deadline is None) == (True, False)
    run.cancel(grace=0)
    assert stops.wait(timeout=30).status is RunStatus.CANCELLED
    (left,) = [event for event in run.events(follow=False) if isinstance(event, ChildAbandonedEvent)]
    assert (left.node_id, left.child_run_id) == (None, goes_on.run_id)
    assert run.describe().abandoned_children == (goes_on.run_id,)
    complete(goes_on)


def test_a_run_that_a_handler_waits_for(env: TestEnvironment) -> None:
    run = env.client.start("awaits")
    while not run.describe().children:
        pass
    child = env.client.get_handle(run.describe().children[0])
    child.wait_for(RunStatus.WAITING, timeout=30)
    run.cancel()
    assert run.wait(timeout=30).status is RunStatus.CANCELLED
    complete(child)


def test_runs_that_a_client_starts_below_another(env: TestEnvironment, client_of: ClientOf) -> None:
    client = client_of(env)
    above = client.start("asks")
    below = client.start("asks", parent=above, on_parent_cancel="abandon")
    above.cancel(grace=0)
    assert below.describe().abandoned.cause == "cancelled"
    with pytest.raises(ConfigurationError, match="for a run with a parent"):
        client.start("asks", on_parent_cancel="abandon")
    with pytest.raises(ConfigurationError, match="'cancel' or 'abandon', got 'keep'"):
        client.start("asks", parent=below, on_parent_cancel="keep")
    below.cancel(grace=0)


@pytest.mark.parametrize("policy", ["abandon", "cancel"])
def test_one_that_is_started_while_its_parent_stops(environment: Make, policy: Any) -> None:
    begun, release, started = threading.Event(), threading.Event(), []

    def late(ctx: NodeContext) -> None:
        begun.set()
        release.wait(30)
        started.append(ctx.start_child("asks", on_parent_cancel=policy))

    env = environment(
        blueprints={"late": "nodes:\n  a: {uses: late}\n", "asks": ASKS}, handlers={**HANDLERS, "late": late}
    )
    run = env.client.start("late")
    assert begun.wait(30)
    run.cancel()
    release.set()
    run.wait(timeout=30)
    child = env.client.get_handle(started[0])
    if policy == "cancel":
        assert child.wait(timeout=30).status is RunStatus.CANCELLED
        assert child.describe().nodes["ask"].attempts == 0
    else:
        child.wait_for(RunStatus.WAITING, timeout=30)
        assert child.describe().abandoned is not None
        complete(child)


def test_it_is_a_run_of_its_own_from_then_on(env: TestEnvironment) -> None:
    run = env.client.start("calls")
    child = child_of(env, run)
    run.cancel(grace=0)
    with pytest.raises(RunStateError):
        run.delete()  # what is below it has not ended
    again = run.rerun(FAILED)  # does not wait for the child that goes on: it starts one of its own
    other = child_of(env, again)
    assert other.run_id != child.run_id
    again.cancel(grace=0)
    other.cancel(grace=0)
    assert child.cancel("enough", grace=0)
    assert child.status() is RunStatus.CANCELLED
    done = child.rerun()
    done.wait_for(RunStatus.WAITING, timeout=30)
    complete(done)
    assert child.delete() is True
    assert run.delete() is True


def test_a_rerun_takes_the_outcome_of_one_that_has_completed(env: TestEnvironment) -> None:
    run = env.client.start("calls")
    child = child_of(env, run)
    run.cancel(grace=0)
    complete(child)
    again = run.rerun(FAILED)
    assert again.result(timeout=30)["after"] == "hello"
    assert again.describe().children == ()


def test_in_a_large_run_that_is_stopped_in_pieces(environment: Make) -> None:
    items = list(range(60))
    env = environment(blueprints=BLUEPRINTS, handlers=HANDLERS, partitions=1)
    env.link.redis.hset(env.keys.settings, "steps", 5)
    run = env.client.start("map", {"items": items})
    while len(run.describe().children) < len(items):
        pass
    children = [env.client.get_handle(child) for child in run.describe().children]
    for child in children:
        child.wait_for(RunStatus.WAITING, timeout=60)
    run.cancel(grace=0)
    ended = run.wait(timeout=60)
    assert ended.status is RunStatus.CANCELLED
    assert set(ended.abandoned_children) == {child.run_id for child in children}
    assert {child.status() for child in children} == {RunStatus.WAITING}
    children[0].signal("ask", "yes")
    assert children[0].wait(timeout=30).status is RunStatus.COMPLETED


def test_a_parent_whose_plan_is_lost(env: TestEnvironment) -> None:
    run = env.client.start("calls")
    child = child_of(env, run)
    keys = env.partitions.for_run(run.run_id)
    plan = keys.plan(run.describe().blueprint_version)
    kept = env.link.redis.dump(plan)
    env.link.redis.delete(plan)
    run.cancel(grace=0)
    assert run.status() is RunStatus.FAILED
    env.link.redis.restore(plan, 0, kept)
    assert child.describe().abandoned is not None
    complete(child)


def test_runs_without_a_node_below_one_whose_plan_is_lost(env: TestEnvironment) -> None:
    run = env.client.start("starts")
    run.wait_for(RunStatus.WAITING, timeout=30)
    goes_on, stops = (env.client.get_handle(run_id) for run_id in run.describe(ctx=True).ctx["a"])  # type: ignore[index]
    for child in (goes_on, stops):
        child.wait_for(RunStatus.WAITING, timeout=30)
    plan = env.partitions.for_run(run.run_id).plan(run.describe().blueprint_version)
    kept = env.link.redis.dump(plan)
    env.link.redis.delete(plan)
    run.cancel(grace=0)
    assert run.status() is RunStatus.FAILED
    env.link.redis.restore(plan, 0, kept)
    assert stops.wait(timeout=30).status is RunStatus.CANCELLED
    abandoned = goes_on.describe().abandoned
    assert abandoned is not None and abandoned.cause == "failed"
    complete(goes_on)


def test_one_that_is_deleted_leaves_nothing_in_its_parent(env: TestEnvironment) -> None:
    above = env.client.start("asks")
    run_id = f"{above.run_id}~again"
    below = env.client.start("asks", run_id=run_id, parent=above, on_parent_cancel="abandon")
    above.cancel(grace=0)
    assert above.describe().abandoned_children == (below.run_id,)
    below.cancel(grace=0)
    assert below.delete()
    below = env.client.start("asks", run_id=run_id, parent=above)  # another one, which nothing has abandoned
    assert (above.describe().children, above.describe().abandoned_children) == ((below.run_id,), ())
    below.cancel(grace=0)


def test_retention_keeps_those_above_it_until_it_has_ended(environment: Make) -> None:
    env = environment(blueprints=BLUEPRINTS, handlers=HANDLERS, partitions=1)
    run = env.client.start("calls")
    child = child_of(env, run)
    run.cancel(grace=0)
    keep = tuple(Keep(name, 1_000, None) for name in ("completed", "failed", "cancelled"))
    cleaner = RetentionCleaner(env.link, env.partitions, Retention(keep=keep, bytes=None))
    env.clock.advance(100)
    assert cleaner.remove_slice()[:2] == (0, 1)
    complete(child)
    env.clock.advance(100)
    assert cleaner.remove_slice()[0] == 2


def test_a_dynamic_node_that_starts_no_child_run_is_refused(environment: Make) -> None:
    def add_wrong(ctx: NodeContext) -> Any:
        return NodeResult(1, dynamic_nodes=[DynamicNode("extra", uses="say", config={"onParentCancel": "abandon"})])

    env = environment(blueprints={"dynamic": BLUEPRINTS["dynamic"]}, handlers={**HANDLERS, "add": add_wrong})
    failed = env.client.start("dynamic").wait(timeout=30)
    assert "has onParentCancel, but starts no child run: it uses 'say'" in failed.failures[0].message
