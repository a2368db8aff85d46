"""What Redis must be like: it answers, lets us in, and throws nothing away."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.service import redis_checks
from flowcraft_server.service.redis_checks import (
    RedisUnusable,
    check_protocol,
    find_problems,
    shown_url,
    wait_for_redis,
    warnings_about,
)
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.publish import WrongPartitions, publish_settings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "data", durable=False) as store:
        yield store


def test_a_redis_as_it_should_be(store: EmbeddedStore) -> None:
    assert find_problems(wait_for_redis(store.url, 1), store.url) == []


def test_a_redis_that_evicts(store: EmbeddedStore) -> None:
    client = wait_for_redis(store.url, 1)
    client.config_set("maxmemory-policy", "allkeys-lru")
    (diagnostic,) = find_problems(client, store.url)
    assert "maxmemory-policy allkeys-lru" in diagnostic
    assert "set it to noeviction" in diagnostic


def test_the_policy_is_found_out_without_config_get(store: EmbeddedStore) -> None:
    client = wait_for_redis(store.url, 1)
    client.config_set("maxmemory-policy", "volatile-lru")
    client.execute_command("ACL", "SETUSER", "managed", "on", ">word", "~*", "+@all", "-config")
    url = store.url.replace("unix://", "unix://managed:word@")
    assert "volatile-lru" in find_problems(wait_for_redis(url, 1), url)[0]


@pytest.mark.parametrize(
    ("appendonly", "save", "warned"), [("no", "", True), ("no", "3600 1", False), ("yes", "", False)]
)
def test_a_redis_that_keeps_nothing(store: EmbeddedStore, appendonly: str, save: str, warned: bool) -> None:
    client = wait_for_redis(store.url, 1)
    client.config_set("appendonly", appendonly)
    client.config_set("save", save)
    found = warnings_about(client, store.url, 1)
    assert bool(found) is warned
    assert not found or 'keeps nothing on disk (appendonly no, save "")' in found[0]
    client.execute_command("ACL", "SETUSER", "managed", "on", ">word", "~*", "+@all", "-config")
    url = store.url.replace("unix://", "unix://managed:word@")
    assert warnings_about(wait_for_redis(url, 1), url, 1) == []
    client.config_set("appendonly", "no")  # it does not end while it writes its first file


def test_a_redis_that_reports_nothing_is_not_refused(store: EmbeddedStore) -> None:
    client = wait_for_redis(store.url, 1)
    client.execute_command("ACL", "SETUSER", "mute", "on", ">word", "~*", "+@all", "-info")
    url = store.url.replace("unix://", "unix://mute:word@")
    assert find_problems(wait_for_redis(url, 1), url) == []


def test_a_replica(store: EmbeddedStore) -> None:
    client = wait_for_redis(store.url, 1)
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert "is a read-only replica" in find_problems(client, store.url)[0]


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(RedisUnusable) as raised:
        wait_for_redis(f"unix://{tmp_path}/none.sock", 0.3)
    assert "does not answer within 0.3 s (" in str(raised.value)
    assert "is redis.url right, and Redis running?" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wait_can_be_given_up(tmp_path: Path) -> None:
    with pytest.raises(RedisUnusable, match="stopped while waiting"):
        wait_for_redis(f"unix://{tmp_path}/none.sock", 60, lambda _seconds: True)


def test_one_that_comes_late_is_met(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "data", durable=False)

    def start_it(_seconds: float) -> bool:
        store.start()
        return False

    assert wait_for_redis(f"unix://{tmp_path}/data/store.sock", 20, start_it).ping()
    store.stop()


def test_a_wrong_password_is_not_waited_for_and_not_shown(store: EmbeddedStore) -> None:
    wait_for_redis(store.url, 1).execute_command("ACL", "SETUSER", "known", "on", ">right", "~*", "+@all")
    began = time.monotonic()
    with pytest.raises(RedisUnusable) as raised:
        wait_for_redis(store.url.replace("unix://", "unix://known:wrong@"), 60)
    assert time.monotonic() - began < 50
    assert "is the password right?" in str(raised.value)
    assert "wrong@" not in str(raised.value)


def test_a_database_that_is_not_there(store: EmbeddedStore) -> None:
    with pytest.raises(RedisUnusable, match="refuses us"):
        wait_for_redis(store.url + "?db=99", 60)


def test_no_address() -> None:
    with pytest.raises(RedisUnusable, match="is no address of a Redis"):
        wait_for_redis("http://example.org", 1)


def test_addresses_are_shown_without_passwords() -> None:
    assert shown_url("rediss://user:secret@host:6379/1") == "rediss://user:********@host:6379/1"
    assert shown_url("redis://:secret@host") == "redis://:********@host"
    assert shown_url("unix:///tmp/x.sock") == "unix:///tmp/x.sock"


def test_runs_that_another_protocol_recorded_are_left_alone(store: EmbeddedStore) -> None:
    client, keys = wait_for_redis(store.url, 1), Keys("orders")
    check_protocol(client, store.url, Partitions("orders"))
    client.set(keys.protocol, PROTOCOL_VERSION)
    check_protocol(client, store.url, Partitions("orders"))
    client.set(keys.protocol, "1")
    with pytest.raises(
        RedisUnusable, match=r"the runs of 'orders' are of protocol 1, .* or give this deployment another `name`"
    ):
        check_protocol(client, store.url, Partitions("orders"))
    check_protocol(client, store.url, Partitions("others"))


class Unsteady:
    """A client that loses some replies."""

    def __init__(self, lost: int) -> None:
        self.lost = lost

    def get(self, _key: str) -> bytes:
        self.lost -= 1
        if self.lost >= 0:
            raise redis.exceptions.ConnectionError("Connection closed by server.")
        return PROTOCOL_VERSION.encode()

    def hget(self, _key: str, _field: str) -> None:
        return None


def test_a_lost_reply_about_the_protocol_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_checks, "READ_PAUSE", 0.0)
    check_protocol(Unsteady(3), "redis://h", Partitions("orders"))  # type: ignore[arg-type]
    with pytest.raises(RedisUnusable, match="redis://h does not answer: Connection closed"):
        check_protocol(Unsteady(99), "redis://h", Partitions("orders"))  # type: ignore[arg-type]


def test_another_number_of_partitions_than_the_one_on_record_is_refused(store: EmbeddedStore) -> None:
    client, of_four = wait_for_redis(store.url, 1), Partitions("split", 4)
    check_protocol(client, store.url, of_four)  # nothing is published yet
    publish_settings(client, of_four, history=True, max_events=10, cancel_grace_ms=1)
    check_protocol(client, store.url, of_four)
    with pytest.raises(RedisUnusable) as caught:
        check_protocol(client, store.url, Partitions("split"))
    assert str(caught.value) == (
        f"{store.url}: the runs of 'split' lie in 4 partitions, redis.partitions is 1, and the number is fixed for the life of a"
        " deployment: set redis.partitions: 4; or start the new runs under another `name`, until a server with 4 has finished"
        " the old ones"
    )
    with pytest.raises(WrongPartitions):
        publish_settings(client, Partitions("split", 8), history=True, max_events=10, cancel_grace_ms=1)


def test_what_an_older_release_has_published_lies_in_one_partition(store: EmbeddedStore) -> None:
    client, keys = wait_for_redis(store.url, 1), Keys("older")
    client.set(keys.protocol, PROTOCOL_VERSION)
    check_protocol(client, store.url, Partitions("older"))
    with pytest.raises(RedisUnusable, match=r"lie in 1 partition, redis\.partitions is 16"):
        check_protocol(client, store.url, Partitions("older", 16))
