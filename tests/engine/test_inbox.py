"""A client that starts runs and waits for them receives their ends in its inbox: no subscription, no look."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk import RunCancelledError, RunFailedError
from flowcraft_sdk._operations.completion_inbox import MOST_RESERVED
from flowcraft_server.testing import TestEnvironment
from tests.blocking_client import BOTH, clients
from tests.engine.test_failures import graph
from tests.engine.test_sdk_runs import Gate, echo

Make = Callable[..., TestEnvironment]
ClientOf = Callable[[TestEnvironment], Any]


@pytest.fixture(params=BOTH, ids=["sync", "async"])
def client_of(request: pytest.FixtureRequest) -> Iterator[ClientOf]:
    """A client of an environment: sync, then async."""
    yield from clients(request.param)


@pytest.fixture(autouse=True)
def a_lost_notice_costs_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait of these tests looks by itself before it runs out."""
    monkeypatch.setattr("flowcraft_sdk._operations.wait.IDLE_WARNING", 60.0)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.go.set()


def fail(_ctx: Any) -> None:
    raise ValueError("no")


def opened(environment: Make, gate: Gate | None = None) -> TestEnvironment:
    handlers = {"echo": echo, "fail": fail, "gate": (gate or Gate()).handle}
    blueprints = [graph({"a": name}, id=name) for name in handlers]
    return environment(handlers=handlers, blueprints=blueprints)


def subscriptions(env: TestEnvironment) -> int:
    """How often anybody has subscribed to anything."""
    return int(env.link.redis.info("commandstats").get("cmdstat_subscribe", {"calls": 0})["calls"])


def names_an_inbox(env: TestEnvironment, run: Any) -> bool:
    return b"@" in env.link.redis.hget(env.keys.run(run.run_id), "tok")


def waiting_client(env: TestEnvironment, client_of: ClientOf) -> Any:
    """A client that has waited for a run, so that its inbox is subscribed."""
    client = client_of(env)
    first = client.start("echo", {"value": 0})
    assert first.result(timeout=60) == {"value": 0, "a": 0}
    assert not names_an_inbox(env, first)
    # The subscription of the inbox may be confirmed a moment after that of the run's own channel.
    until = time.monotonic() + 60
    while not names_an_inbox(env, run := client.start("echo", {"value": 0})):
        assert time.monotonic() < until
        run.result(timeout=60)
    run.result(timeout=60)
    return client


def test_only_the_first_wait_subscribes(environment: Make, client_of: ClientOf) -> None:
    env = opened(environment)
    client = waiting_client(env, client_of)
    before = subscriptions(env)
    for n in range(20):
        assert client.start("echo", {"value": n}).result(timeout=60) == {"value": n, "a": n}
    assert subscriptions(env) == before


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_however_a_run_ends(environment: Make, client_of: ClientOf, gate: Gate, end: str) -> None:
    env = opened(environment, gate)
    client = waiting_client(env, client_of)
    before = subscriptions(env)
    run = client.start("fail" if end == "failed" else "gate")
    if end == "cancelled":
        assert gate.begun.wait(25)
        run.cancel("enough")
    with pytest.raises(RunFailedError if end == "failed" else RunCancelledError):
        run.result(timeout=10)
    assert names_an_inbox(env, run)
    assert subscriptions(env) == before


def test_a_run_that_ended_before_anybody_waited(environment: Make, client_of: ClientOf) -> None:
    env = opened(environment)
    client = waiting_client(env, client_of)
    run = client.start("echo", {"value": 1})
    env.run_until_idle()
    assert run.result(timeout=60) == run.result(timeout=60) == {"value": 1, "a": 1}


def test_a_connection_that_breaks_between_start_and_wait(environment: Make, client_of: ClientOf, gate: Gate) -> None:
    env = opened(environment, gate)
    client = waiting_client(env, client_of)
    run = client.start("gate")
    assert names_an_inbox(env, run)
    env.link.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
    threading.Timer(0.2, gate.go.set).start()
    assert run.result(timeout=25) == {"a": "through"}
    again = client.start("echo", {"value": 2})
    assert again.result(timeout=25) == {"value": 2, "a": 2}


def test_a_connection_that_breaks_during_the_wait(environment: Make, client_of: ClientOf, gate: Gate) -> None:
    env = opened(environment, gate)
    client = waiting_client(env, client_of)
    run = client.start("gate")

    def meanwhile() -> None:
        assert gate.begun.wait(25)
        env.link.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
        gate.go.set()

    threading.Thread(target=meanwhile).start()
    assert run.result(timeout=25) == {"a": "through"}


def test_several_wait_for_the_same_run(environment: Make, gate: Gate) -> None:
    env = opened(environment, gate)
    env.client.start("echo").result(timeout=60)
    run, found = env.client.start("gate"), []
    threads = [threading.Thread(target=lambda: found.append(run.result(timeout=25))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert gate.begun.wait(25)
    gate.go.set()
    for thread in threads:
        thread.join(25)
    assert found == [{"a": "through"}] * 5


def test_a_run_of_somebody_else_is_subscribed_to(environment: Make, client_of: ClientOf, gate: Gate) -> None:
    env = opened(environment, gate)
    client = waiting_client(env, client_of)
    env.client.start("gate", run_id="r")
    assert gate.begun.wait(25)
    attached = client.start("gate", run_id="r")
    assert attached.attached
    threading.Timer(0.1, gate.go.set).start()
    assert attached.result(timeout=25) == {"a": "through"}


def test_starting_without_waiting_fills_no_inbox(environment: Make, client_of: ClientOf) -> None:
    env = opened(environment)
    client = waiting_client(env, client_of)
    runs = [client.start("echo", {"value": n}) for n in range(3 * MOST_RESERVED)]
    assert [names_an_inbox(env, run) for run in runs] == [n < MOST_RESERVED for n in range(len(runs))]
    assert [run.result(timeout=60)["a"] for run in runs] == list(range(len(runs)))
    run = client.start("echo", {"value": 1})
    assert names_an_inbox(env, run)
    assert run.result(timeout=60) == {"value": 1, "a": 1}
