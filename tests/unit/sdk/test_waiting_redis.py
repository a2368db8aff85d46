"""Waiting for runs on a real server, with both clients: prompt, without polling, through outages."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
import redis.asyncio

from flowcraft_sdk import (
    BackendUnavailableError,
    Client,
    ClientSettings,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    RunStatus,
    RunTimedOutError,
    WaitTimeoutError,
)
from flowcraft_sdk._operations.wait import IDLE_WARNING
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from tests.blocking_client import BlockingClient
from tests.unit.sdk.conftest import CREATED, PrivateServer, Runs, until

KINDS = pytest.mark.parametrize("kind", [Client, BlockingClient], ids=["sync", "async"])


@pytest.fixture(params=[Client, BlockingClient], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, server: PrivateServer, namespace: str) -> Iterator[Any]:
    with request.param(server.url, namespace=namespace) as client:
        yield client


def test_a_result_is_there_as_soon_as_the_run_has_ended(client: Any, runs: Runs) -> None:
    for n in range(20):
        runs.write(f"r{n}")
        runs.end_later(f"r{n}", 0.01 + n % 5 / 200)
        # less than the seconds after which a waiter reads the run by itself
        assert client.get_handle(f"r{n}").result(timeout=IDLE_WARNING) == {"a": "done"}


def test_a_result_can_be_had_again_and_null_is_one(client: Any, runs: Runs) -> None:
    runs.write("r", "completed", **{"o:a": "null", "c:n": "1"})
    handle = client.get_handle("r")
    assert handle.result() == handle.result(timeout=0) == {"a": None, "n": 1}
    assert handle.done() is True


def test_a_wait_that_runs_out_says_what_is_known_and_the_run_goes_on(client: Any, runs: Runs) -> None:
    runs.write("r", "waiting")
    handle = client.get_handle("r")
    begin = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        handle.result(timeout=timedelta(milliseconds=200))
    assert time.monotonic() - begin >= 0.2
    error: Any = caught.value
    assert isinstance(error, WaitTimeoutError)
    assert (error.run_id, error.status, error.live_workers, error.handle.run_id) == ("r", "waiting", 0, "r")
    assert 0.2 <= error.waited < 0.5
    assert "no worker is alive" in str(error)
    with pytest.raises(WaitTimeoutError):
        handle.wait(timeout=0)
    until(lambda: client.count_runs() and runs.listeners("r") == 0, "unsubscribed")  # the call lets the event loop run
    runs.end_later("r", 0.02)
    assert handle.wait(60).status is RunStatus.COMPLETED


@pytest.mark.parametrize("timeout", [-1, float("nan"), timedelta(seconds=-1)])
def test_a_span_that_is_none_is_refused(client: Any, runs: Runs, timeout: Any) -> None:
    runs.write("r")
    with pytest.raises(ValueError, match="timeout is a span of time"):
        client.get_handle("r").result(timeout=timeout)


def test_an_unknown_run_is_reported_at_once_by_every_method(client: Any, runs: Runs) -> None:
    handle = client.get_handle("nope")
    for call in (
        handle.result, handle.wait, handle.wait_for, handle.status, handle.done, handle.describe, handle.cancel,
        lambda: list(handle.events()), lambda: list(client.as_completed([handle])),
    ):  # fmt: skip
        with pytest.raises(RunNotFoundError, match="no run nope"):
            call()


@pytest.mark.parametrize(
    ("status", "error"),
    [("failed", RunFailedError), ("cancelled", RunCancelledError), ("timed_out", RunTimedOutError)],
)
def test_how_a_run_ended_reports_errors_apart(client: Any, runs: Runs, status: str, error: type[Exception]) -> None:
    runs.write("r", cx='{"reason": "enough", "at": 1, "grace": 0}')
    runs.end_later("r", 0.02, status)
    with pytest.raises(error) as caught:
        client.get_handle("r").result(timeout=5)
    assert caught.value.run_id == "r"  # type: ignore[attr-defined]
    assert client.get_handle("r").wait(5).status.value == status


def test_waiting_for_a_state_on_the_way(client: Any, runs: Runs) -> None:
    runs.write("r", "running")
    handle = client.get_handle("r")

    def park() -> None:
        runs.redis.hset(runs.keys.run("r"), "st", "waiting")
        runs.event("r", "w|5|a|signal")

    timer = threading.Timer(0.05, park)
    timer.start()
    assert handle.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
    runs.end_later("r", 0.02)
    assert handle.wait_for(RunStatus.RUNNING, timeout=60) is RunStatus.COMPLETED


def test_a_quiet_wait_polls_nothing(client: Any, runs: Runs, namespace: str) -> None:
    runs.write("r")
    runs.redis.set(
        Keys(namespace).protocol, PROTOCOL_VERSION
    )  # of a deployment that has published, which is asked once
    commands: list[str] = []
    with runs.redis.monitor() as monitor:
        reader = threading.Thread(target=lambda: commands.extend(_mine(monitor, namespace)))
        reader.start()
        with pytest.raises(WaitTimeoutError):
            client.get_handle("r").result(timeout=1.5)
        runs.redis.echo(f"over {namespace}")
        reader.join(20)
    assert len([line for line in commands if line.startswith("HGET") and ":run:r" in line]) <= 3, commands
    assert len(commands) <= 10, commands


def _mine(monitor: Any, namespace: str) -> Iterator[str]:
    for entry in monitor.listen():
        if f"over {namespace}" in entry["command"]:
            return
        if namespace in entry["command"] or entry["command"].startswith("PING"):
            yield entry["command"]


def test_events_of_a_run_wake_nobody_who_waits_for_its_end(client: Any, runs: Runs, namespace: str) -> None:
    def talk() -> None:
        time.sleep(0.1)
        for _ in range(50):
            runs.event("r", "c|1|a|")
        runs.end("r")

    runs.write("r")
    commands: list[str] = []
    with runs.redis.monitor() as monitor:
        reader = threading.Thread(target=lambda: commands.extend(_mine(monitor, namespace)))
        reader.start()
        talker = threading.Thread(target=talk)
        talker.start()
        client.get_handle("r").result(timeout=60)
        talker.join()
        runs.redis.echo(f"over {namespace}")
        reader.join(20)
    # The first look, one after the subscription, and one that shows that the notification is this run's.
    assert sum(line.startswith(("HGET ", "HMGET ")) and " st" in line for line in commands) == 3


@pytest.mark.parametrize("record", [False, True], ids=["the state alone", "with its record"])
def test_the_end_of_an_earlier_run_with_the_same_id_is_not_the_end_of_this_one(
    client: Any, runs: Runs, record: bool
) -> None:
    """As a cluster delivers it: a notification may reach a node after the new run's waiter has subscribed there."""
    runs.write("r")
    runs.write("other")
    earlier = ["st", "completed", "bp", "b", "plan", "h", "cr", str(CREATED - 5), "o:a", '"of the earlier run"']

    def end() -> None:
        runs.until_received("r")
        runs.redis.publish(runs.keys.end_channel("r"), f"completed {json.dumps(earlier)}" if record else "cancelled")
        runs.end("other")
        runs.end_later("r", 0.05)

    ending = threading.Thread(target=end)
    ending.start()
    assert client.get_handle("r").result(timeout=60) == {"a": "done"}
    ending.join(60)


