"""Reads of the engine: over the connection of the thread that reads, if it has one."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink


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
