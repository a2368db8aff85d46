"""The engine's connections: of the thread that calls, if it has one; read past redis-py."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink, StoreUnavailable


@pytest.fixture
def link(folder: Path) -> Iterator[StoreLink]:
    with EmbeddedStore(folder, durable=False) as store:
        link = StoreLink(store.url)
        link.redis.hset("h", mapping={"a": "1", "b": "2"})
        link.redis.set("text", "no hash")
        yield link
        link.close()


def send_a_script(link: StoreLink) -> None:
    """After this the calling thread has a connection of its own."""
    link.call(scripts.renew(Keys("n"), worker="w", lease_ms=1000, held=()))


def clients(link: StoreLink) -> int:
    return int(link.redis.info("clients")["connected_clients"])


@pytest.mark.parametrize("own", [True, False])
def test_what_is_absent_is_none_and_no_fields_need_no_read(link: StoreLink, own: bool) -> None:
    if own:
        send_a_script(link)
    assert link.read_fields("h", ["b", "x", "a"]) == [b"2", None, b"1"]
    assert link.read_fields("absent", ["a"]) == [None]
    assert link.read_fields("h", []) == []


def test_threads_that_only_read_share_connections(link: StoreLink) -> None:
    link.read_fields("h", ["a"])
    before = clients(link)
    for _ in range(20):
        thread = threading.Thread(target=link.read_fields, args=("h", ["a"]))
        thread.start()
        thread.join()
    assert clients(link) == before


def read_and_count(link: StoreLink, before: int) -> None:
    """What a forked child does: exits with the number of new connections."""
    read = link.read_fields("h", ["a"]) == [b"1"]
    with redis.Redis.from_url(link.url) as other:
        opened = int(other.info("clients")["connected_clients"]) - before - 1
    os._exit(opened if read else 77)


def test_a_forked_child_does_not_read_over_its_parent_s_connection(link: StoreLink) -> None:
    send_a_script(link)
    before = clients(link)
    child = multiprocessing.get_context("fork").Process(target=read_and_count, args=(link, before))
    child.start()
    child.join(20)
    assert child.exitcode == 1
    assert link.read_fields("h", ["a"]) == [b"1"]


@pytest.mark.parametrize("own", [True, False])
def test_a_refused_read_leaves_the_connection_as_it_was(link: StoreLink, own: bool) -> None:
    if own:
        send_a_script(link)
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        link.read_fields("text", ["a"])
    assert link.read_fields("h", ["a"]) == [b"1"]
    send_a_script(link)


@pytest.mark.parametrize("own", [True, False])
def test_a_broken_connection_is_made_again(link: StoreLink, own: bool) -> None:
    if own:
        send_a_script(link)
    link.read_fields("h", ["a"])
    with redis.Redis.from_url(link.url) as other:
        other.client_kill_filter(_type="normal", skipme=True)
    assert link.read_fields("h", ["a"]) == [b"1"]


def test_a_sleeper_takes_the_first_message(link: StoreLink) -> None:
    link.redis.lpush("second", "b", "a")
    link.redis.lpush("first", "c")
    assert [link.sleep(["first", "second"], 1) for _ in range(3)] == [b"c", b"b", b"a"]


def test_a_sleeper_is_woken_by_a_message_and_by_a_call(link: StoreLink) -> None:
    found: list[Any] = []

    def sleep() -> None:
        try:
            found.append(link.sleep(["list"], 30))
        except StoreUnavailable:
            found.append("cut off")

    for wake, received in ((lambda: link.redis.lpush("list", "x"), b"x"), (link.wake_sleepers, "cut off")):
        thread = threading.Thread(target=sleep)
        thread.start()
        deadline = time.monotonic() + 5
        while link.redis.info("clients")["blocked_clients"] != 1:
            assert time.monotonic() < deadline
        wake()
        thread.join(5)
        assert found.pop() == received
    link.redis.lpush("list", "again")
    assert link.sleep(["list"], 1) == b"again"


def test_what_redis_refuses_to_a_sleeper_is_raised(link: StoreLink) -> None:
    link.redis.set("text", "x")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        link.sleep(["text"], 1)
    link.redis.lpush("list", "x")
    assert link.sleep(["list"], 1) == b"x"


def test_replies_larger_than_one_read_arrive_whole(link: StoreLink) -> None:
    send_a_script(link)
    values = {f"f{n}": b"x" * n for n in (0, 1, 65_535, 65_536, 1_000_000)}
    link.redis.hset("large", mapping=values)
    assert link.read_fields("large", [*values, "none"]) == [*values.values(), None]


def test_a_redis_that_loads_its_data_does_not_answer(link: StoreLink) -> None:
    send_a_script(link)
    loading = redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory")
    reader = SimpleNamespace(gets=lambda: loading, feed=lambda _data: None)
    link._own.connections[None]._reader = reader
    with pytest.raises(StoreUnavailable, match="loading"):
        link.call(scripts.claim(Keys("t"), scripts.ClaimRequest("w", 1000, "default")))
    assert link.call(scripts.claim(Keys("t"), scripts.ClaimRequest("w", 1000, "default"))) == []


@pytest.mark.parametrize("at", ["the server", "the cluster", "sentinel"])
def test_a_redis_that_refuses_connections_does_not_answer(at: str) -> None:
    address = {"the server": "redis://127.0.0.1:1/0", "the cluster": "redis+cluster://127.0.0.1:1"}
    link = StoreLink(address.get(at, "redis+sentinel://127.0.0.1:1/main/0"))
    with pytest.raises(StoreUnavailable):
        link.call_once(lambda: link.redis.get("key"))
    with pytest.raises(StoreUnavailable):
        link.read_all([("GET", "key")])
    connection = link.redis.connection_pool.make_connection()
    with pytest.raises(redis.exceptions.ConnectionError):
        connection.send_command("PING")  # redis-py connects on the way, and names the error to `disconnect`
    link.close()