def test_as_completed_passes_over_the_end_of_an_earlier_run(client: Any, runs: Runs) -> None:
    runs.write("r")
    runs.write("other")

    def end() -> None:
        runs.until_received("r")
        runs.redis.publish(runs.keys.end_channel("r"), "cancelled")
        runs.end("other")
        runs.end_later("r", 0.05)

    ending = threading.Thread(target=end)
    ending.start()
    handles = [client.get_handle("r"), client.get_handle("other")]
    assert [handle.run_id for handle in client.as_completed(handles, timeout=60)] == ["other", "r"]
    ending.join(60)


@KINDS
def test_a_wait_survives_a_restart_of_redis(kind: Any, own_server: PrivateServer, namespace: str) -> None:
    runs = Runs(own_server, namespace)
    runs.write("r")

    def restart() -> None:
        own_server.kill()
        time.sleep(0.3)
        own_server.start()
        runs.write("r")
        time.sleep(0.1)
        runs.end("r")

    with kind(own_server.url, namespace=namespace, settings=ClientSettings(retries=1)) as client:
        timer = threading.Timer(0.2, restart)
        timer.start()
        assert client.get_handle("r").result(timeout=60) == {"a": "done"}
        timer.join()


@KINDS
def test_without_redis_the_first_look_says_so(kind: Any, own_server: PrivateServer, namespace: str) -> None:
    own_server.kill()
    with kind(own_server.url, namespace=namespace, settings=ClientSettings(retries=1)) as client:
        begin = time.monotonic()
        with pytest.raises(BackendUnavailableError, match="cannot read the run's result") as caught:
            client.get_handle("r").result(timeout=60)
        assert time.monotonic() - begin < 50
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.maybe_applied is False


@pytest.mark.parametrize("decode", [False, True])
@KINDS
def test_a_redis_client_of_the_callers_own_serves_too(
    kind: Any, decode: bool, server: PrivateServer, namespace: str, runs: Runs
) -> None:
    module: Any = redis if kind is Client else redis.asyncio
    given = module.Redis(unix_socket_path=str(server.socket), decode_responses=decode)
    runs.write("r")
    runs.event("r", "B|0||")
    with kind(redis=given, namespace=namespace) as client:
        runs.end_later("r", 0.05)
        handle = client.get_handle("r")
        assert handle.result(timeout=60) == {"a": "done"}
        assert [event.type for event in handle.events()] == ["run_started", "run_ended"]
        assert [run.run_id for run in client.list_runs()] == ["r"]
        assert handle.cancel() is False
        assert (client.workers(), client.blueprints(), client.count_runs()) == ([], [], 1)
        assert client.ping().namespace == namespace


def test_a_frozen_clock_stops_no_timeout(server: PrivateServer, namespace: str, runs: Runs) -> None:
    freezegun = pytest.importorskip("freezegun")
    runs.write("r")
    with freezegun.freeze_time("2026-01-01"), Client(server.url, namespace=namespace) as client:
        handle = client.get_handle("r")
        for wait in (
            lambda: handle.result(timeout=0.1),
            lambda: list(client.as_completed([handle], timeout=0.1)),
            lambda: list(handle.events(timeout=0.1)),
        ):
            with pytest.raises(WaitTimeoutError) as caught:
                wait()
            assert 0.1 <= caught.value.waited < 1.0
        runs.end_later("r", 0.05)
        assert handle.result(timeout=60) == {"a": "done"}


def test_an_interrupt_ends_the_wait_alone(server: PrivateServer, namespace: str, runs: Runs) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread can be interrupted")
    runs.write("r")
    with Client(server.url, namespace=namespace) as client:
        timer = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
        timer.start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.get_handle("r").result(timeout=60)
        assert time.monotonic() - begin < 50
        assert client.get_handle("r").status() is RunStatus.RUNNING
        until(lambda: runs.listeners("r") == 0, "unsubscribed")
        runs.end_later("r", 0.02)
        assert client.get_handle("r").result(timeout=60) == {"a": "done"}
