"""One account of a node: its record, its history and its attempts report when it began, waited and ended, and why it failed."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from loguru import logger

from flowcraft_sdk import NodeContext, NodeStatus, NonRetryableError, RunStatus, WaitTimeoutError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.testing import TestEnvironment
from tests.engine.accounts import disagreements

Make = Callable[..., TestEnvironment]


def test_a_node_that_is_parked_began_once_and_waited(environment: Make) -> None:
    env = environment(
        handlers={"end": lambda ctx: None},
        blueprints="""
        id: naps
        nodes: {nap: {uses: sleep, params: {duration: 1h}, next: end}, end: {uses: end}}
        """,
    )
    run = env.client.start("naps")
    env.run_until_idle()
    before = run.describe().nodes["nap"]
    assert before.status is NodeStatus.WAITING
    assert before.started_at is not None
    env.clock.advance(3600)
    run.result(timeout=60)
    nap = run.describe().nodes["nap"]
    assert nap.started_at == before.started_at
    assert nap.ended_at is not None
    assert (nap.ended_at - before.started_at).total_seconds() >= nap.waited >= 3600
    types = [event.type for event in run.events() if event.node_id == "nap"]
    assert types == ["node_started", "node_waiting", "node_resumed", "node_completed"]
    (attempt,) = [each for each in run.attempts() if each.node_id == "nap"]
    assert (attempt.status, attempt.started_at, attempt.waited) == ("completed", nap.started_at, nap.waited)


def test_each_attempt_keeps_its_error_and_its_input(environment: Make) -> None:
    def flaky(ctx: NodeContext) -> str:
        if ctx.attempt < 3:
            raise KeyError(f"price {ctx.attempt}")
        return "done"

    env = environment(
        handlers={"flaky": flaky},
        blueprints="""
        id: tries
        nodes: {a: {uses: flaky, inputs: order, config: {maxRetries: 3, retryDelay: 10s}}}
        """,
    )
    run = env.client.start("tries", {"order": 7})
    for _ in range(2):
        env.run_until_idle()
        env.clock.advance(10)
    run.result(timeout=60)
    first, second, third = run.attempts()
    assert [each.attempt for each in (first, second, third)] == [1, 2, 3]
    assert [each.status for each in (first, second, third)] == ["failed", "failed", "completed"]
    assert first.error is not None
    assert second.error is not None
    assert first.error.summary == "KeyError: 'price 1'"
    assert second.error.summary == "KeyError: 'price 2'"
    assert first.error.input_hash == second.error.input_hash != ""
    assert run.describe().nodes["a"].started_at == first.started_at
    assert not disagreements(run)


def test_the_history_bounds_what_it_keeps_of_an_error(environment: Make) -> None:
    def fails(ctx: NodeContext) -> None:
        raise NonRetryableError("é" * 10_000, details={"a": [1]})

    env = environment(handlers={"fails": fails}, blueprints={"id": "f", "nodes": [{"id": "a", "uses": "fails"}]})
    run = env.client.start("f")
    assert run.wait(timeout=60).status is RunStatus.FAILED
    (event,) = [event for event in run.events() if event.type == "node_failed"]
    assert event.data["error"]["message"] == "é" * 1000 + "..."


def test_a_node_whose_fallback_stood_in_is_reported_so_everywhere(environment: Make) -> None:
    def fails(ctx: NodeContext) -> None:
        raise ValueError("declined")

    handlers = {"fails": fails, "stand_in": lambda ctx: {"by": "hand"}}
    env = environment(
        handlers=handlers,
        blueprints="""
        id: pays
        nodes: {charge: {uses: fails, config: {fallback: by_hand}}, by_hand: {uses: stand_in}}
        outputs: {paid: charge, how: charge.by, own: _own.charge, stood_in: by_hand}
        """,
    )
    run = env.client.start("pays")
    stood_in = {"by": "hand"}
    assert run.result(timeout=60) == {"paid": stood_in, "how": "hand", "own": None, "stood_in": stood_in}
    charge = run.describe().nodes["charge"]
    assert (charge.status, charge.caught_by_fallback) == (NodeStatus.FAILED, True)
    events = [event for event in run.events() if event.node_id == "charge"]
    assert [event.type for event in events] == [
        "node_started", "node_failed", "node_waiting", "node_resumed", "node_recovered"
    ]  # fmt: skip
    assert events[-1].data == {"fallback": "by_hand", "action": None}
    assert not disagreements(run)


def test_a_subflow_gives_what_stood_in_for_its_node(environment: Make) -> None:
    def fails(ctx: NodeContext) -> None:
        raise ValueError("declined")

    parent = """
        id: parent
        nodes: {pay: {call: child, outputs: {paid: charge, own: _own.charge}}}
        outputs: {paid: paid, own: own}
        """
    child = """
        id: child
        nodes: {charge: {uses: fails, config: {fallback: by_hand}}, by_hand: {uses: stand_in}}
        """
    env = environment(handlers={"fails": fails, "stand_in": lambda ctx: 5}, blueprints=[parent, child])
    assert env.client.start("parent").result(timeout=60) == {"paid": 5, "own": None}


def test_a_fallback_that_fails_too_ends_both(environment: Make) -> None:
    def fails(ctx: NodeContext) -> None:
        raise ValueError(ctx.node_id)

    env = environment(
        handlers={"fails": fails},
        blueprints="""
        id: both
        nodes: {a: {uses: fails, config: {fallback: b}}, b: {uses: fails}}
        """,
    )
    run = env.client.start("both")
    assert run.wait(timeout=60).status is RunStatus.FAILED
    assert not disagreements(run)


def test_a_run_that_is_cancelled_agrees_on_what_had_begun(environment: Make) -> None:
    env = environment(
        handlers={"end": lambda ctx: None},
        blueprints="""
        id: stops
        nodes:
          nap: {uses: sleep, params: {duration: 1h}, next: end}
          end: {uses: end}
          ask: {uses: wait}
        """,
    )
    run = env.client.start("stops")
    env.run_until_idle()
    run.cancel()
    assert run.wait(timeout=60).status is RunStatus.CANCELLED
    assert not disagreements(run)
    assert run.describe().nodes["nap"].waited > 0 or run.describe().nodes["nap"].started_at is not None


def test_what_a_worker_died_with_is_reported_as_lost(environment: Make) -> None:
    blueprint = {"id": "s", "nodes": [{"id": "a", "uses": "step"}]}
    env = environment(handlers={"step": lambda ctx: 1}, blueprints=blueprint, workers=0)
    run = env.client.start("s")
    env.link.call(scripts.claim(env.keys, ClaimRequest("w1", 5000, "default")))
    env.clock.advance(6, keep_leases=False)
    env.link.call(scripts.sweep(env.keys, limit=100, max_crashes=9, grace_ms=0, queues="default"))
    env.add_worker()
    run.result(timeout=60)
    lost, second = run.attempts()
    assert (lost.status, lost.worker, second.status) == ("lost", "w1", "completed")
    assert run.describe().nodes["a"].started_at == lost.started_at


def test_rounds_and_items_have_attempts_of_their_own(environment: Make) -> None:
    def body(ctx: NodeContext) -> int:
        ctx.context.set("n", int(ctx.context.get("n", 0)) + 1)
        return ctx.iteration

    def item(ctx: NodeContext) -> int:
        if ctx.input == 1:
            raise ValueError("one")
        return int(ctx.input)

    env = environment(
        handlers={"body": body, "item": item},
        blueprints="""
        id: many
        nodes:
          again: {uses: loop-controller, params: {condition: "(n ?? 0) < 3"}, next: {continue: body, break: all}}
          body: {uses: body, next: again}
          all: {uses: map, inputs: items, params: {uses: item}, config: {onItemError: collect}}
        """,
    )
    run = env.client.start("many", {"items": [0, 1, 2]})
    run.result(timeout=60)
    assert [each.round for each in run.attempts() if each.node_id == "body"] == ["0", "1", "2"]
    items = {each.item: each.status for each in run.attempts() if each.node_id == "all" and each.item is not None}
    assert items == {0: "completed", 1: "failed", 2: "completed"}
    assert not disagreements(run)


def test_following_a_run_for_a_time_says_that_the_time_is_over(environment: Make) -> None:
    env = environment(handlers={}, blueprints={"id": "w", "nodes": [{"id": "ask", "uses": "wait"}]})
    run = env.client.start("w")
    env.run_until_idle()
    seen = []
    with pytest.raises(WaitTimeoutError):
        for event in run.events(timeout=0.05):
            seen.append(event.type)
    assert seen == ["run_started", "node_started", "node_waiting"]


def test_the_log_says_that_a_run_failed_and_shows_the_traceback_of_the_last_attempt(environment: Make) -> None:
    def fails(ctx: NodeContext) -> None:
        raise KeyError("price")

    env = environment(
        handlers={"fails": fails},
        blueprints="""
        id: logged
        nodes: {a: {uses: fails, config: {maxRetries: 2}}}
        """,
    )
    lines: list[tuple[str, str, dict[str, Any]]] = []
    reported = threading.Event()

    def note(message: Any) -> None:
        record = message.record
        lines.append((record["level"].name, record["message"], record["extra"]))
        if record["message"].startswith("run failed"):
            reported.set()

    sink = logger.add(note, level="WARNING")
    try:
        run = env.client.start("logged")
        run.wait(timeout=60)
        assert reported.wait(60)  # the worker says so after the store has recorded it
    finally:
        logger.remove(sink)
    own = [(level, text) for level, text, extra in lines if extra.get("run") == run.run_id]
    assert own[0] == ("WARNING", "attempt 1 failed: KeyError: 'price'")
    assert own[1][1].startswith("attempt 2 failed, the last one: Traceback")
    assert own[1][1].endswith("KeyError: 'price'")
    assert own[2] == ("ERROR", "run failed: node 'a': KeyError: 'price'")


@pytest.mark.parametrize(
    "rest",
    [
        "a: {uses: fails}\nfinally: {z: {uses: fine}}",
        "a: {uses: fails}\nfinally: {z: {uses: fails_too}}",
        "a: {uses: fails}\n  b: {uses: sleep, params: {duration: 5s}, next: c}\n  c: {uses: fine}\nonFailure: continue",
        "d: {uses: fine, next: a, config: {compensate: u}}\n  a: {uses: fails}\n  u: {uses: fine}",
    ],
)
def test_the_log_says_why_a_run_failed_whatever_ran_last(environment: Make, rest: str) -> None:
    def fails(ctx: NodeContext) -> None:
        raise KeyError("price")

    def fails_too(ctx: NodeContext) -> None:
        raise ValueError("the last one")

    lines: list[str] = []
    reported = threading.Event()

    def note(message: Any) -> None:
        if message.record["message"].startswith("run failed"):
            lines.append(message.record["message"])
            reported.set()

    handlers = {"fails": fails, "fails_too": fails_too, "fine": lambda ctx: 1}
    env = environment(handlers=handlers, blueprints=f"id: logged\nnodes:\n  {rest}\n")
    sink = logger.add(note, level="ERROR")
    try:
        run = env.client.start("logged")
        if "sleep" in rest:
            env.run_until_idle()
            env.clock.advance("10s")
        run.wait(timeout=60)
        assert reported.wait(60)
    finally:
        logger.remove(sink)
    assert lines == ["run failed: node 'a': KeyError: 'price'"]


def test_a_run_whose_failure_cannot_be_read_keeps_no_other_one_waiting(
    environment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply that ends a run may bring a node of another one: while Redis is away nothing may be lost of it."""

    def fails(ctx: NodeContext) -> None:
        raise NonRetryableError("no")

    def refuse(*_args: Any) -> Any:
        raise StoreUnavailable("it does not answer")

    monkeypatch.setattr(StoreLink, "read_fields_once", refuse)
    env = environment(handlers={"fails": fails}, blueprints="id: f\nnodes: {a: {uses: fails}}")
    runs = [env.client.start("f") for _ in range(60)]
    assert {run.wait(timeout=20).status for run in runs} == {RunStatus.FAILED}
    assert not list(env.workers[0].held.all())


def test_a_node_of_a_loop_keeps_the_account_of_its_last_round(environment: Any) -> None:
    graph = """
nodes:
  again: {uses: loop-controller, params: {condition: "(n ?? 0) < 3"}}
  body: {uses: count, next: nap}
  nap: {uses: sleep, params: {duration: 5s}, next: again}
  end: {uses: count}
edges:
  - again -[continue]-> body
  - again -[break]-> end
"""

    def count(ctx: Any) -> int:
        ctx.context.set("n", ctx.context.get("n", 0) + 1)
        return 1

    env = environment(blueprints={"g": graph}, handlers={"count": count})
    run = env.client.start("g")
    for _ in range(3):
        env.clock.advance_to_next_timer()
    run.result(timeout=60)
    nodes = run.describe().nodes
    last = {row.node_id: row for row in run.attempts() if row.node_id in ("body", "nap")}
    for name in ("body", "nap"):
        node, row = nodes[name], last[name]
        assert node.status == "completed" and node.attempts == 1
        assert (node.started_at, node.ended_at) == (row.started_at, row.ended_at)
    assert nodes["nap"].waited >= 5
