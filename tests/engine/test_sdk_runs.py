"""Starting, watching and cancelling runs through the SDK, with both clients, on the real engine."""

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from flowcraft_sdk import (
    BlueprintNotFoundError,
    InvalidInputError,
    NodeContext,
    NonRetryableError,
    RunCancelledError,
    RunConflictError,
    RunFailedError,
    RunNotFoundError,
    RunStatus,
    RunTimedOutError,
    SerializationError,
    WaitTimeoutError,
)
from flowcraft_server.testing import TestEnvironment
from tests.blocking_client import BOTH, clients
from tests.engine.test_failures import graph

Make = Callable[..., TestEnvironment]
ClientOf = Callable[[TestEnvironment], Any]


@pytest.fixture(params=BOTH, ids=["sync", "async"])
def client_of(request: pytest.FixtureRequest) -> Iterator[ClientOf]:
    """A client of an environment: sync, then async."""
    yield from clients(request.param)


def echo(ctx: NodeContext) -> Any:
    return ctx.context.get("value")


class Gate:
    """A handler that holds until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def handle(self, ctx: NodeContext) -> str:
        self.begun.set()
        while not self.go.wait(0.002):
            ctx.check_cancelled()
        return "through"


ECHO = graph({"a": "echo"})


def test_the_four_lines_of_the_card(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints=ECHO)
    run = client_of(env).start("g", {"value": "hello"})
    assert run.status() in set(RunStatus)
    assert run.result(timeout=60) == {"value": "hello", "a": "hello"}
    assert run.result() == run.result(timeout=0)
    assert (run.attached, run.done(), run.namespace) == (False, True, env.namespace)


def test_a_handle_can_be_made_again_in_another_process(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints=ECHO)
    run = client_of(env).start("g", {"value": None})
    program = (
        "import sys; from flowcraft_sdk import Client\n"
        "with Client(sys.argv[1], namespace=sys.argv[2]) as c: print(c.get_handle(sys.argv[3]).result(timeout=60))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, env.url, env.namespace, run.run_id], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'a': None, 'value': None}" or done.stdout.strip() == "{'value': None, 'a': None}"


@dataclasses.dataclass
class Parcel:
    weight: Decimal
    due: date


class Order(BaseModel):
    id: UUID
    at: datetime
    span: timedelta
    raw: bytes
    parcels: list[dict[str, Any]]


def test_types_come_back_as_they_went_untyped_and_typed(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints={**ECHO, "outputs": {"order": "a"}})
    order = Order(
        id=UUID(int=7),
        at=datetime(2026, 1, 2, 3, tzinfo=UTC),
        span=timedelta(days=1, microseconds=1),
        raw=b"\x00\xff",
        parcels=[{"weight": Decimal("1.10"), "due": date(2026, 1, 2)}],
    )
    client = client_of(env)

    class Outcome(BaseModel):
        order: Order

    run = client.start("g", {"value": order}, result_type=Outcome)
    assert run.result(timeout=60) == Outcome(order=order)
    assert client.get_handle(run.run_id).result() == {"order": order.model_dump()}
    assert client.get_handle(run.run_id, result_type=dict[str, Order]).result() == {"order": order}
    with pytest.raises(SerializationError, match="the result does not fit"):
        client.get_handle(run.run_id, result_type=dict[str, int]).result()
    parcel = Parcel(Decimal("2.50"), date(2026, 1, 2))
    assert client.execute("g", {"value": parcel}, timeout=60) == {"order": dataclasses.asdict(parcel)}
    assert client.execute("g", {"value": order}, timeout=10, result_type=Outcome).order == order


@pytest.mark.parametrize(
    ("value", "path"),
    [({"order": {"items": [0, {"price": float("nan")}]}}, "ctx.order.items[1].price"), ({"x": object()}, "ctx.x")],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_recorded(
    environment: Make, client_of: ClientOf, value: Any, path: str
) -> None:
    client = client_of(environment(handlers={"echo": echo}, blueprints=ECHO))
    with pytest.raises(SerializationError) as caught:
        client.start("g", value)
    assert caught.value.path == path
    assert client.count_runs() == 0


def test_an_unknown_blueprint_and_a_context_that_does_not_fit(environment: Make, client_of: ClientOf) -> None:
    contract = {"value": {"type": "string"}, "limit": {"type": "number", "default": 3}}
    client = client_of(environment(handlers={"echo": echo}, blueprints={**ECHO, "inputs": contract}))
    with pytest.raises(BlueprintNotFoundError) as unknown:
        client.start("gg", {})
    assert unknown.value.known == ("g",)
    with pytest.raises(BlueprintNotFoundError, match="in version abc"):
        client.start("g", {"value": "x"}, version="abc")
    with pytest.raises(InvalidInputError, match="value: is missing"):
        client.start("g", {})
    assert client.execute("g", {"value": "x"}, timeout=10) == {"value": "x", "limit": 3, "a": "x"}


def test_fifty_threads_start_one_run(environment: Make) -> None:
    env = environment(handlers={"echo": echo}, blueprints=ECHO)
    barrier, attached = threading.Barrier(50), []

    def start(order: bool) -> None:
        ctx = {"value": {"a": 1, "b": 2} if order else {"b": 2, "a": 1}}
        barrier.wait()
        attached.append(env.client.start("g", ctx, run_id="same").attached)

    threads = [threading.Thread(target=start, args=(n % 2 == 0,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(attached) == [False] + [True] * 49
    assert env.client.count_runs() == 1


def test_an_id_that_is_taken(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints=[ECHO, {**ECHO, "id": "h"}])
    client = client_of(env)
    first = client.start("g", {"value": 1}, run_id="post-7")
    again = client.start("g", {"value": 1}, run_id="post-7")
    assert (again.attached, again == first, hash(again) == hash(first)) == (True, True, True)
    for blueprint, ctx, options, reason in (
        ("g", {"value": 2}, {}, "different_input"),
        ("h", {"value": 1}, {}, "different_blueprint"),
        ("g", {"value": 1}, {"on_conflict": "raise"}, "exists"),
    ):
        with pytest.raises(RunConflictError) as caught:
            client.start(blueprint, ctx, run_id="post-7", **options)
        assert (caught.value.reason, caught.value.run_id) == (reason, "post-7")
        assert caught.value.existing.run_id == "post-7"


def test_a_failure_is_reported_without_the_handlers_class(environment: Make, client_of: ClientOf) -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int, three: int) -> None:
            super().__init__(f"odd: {one + two + three}")

    def fails(ctx: NodeContext) -> None:
        if ctx.attempt < 2:
            raise Odd(1, 2, 3)
        raise NonRetryableError("for good", details={"price": Decimal("1.10")})

    nodes = {"a": {"uses": "fails", "config": {"maxRetries": 3, "retryDelay": 1}}}
    env = environment(handlers={"fails": fails}, blueprints=graph(nodes))
    run = client_of(env).start("g")
    with pytest.raises(RunFailedError, match=r"node 'a': .*for good") as caught:
        run.result(timeout=10)
    error = caught.value
    assert (error.failure.node_id, error.failure.attempt, error.run_id, error.blueprint_id) == ("a", 2, run.run_id, "g")
    assert error.failure.type.endswith("NonRetryableError")
    assert error.failure.details == {"price": Decimal("1.10")}
    assert "raise NonRetryableError" in str(error.__cause__)
    assert error.snapshot.status is RunStatus.FAILED
    retried = [event.data for event in run.events() if event.type == "node_retrying"]
    assert len(retried) == 1


def test_a_run_that_takes_too_long_times_out(environment: Make, client_of: ClientOf) -> None:
    gate = Gate()
    env = environment(handlers={"gate": gate.handle}, blueprints=graph({"a": "gate"}))
    run = client_of(env).start("g", run_timeout=3600)
    assert gate.begun.wait(60)
    env.clock.advance(timedelta(hours=2))
    with pytest.raises(RunTimedOutError) as caught:
        run.result(timeout=10)
    assert not isinstance(caught.value, TimeoutError)
    assert caught.value.deadline is not None


def test_a_delayed_run_is_scheduled_and_cancelled_at_once(environment: Make, client_of: ClientOf) -> None:
    env = environment(handlers={"echo": echo}, blueprints=ECHO)
    client = client_of(env)
    run = client.start("g", {"value": 1}, delay=timedelta(hours=1))
    other = client.start("g", {"value": 2}, start_at=env.clock.now() + timedelta(hours=1))
    assert [run.status(), other.status()] == [RunStatus.SCHEDULED] * 2
    assert run.cancel("changed my mind") is True
    with pytest.raises(RunCancelledError, match="changed my mind"):
        run.result(timeout=5)
    env.clock.advance(timedelta(hours=2))
    assert other.result(timeout=60)["a"] == 2
    assert (run.cancel(), other.cancel()) == (False, False)


def test_cancelling_twice_keeps_the_first_reason(environment: Make, client_of: ClientOf) -> None:
    begun, release = threading.Event(), threading.Event()

    def deaf(ctx: Any) -> None:
        begun.set()
        release.wait(10)

    env = environment(handlers={"deaf": deaf}, blueprints=graph({"a": "deaf"}))
    run = client_of(env).start("g")
    assert begun.wait(60)
    assert run.cancel("first", grace=60) is True
    assert run.status() is RunStatus.CANCELLING
    assert run.cancel("second", grace=0) is True
    with pytest.raises(RunCancelledError) as caught:
        run.result(timeout=5)
    assert (caught.value.reason, caught.value.forced) == ("first", True)
    assert caught.value.requested_at is not None
    release.set()


def test_execute_carries_the_handle_when_the_wait_runs_out(environment: Make, client_of: ClientOf) -> None:
    gate = Gate()
    env = environment(handlers={"gate": gate.handle}, blueprints=graph({"a": "gate"}))
    client = client_of(env)
    with pytest.raises(TimeoutError) as caught:
        client.execute("g", timeout=0.3, run_id="r7")
    error: Any = caught.value
    assert isinstance(error, WaitTimeoutError)
    assert (error.handle.run_id, error.status, error.live_workers) == ("r7", "running", 1)
    gate.go.set()
    assert client.get_handle("r7").result(timeout=60) == {"a": "through"}


def test_a_missing_parent_is_reported(environment: Make, client_of: ClientOf) -> None:
    client = client_of(environment(handlers={"echo": echo}, blueprints=ECHO))
    with pytest.raises(RunNotFoundError, match="no run nope to be the parent"):
        client.start("g", {"value": 1}, parent="nope")
    first = client.start("g", {"value": 1})
    assert client.start("g", {"value": 1}, parent=first).result(timeout=60)["a"] == 1
