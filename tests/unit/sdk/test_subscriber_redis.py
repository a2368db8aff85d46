"""The sync subscriber on a real server: one connection, nothing missed, nothing left behind."""

import gc
import os
import threading
import time
from collections.abc import Iterator

import pytest

from flowcraft_sdk import Client, ConfigurationError, WaitTimeoutError
from flowcraft_sdk._transport.connector import ClientSettings, listening_connection, sync_client
from flowcraft_sdk._transport.subscriber import MOST_LEFT, Subscriber
from tests.unit.sdk.conftest import PrivateServer, Runs, until


@pytest.fixture
def subscriber(server: PrivateServer) -> Iterator[Subscriber]:
    redis = sync_client(server.url, ClientSettings())
    subscriber = Subscriber(lambda: listening_connection(redis), "inbox:")
    yield subscriber
    subscriber.close()


@pytest.fixture
def client(server: PrivateServer, namespace: str) -> Iterator[Client]:
    with Client(server.url, namespace=namespace) as client:
        yield client


def test_an_ear_receives_what_is_published_after_listen_returned(subscriber: Subscriber, runs: Runs) -> None:
    channel = runs.keys.channel("r")
    subscription = subscriber.subscribe((channel,), 5.0)
    assert runs.redis.publish(channel, "completed") == 1
    assert subscriber.wait(subscription, 5.0) == {channel: "completed"}
    assert subscriber.wait(subscription, 0.01) == {}
    runs.redis.publish(channel, "")
    assert subscriber.wait(subscription, 5.0) == {channel: ""}


def test_the_last_ear_on_a_channel_unsubscribes_at_once(subscriber: Subscriber, runs: Runs) -> None:
    first, second = (subscriber.subscribe((runs.keys.channel("r"),), 5.0) for _ in range(2))
    assert runs.listeners("r") == 1
    subscriber.unsubscribe(first)
    time.sleep(0.02)
    assert runs.listeners("r") == 1
    subscriber.unsubscribe(second)
    until(lambda: runs.listeners("r") == 0, "unsubscribed")


def test_a_broken_connection_is_mended_and_everybody_asked_to_look(subscriber: Subscriber, runs: Runs) -> None:
    channels = tuple(runs.keys.channel(f"r{n}") for n in range(3))
    subscription = subscriber.subscribe(channels, 5.0)
    runs.kill_connections("pubsub")
    pending = {}
    until(lambda: pending.update(subscriber.wait(subscription, 1.0)) or len(pending) == 3, "asked to look")
    assert set(pending.values()) == {""}
    runs.redis.publish(channels[1], "failed")
    assert subscriber.wait(subscription, 5.0) == {channels[1]: "failed"}


def test_listening_without_a_server_gives_up_in_time_and_is_made_good_later(
    own_server: PrivateServer, namespace: str
) -> None:
    runs = Runs(own_server, namespace)
    redis = sync_client(own_server.url, ClientSettings())
    subscriber = Subscriber(lambda: listening_connection(redis), "inbox:")
    own_server.kill()
    begin = time.monotonic()
    subscription = subscriber.subscribe((runs.keys.channel("r"),), 0.1)
    assert time.monotonic() - begin > 0.09
    own_server.start()
    assert subscriber.wait(subscription, 5.0) == {runs.keys.channel("r"): ""}
    assert runs.listeners("r") == 1
    subscriber.close()


def test_many_threads_miss_nothing_while_connections_break(client: Client, runs: Runs) -> None:
    """Runs end at random moments, the subscriber connection is broken again and again; every wait returns promptly."""
    results: list[object] = []

    def wait(run_id: str) -> None:
        results.append(client.get_handle(run_id).result(timeout=60))

    rounds, each = 6, 25
    begin = time.monotonic()
    for number in range(rounds):
        ids = [f"r{number}-{n}" for n in range(each)]
        for run_id in ids:
            runs.write(run_id)
        threads = [threading.Thread(target=wait, args=(run_id,)) for run_id in ids]
        for thread in threads:
            thread.start()
        for index, run_id in enumerate(ids):
            runs.end(run_id)
            if index % 8 == 0:
                runs.kill_connections("pubsub")
        for thread in threads:
            thread.join()
    assert results == [{"a": "done"}] * (rounds * each)
    assert time.monotonic() - begin < 50  # a lost notice would cost the 60 s of the wait


