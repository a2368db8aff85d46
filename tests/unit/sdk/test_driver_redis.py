"""The drivers on a real server: scripts that Redis does not know, errors, event loops, closed clients."""

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft_sdk import (
    AsyncClient,
    BackendUnavailableError,
    Client,
    ClientSettings,
    ConfigurationError,
    ForeignKeyError,
    ProtocolMismatchError,
    RunBrokenError,
    RunNotFoundError,
    WaitTimeoutError,
)
from flowcraft_sdk._operations.effects import Batch, Command, Yield, command
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION
from tests.blocking_client import BlockingClient
from tests.unit.sdk.conftest import PrivateServer, Runs, until

KINDS = pytest.mark.parametrize("kind", [Client, BlockingClient], ids=["sync", "async"])


@pytest.fixture(params=[Client, BlockingClient], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, server: PrivateServer, namespace: str) -> Iterator[Any]:
    with request.param(server.url, namespace=namespace) as client:
        yield client


def test_a_script_that_redis_has_forgotten_is_sent_again(client: Any, runs: Runs) -> None:
    for _ in range(2):
        runs.redis.script_flush()
        with pytest.raises(RunNotFoundError):
            client.get_handle("nope").cancel()


def test_a_connection_that_broke_between_calls_is_mended(client: Any, runs: Runs) -> None:
    runs.write("r")
    for _ in range(3):
        assert client.get_handle("r").status() == "running"
        runs.kill_connections("normal")


def test_what_redis_refuses_is_reported_and_not_tried_again(client: Any, runs: Runs) -> None:
    runs.redis.set(runs.keys.run("r"), "no hash")
    with pytest.raises(RunBrokenError, match="the record of run r in Redis cannot be read"):
        client.get_handle("r").status()
    runs.redis.set(runs.keys.index_tag("t"), "no index")
    with pytest.raises(
        ForeignKeyError, match="idx:tag:t in Redis is no sorted set: something else has written there"
    ) as reported:
        client.count_runs(tag="t")
    assert (reported.value.key, reported.value.expected) == (runs.keys.index_tag("t"), "zset")


def test_another_protocol_shows_in_ping_and_start(client: Any, runs: Runs) -> None:
    runs.redis.set(runs.keys.protocol, "99")
    for call in (client.ping, lambda: client.start("b")):
        with pytest.raises(ProtocolMismatchError) as caught:
            call()
        assert (caught.value.client_version, caught.value.server_version) == (PROTOCOL_VERSION, "99")


def test_a_closed_client_says_so(client: Any, runs: Runs) -> None:
    runs.write("r")
    assert client.get_handle("r").status() == "running"
    if isinstance(client, Client):
        client.close()
    else:
        client.runner.run(client.client.aclose())
    with pytest.raises(ConfigurationError, match="this client is closed"):
        client.get_handle("r").status()


@KINDS
def test_closing_leaves_no_connection(kind: Any, own_server: PrivateServer) -> None:
    runs = Runs(own_server, "t")
    runs.write("r")
    before = len(runs.redis.client_list())
    gc.collect()  # what other tests left open is not this client's
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with kind(own_server.url, namespace="t") as client:
            with pytest.raises(WaitTimeoutError):
                client.get_handle("r").result(timeout=0.5)
            assert len(runs.redis.client_list()) == before + 2  # one for commands, one that listens
        until(lambda: len(runs.redis.client_list()) == before, "all connections are closed")
        del client
        gc.collect()


@KINDS
def test_a_server_that_does_not_answer_is_given_up_after_the_socket_timeout(
    kind: Any, own_server: PrivateServer
) -> None:
    settings = ClientSettings(socket_timeout=0.1, retries=1)
    runs = Runs(own_server, "t")
    with kind(own_server.url, namespace="t", settings=settings) as client:
        runs.redis.set(runs.keys.protocol, PROTOCOL_VERSION)  # else what is published is looked for before each call
        client.ping()
        runs.redis.execute_command("CLIENT", "PAUSE", 2000, "ALL")
        begin = time.monotonic()
        with pytest.raises(BackendUnavailableError) as caught:
            client.get_handle("r").cancel("why", grace=0)
        assert time.monotonic() - begin >= 0.2
        assert (caught.value.operation, caught.value.maybe_applied) == ("cancel the run", True)


