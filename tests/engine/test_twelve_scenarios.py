"""The twelve scenarios that the SDK has to master, by number, each for both clients, on one deployment."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from flowcraft_sdk import (
    FAILED,
    Client,
    InvalidInputError,
    NodeContext,
    NodeStatus,
    NotWaitingError,
    RunCancelledError,
    RunConflictError,
    RunExpiredError,
    RunFailedError,
    RunNotFoundError,
    RunStatus,
    SerializationError,
)
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.acceptance.server_program import eventually
from tests.blocking_client import BOTH, clients

BLUEPRINTS = {
    "content-moderation": "outputs: {moderation_result: judge}\nnodes: {judge: {uses: echo, inputs: post}}\n",
    "nothing": "outputs: {value: none}\nnodes: {none: {uses: none}}\n",
    "gate": "nodes: {stop: {uses: gate}, after: {uses: echo, inputs: id, needs: [stop]}}\n",
    "stubborn": "nodes: {stop: {uses: stubborn}}\n",
    "fails": "nodes: {bad: {uses: fails, config: {maxRetries: 2}}}\n",
    "tree": "nodes: {down: {call: middle}}\n",
    "middle": "nodes: {down: {call: gate-below}}\n",
    "gate-below": "nodes: {stop: {uses: wait}}\n",
    "approval": "nodes:\n  approve: {uses: wait, params: {prompt: Publish?, schema: {type: object, required: [by]}}}\n  later: {uses: wait, needs: [approve]}\n",
    "two-waits": "nodes: {one: {uses: wait}, two: {uses: wait}}\n",
    "diamond": (
        "nodes: {A: {uses: note}, B: {uses: note, needs: [A]}, C: {uses: note, needs: [B]}, D: {uses: once-failing, needs: [B]},"
        " E: {uses: note, needs: [C, D]}}\n"
    ),
    "month": "nodes: {rest: {uses: sleep, params: {duration: 30d}}, ask: {uses: wait, needs: [rest]}}\n",
}
CALLS: list[tuple[str, str]] = []
GATES: dict[str, threading.Event] = {}
STUBBORN = threading.Event()
BEGUN: set[str] = set()
"""Runs whose stubborn handler was called: a run is running as soon as a worker holds its node."""


class Verdict(BaseModel):
    moderation_result: str


class Peculiar(Exception):
    def __init__(self, one: int, two: int, three: int) -> None:
        super().__init__(f"{one}-{two}-{three}")


def gate(ctx: NodeContext) -> None:
    while not GATES.setdefault(ctx.run_id, threading.Event()).wait(0.005):
        ctx.check_cancelled()


def stubborn(ctx: NodeContext) -> str:
    BEGUN.add(ctx.run_id)
    STUBBORN.wait(10)
    return "too late"


def fails(ctx: NodeContext) -> None:
    raise Peculiar(1, 2, 3)


def note(ctx: NodeContext) -> str:
    CALLS.append((ctx.run_id, ctx.node_id))
    return ctx.node_id


def once_failing(ctx: NodeContext) -> str:
    note(ctx)
    if len([1 for _, node in CALLS if node == "D"]) == 1:
        GATES.setdefault(ctx.run_id, threading.Event()).wait(30)
        raise ValueError("the first one fails")
    return "D"


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    handlers: dict[str, Callable[..., Any]] = {
        "echo": lambda ctx: ctx.input, "none": lambda ctx: None, "gate": gate, "stubborn": stubborn, "fails": fails, "note": note,
        "once-failing": once_failing,
    }  # fmt: skip
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=handlers, settings=WorkerSettings(lease=1.0)) as environment:
        yield environment
        STUBBORN.set()


@pytest.fixture(params=BOTH, ids=["sync", "async"])
def client(request: pytest.FixtureRequest, env: TestEnvironment) -> Iterator[Any]:
    CALLS.clear()
    for make in clients(request.param):
        yield make(env)


def test_1_the_four_lines_of_the_card(client: Any, env: TestEnvironment) -> None:
    run = client.start("content-moderation", {"post": "hello"})
    assert run.status() in RunStatus
    assert run.result(timeout=60)["moderation_result"] == "hello"
    assert run.result(timeout=60) == env.client.get_handle(run.run_id).result(timeout=60)
    assert client.execute("nothing", timeout=60) == {"value": None}


def test_2_a_wait_that_runs_out_loses_nothing(client: Any) -> None:
    run = client.start("gate", {"id": 7})
    with pytest.raises(TimeoutError) as out:
        run.result(timeout=0.1)
    assert out.value.run_id == out.value.handle.run_id == run.run_id  # type: ignore[attr-defined]
    assert run.wait_for(RunStatus.RUNNING, timeout=30) is RunStatus.RUNNING
    GATES.setdefault(run.run_id, threading.Event()).set()
    assert run.result(timeout=30)["after"] == 7


def test_3_many_wait_at_once(client: Any) -> None:
    runs = [client.start("content-moderation", {"post": number}) for number in range(50)]
    assert {run.run_id for run in client.as_completed(runs, timeout=30)} == {run.run_id for run in runs}


def test_4_a_start_that_is_repeated_is_one_run(client: Any, env: TestEnvironment) -> None:
    run_id = f"same-{type(client).__name__}"
    with ThreadPoolExecutor(10) as threads:
        found = list(
            threads.map(lambda _: env.client.start("content-moderation", {"post": 1}, run_id=run_id), range(50))
        )
    assert [run.attached for run in found].count(False) == 1
    assert client.start("content-moderation", {"post": 1}, run_id=run_id).attached
    with pytest.raises(RunConflictError):
        client.start("content-moderation", {"post": 2}, run_id=run_id)


def test_5_unknown_and_expired(client: Any) -> None:
    unknown = client.get_handle("nope")
    for ask in (unknown.status, unknown.result, unknown.describe, unknown.cancel, lambda: list(unknown.events())):
        with pytest.raises(RunNotFoundError):
            ask()
    gone = client.start("content-moderation", {"post": 1})
    gone.result(timeout=30)
    assert gone.delete()
    with pytest.raises(RunExpiredError) as expired:
        gone.result()
    assert expired.value.ended_at is not None


def test_6_a_failure_is_reported(client: Any) -> None:
    with pytest.raises(RunFailedError) as failed:
        client.execute("fails", timeout=30)
    failure = failed.value.failure
    assert failure is not None
    assert (failure.type, failure.message, failure.node_id) == (f"{__name__}.Peculiar", "1-2-3", "bad")
    assert failure.attempt == 2
    assert "raise Peculiar(1, 2, 3)" in failure.traceback


def test_7_cancelling(client: Any, env: TestEnvironment) -> None:
    later = client.start("gate", delay=600)
    assert later.cancel("not wanted")
    assert later.status() is RunStatus.CANCELLED
    run = client.start("gate", {"id": 1})
    run.wait_for(RunStatus.RUNNING, timeout=30)
    assert run.cancel("stop it")
    with pytest.raises(RunCancelledError) as cancelled:
        run.result(timeout=30)
    assert cancelled.value.reason == "stop it"
    assert not run.cancel()
    slow = client.start("stubborn")
    assert eventually(lambda: slow.run_id in BEGUN)
    assert slow.cancel("first")
    assert slow.cancel("again"), "it is still stopping"
    env.clock.advance("31s")
    assert (slow.wait(timeout=30).cancel.reason, slow.describe().cancel.forced) == ("first", True)
    deaf = client.start("stubborn")
    assert eventually(lambda: deaf.run_id in BEGUN)
    deaf.cancel(grace=0)
    assert deaf.wait(timeout=30).cancel.forced
    tree = client.start("tree")
    tree.wait_for(RunStatus.WAITING, timeout=30)
    tree.cancel()
    below = tree.wait(timeout=30).children[0]
    deepest = client.get_handle(below).describe().children[0]
    assert {client.get_handle(each).status() for each in (tree.run_id, below, deepest)} == {RunStatus.CANCELLED}


def test_8_a_worker_dies(client: Any, env: TestEnvironment) -> None:
    run = client.start("gate", {"id": 8})
    run.wait_for(RunStatus.RUNNING, timeout=30)
    env.kill_worker()
    env.add_worker()
    GATES.setdefault(run.run_id, threading.Event()).set()
    assert run.result(timeout=30)["after"] == 8


def test_9_a_human_in_the_loop(client: Any) -> None:
    run = client.start("approval")
    run.wait_for(RunStatus.WAITING, timeout=30)
    (point,) = run.describe().waiting
    assert (point.node_id, point.prompt) == ("approve", "Publish?")
    with pytest.raises(InvalidInputError):
        run.signal("approve", {"not": "by"})
    run.signal("approve", {"by": "ann"}, signal_id="s")
    run.signal("approve", {"by": "ann"}, signal_id="s")
    with pytest.raises(NotWaitingError):
        run.signal("approve", {"by": "bob"})
    run.wait_for(RunStatus.WAITING, timeout=30)
    run.signal("later", 1, buffer=True)
    assert run.result(timeout=30)["approve"] == {"by": "ann"}
    two = client.start("two-waits")
    two.wait_for(RunStatus.WAITING, timeout=30)
    with pytest.raises(NotWaitingError) as both:
        two.signal(payload=1)
    assert set(both.value.waiting) == {"one", "two"}
    two.cancel()


def test_10_events_from_the_start_and_after_one(client: Any) -> None:
    run = client.start("content-moderation", {"post": 1})
    run.result(timeout=30)
    events = list(run.events())
    assert [event.type for event in events] == ["run_started", "node_started", "node_completed", "run_ended"]
    assert [event.id for event in run.events(after=events[1].id)] == [event.id for event in events[2:]]


def test_11_doing_what_failed_again(client: Any) -> None:
    run = client.start("diamond")
    while run.describe().nodes["C"].status is not NodeStatus.COMPLETED:
        pass
    GATES.setdefault(run.run_id, threading.Event()).set()
    assert run.wait(timeout=30).status is RunStatus.FAILED
    before = run.describe(ctx=True, outputs=True)
    again = run.rerun(from_node=FAILED)
    assert again.wait(timeout=30).status is RunStatus.COMPLETED
    assert [node for run_id, node in CALLS if run_id == again.run_id] == ["D", "E"]
    assert again.describe().forked_from == run.run_id
    assert run.describe(ctx=True, outputs=True) == before


def test_12_types_and_a_timer_of_a_month(client: Any, env: TestEnvironment) -> None:
    values = {
        "decimal": Decimal("1.10"), "bytes": b"\x00\xff", "at": datetime(2026, 1, 1, tzinfo=UTC), "span": timedelta(days=1),
        "id": UUID(int=7),
    }  # fmt: skip
    assert client.execute("content-moderation", {"post": values}, timeout=30)["moderation_result"] == values
    typed = client.start("content-moderation", {"post": "fine"}, result_type=Verdict)
    assert typed.result(timeout=30) == Verdict(moderation_result="fine")
    for wrong in (float("nan"), object()):
        with pytest.raises(SerializationError) as refused:
            client.start("content-moderation", {"post": {"deep": [wrong]}})
        assert "post.deep[0]" in str(refused.value)
    run = client.start("month")
    run.wait_for(RunStatus.WAITING, timeout=30)
    env.clock.advance(timedelta(days=31))
    env.run_until_idle()
    run.signal("ask", 1)
    assert run.result(timeout=30)["ask"] == 1


def test_each_scenario_has_both_clients() -> None:
    assert [kind.__name__ for kind in BOTH] == [Client.__name__, "BlockingClient"]