def test_all_waits_of_a_client_share_one_connection(client: Client, runs: Runs) -> None:
    for n in range(40):
        runs.write(f"r{n}")
    threads = [threading.Thread(target=lambda n=n: client.get_handle(f"r{n}").wait(10)) for n in range(40)]
    for thread in threads:
        thread.start()
    until(lambda: all(runs.listeners(f"r{n}") == 1 for n in range(40)), "all listen")
    subscribed = [entry for entry in runs.redis.client_list() if int(entry["sub"]) > 0 and int(entry["sub"]) >= 40]
    assert len(subscribed) == 1
    for n in range(40):
        runs.end(f"r{n}")
    for thread in threads:
        thread.join()
    assert sum(runs.listeners(f"r{n}") for n in range(40)) <= MOST_LEFT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_a_hub_and_connections_of_its_own(client: Client, runs: Runs) -> None:
    runs.write("before")
    runs.write("after")
    waiter = threading.Thread(target=lambda: client.get_handle("before").wait(10))
    waiter.start()
    runs.until_received("before")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = client.get_handle("after").result(timeout=60)["a"]
        except BaseException as error:
            answer = repr(error)
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    runs.until_received("after")
    assert runs.listeners("before") == 1
    runs.end("after")
    with os.fdopen(reader) as message:
        assert message.read() == "done"
    os.waitpid(child, 0)
    runs.end("before")
    waiter.join(20)
    assert not waiter.is_alive()


def test_closing_ends_the_connection_and_what_waits(server: PrivateServer, namespace: str, runs: Runs) -> None:
    client = Client(server.url, namespace=namespace)
    runs.write("r")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            client.get_handle("r").result(timeout=60)
        except Exception as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    runs.until_received("r")
    client.close()
    waiter.join(20)
    assert [type(error) for error in errors] == [ConfigurationError]
    assert str(errors[0]) == "this client is closed"
    until(lambda: runs.listeners("r") == 0, "the connection is gone")


def test_a_client_that_nobody_closed_leaves_no_connection(server: PrivateServer, namespace: str, runs: Runs) -> None:
    client = Client(server.url, namespace=namespace)
    for run_id in ("ended", "r"):
        runs.write(run_id)
    runs.end_when_received("ended")
    client.get_handle("ended").result(timeout=60)
    assert runs.listeners("ended") == 1, "it stays for the next subscription"
    with pytest.raises(WaitTimeoutError):
        client.get_handle("r").result(timeout=0.5)
    assert (runs.listeners("ended"), runs.listeners("r")) == (0, 0)
    runs.write("again")
    runs.end_when_received("again")
    client.get_handle("again").result(timeout=60)
    assert runs.listeners("again") == 1
    del client
    gc.collect()
    until(lambda: runs.listeners("again") == 0, "the connection is gone")


def test_a_client_that_never_waited_has_no_subscriber(server: PrivateServer, namespace: str, runs: Runs) -> None:
    runs.write("r", "completed", **{"o:a": "1"})
    with Client(server.url, namespace=namespace) as client:
        assert client.get_handle("r").result(timeout=60) == {"a": 1}
        assert client.driver.subscriber._connection is None


def test_waiting_needs_no_thread(client: Client, runs: Runs) -> None:
    runs.write("r")
    threads = set(threading.enumerate())
    timer = runs.end_later("r", 0.02)
    assert client.get_handle("r").result(timeout=60) == {"a": "done"}
    assert set(threading.enumerate()) - threads <= {timer}


def test_who_has_what_he_waits_for_leaves_the_reading_to_another(subscriber: Subscriber, runs: Runs) -> None:
    """Each of ten sleepers reads for all until its own word comes; the last one gives up and has missed nothing."""
    channels = [runs.keys.channel(f"r{n}") for n in range(10)]
    pending: dict[int, dict[str, str]] = {}
    subscriptions = [subscriber.subscribe((channel,), 5.0) for channel in channels]

    def wait(n: int) -> None:
        pending[n] = subscriber.wait(subscriptions[n], 0.3 if n == 9 else 5.0)

    sleepers = [threading.Thread(target=wait, args=(n,)) for n in range(10)]
    for n, sleeper in enumerate(sleepers):
        sleeper.start()
        until(lambda n=n: subscriber._reader is not None and len(subscriber._asleep) == n, "it sleeps")
    for n in (0, 5, 1, 2, 3, 4, 6, 7, 8):
        assert runs.redis.publish(channels[n], str(n)) == 1
        sleepers[n].join(20)
        assert pending[n] == {channels[n]: str(n)}
    sleepers[9].join(20)
    assert (pending[9], subscriber._reader, len(subscriber._asleep)) == ({}, None, 0)