@KINDS
def test_more_callers_than_connections_take_turns(kind: Any, server: PrivateServer, namespace: str, runs: Runs) -> None:
    runs.write("r")
    settings = ClientSettings(max_connections=2)
    with kind(server.url, namespace=namespace, settings=settings) as client:
        if isinstance(client, Client):
            found: list[str] = []
            threads = [
                threading.Thread(target=lambda: found.append(client.get_handle("r").status())) for _ in range(30)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            handle = client.client.get_handle("r")

            async def all_at_once() -> list[str]:
                return list(await asyncio.gather(*(handle.status() for _ in range(30))))

            found = client.runner.run(all_at_once())
        assert found == ["running"] * 30


def test_a_batch_is_one_round_trip_and_errors_reach_the_operation(server: PrivateServer, runs: Runs) -> None:
    def operation() -> Any:
        replies = yield Batch(
            (command("SET", runs.keys.base + "x", 1), command("INCR", runs.keys.base + "x")), atomic=True
        )
        yield Yield(replies[1])
        try:
            yield Command("HGET", (runs.keys.base + "x", "f"))
        except BackendUnavailableError as error:
            yield Yield(error.operation)

    with Client(server.url, namespace=runs.keys.namespace) as client:
        assert list(client.driver.stream(operation())) == [2, "operation"]


def test_an_async_client_belongs_to_its_event_loop(server: PrivateServer, namespace: str) -> None:
    client = AsyncClient(server.url, namespace=namespace)

    async def use() -> None:
        await client.ping()

    with asyncio.Runner() as first:
        first.run(use())
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            asyncio.run(use())
        first.run(client.aclose())


def test_cancelling_a_waiting_task_leaves_the_run_and_the_client_alone(
    server: PrivateServer, namespace: str, runs: Runs
) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, namespace=namespace) as client:
            runs.write("r")
            waiters = [asyncio.create_task(client.get_handle("r").result()) for _ in range(5)]
            while runs.listeners("r") != 1:
                await asyncio.sleep(0.01)
            assert runs.listeners("r") == 1
            for waiter in waiters[1:]:
                waiter.cancel()
            ended = await asyncio.gather(*waiters[1:], return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get_handle("r").result()
            runs.end("r")
            assert await waiters[0] == {"a": "done"}
            for _ in range(100):
                await asyncio.sleep(0.01)
                if runs.listeners("r") == 0:
                    return
            pytest.fail("still subscribed")

    asyncio.run(main())


def test_a_cancellation_is_never_lost_whenever_it_comes(server: PrivateServer, namespace: str, runs: Runs) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, namespace=namespace) as client:
            runs.write("r")
            for n in range(300):
                task = asyncio.create_task(client.get_handle("r").result())
                for _ in range(n % 25):
                    await asyncio.sleep(0)
                await asyncio.sleep(n % 7 / 5000)
                task.cancel()
                done, _ = await asyncio.wait({task}, timeout=5)
                assert done
                assert task.cancelled()

    asyncio.run(main())


def test_closing_ends_what_waits_and_never_hangs(server: PrivateServer, namespace: str, runs: Runs) -> None:
    async def main(turns: int) -> None:
        client = AsyncClient(server.url, namespace=namespace)
        waits = [asyncio.create_task(client.get_handle("r").result()) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        async with asyncio.timeout(5):
            await client.aclose()
            ended = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(end) for end in ended} <= {ConfigurationError}, ended

    runs.write("r")
    for turns in range(30):
        asyncio.run(main(turns))


def test_two_hundred_async_waits_share_one_connection(server: PrivateServer, namespace: str, runs: Runs) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, namespace=namespace) as client:
            for n in range(200):
                runs.write(f"r{n}")
            waits = [asyncio.create_task(client.get_handle(f"r{n}").result(60)) for n in range(200)]
            while not all(runs.listeners(f"r{n}") for n in range(200)):
                await asyncio.sleep(0.01)
            subscribed = [entry for entry in runs.redis.client_list() if int(entry["sub"]) >= 200]
            assert len(subscribed) == 1, subscribed
            for n in range(100):
                runs.end(f"r{n}")
            runs.kill_connections("pubsub")
            for n in range(100, 200):
                runs.end(f"r{n}")
            begin = time.monotonic()
            assert await asyncio.gather(*waits) == [{"a": "done"}] * 200
            assert time.monotonic() - begin < 50

    asyncio.run(main())


def test_breaking_out_of_events_unsubscribes(server: PrivateServer, namespace: str, runs: Runs) -> None:
    runs.write("r")
    for n in range(5):
        runs.event("r", f"c|{n}|a|")
    with Client(server.url, namespace=namespace) as client:
        for event in client.get_handle("r").events():
            if event.id == "3":
                break
        until(lambda: runs.listeners("r") == 0, "unsubscribed")
        rest = [event.id for event in client.get_handle("r").events(after="3", follow=False)]
        assert rest == ["4", "5"]
        with pytest.raises(WaitTimeoutError):
            client.get_handle("r").result(timeout=0)