def test_a_reader_whose_time_is_over_leaves_the_reading_to_another(subscriber: Subscriber, runs: Runs) -> None:
    channels = runs.keys.channel("r0"), runs.keys.channel("r1")
    subscriptions = [subscriber.subscribe((channel,), 5.0) for channel in channels]
    short = threading.Thread(target=subscriber.wait, args=(subscriptions[0], 0.1))
    short.start()
    until(lambda: subscriber._reader is not None, "the first reads")
    pending = []
    long = threading.Thread(target=lambda: pending.append(subscriber.wait(subscriptions[1], 5.0)))
    long.start()
    short.join(20)
    runs.redis.publish(channels[1], "completed")
    long.join(2)
    assert pending == [{channels[1]: "completed"}]


def test_a_connection_that_nobody_read_for_long_is_not_trusted(
    subscriber: Subscriber, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscriber.unsubscribe(subscriber.subscribe((runs.keys.channel("r"),), 5.0))
    first = subscriber._connection
    subscriber.unsubscribe(subscriber.subscribe((runs.keys.channel("r"),), 5.0))
    assert subscriber._connection is first
    monkeypatch.setattr("flowcraft_sdk._transport.subscriber_connection.QUIET", 0.0)
    subscriber.unsubscribe(subscriber.subscribe((runs.keys.channel("r"),), 5.0))
    assert subscriber._connection is not first
    assert runs.listeners("r") == 0


def test_a_line_that_does_not_answer_is_given_up(
    subscriber: Subscriber, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis hangs: the PING is not answered, and everybody is asked to look once it goes on."""
    monkeypatch.setattr("flowcraft_sdk._transport.subscriber_connection.QUIET", 0.05)
    monkeypatch.setattr("flowcraft_sdk._transport.subscriber_connection.ANSWER", 0.05)
    channel = runs.keys.channel("r")
    subscription = subscriber.subscribe((channel,), 5.0)
    first = subscriber._connection
    runs.redis.client_pause(300, all=False)
    runs.redis.execute_command("CLIENT", "PAUSE", "300", "ALL")
    assert subscriber.wait(subscription, 5.0) == {channel: ""}
    assert subscriber._connection is not first
    runs.redis.publish(channel, "completed")
    assert subscriber.wait(subscription, 5.0) == {channel: "completed"}


def test_ended_channels_do_not_pile_up(client: Client, runs: Runs) -> None:
    ids = [f"r{n}" for n in range(MOST_LEFT + 10)]
    for run_id in ids:
        runs.write(run_id)
    handles = [client.get_handle(run_id) for run_id in ids]
    for run_id in ids:
        runs.end_later(run_id, 0.1)
    assert len(list(client.as_completed(handles, timeout=5))) == len(ids)
    until(lambda: sum(runs.listeners(run_id) for run_id in ids) == 0, "all are unsubscribed")


def test_an_end_that_another_reader_has_put_into_the_inbox_is_received_at_once(
    subscriber: Subscriber, runs: Runs
) -> None:
    until(
        lambda: subscriber.subscribe((runs.keys.end_channel("first"),), 5) and subscriber.reserve(), "the inbox is open"
    )
    inbox, _, position = subscriber.reserve().partition("@")
    mine, others = runs.keys.end_channel("mine"), subscriber.subscribe((runs.keys.end_channel("other"),), 5)
    runs.redis.publish(f"inbox:{inbox}", f"{position} completed")
    runs.redis.publish(runs.keys.end_channel("other"), "failed")
    assert subscriber.wait(others, 5) == {runs.keys.end_channel("other"): "failed"}
    subscription = subscriber.subscribe((mine,), 5, notification_token=position)
    assert subscription.complete
    assert subscriber.wait(subscription, 0.0) == {mine: "completed"}
