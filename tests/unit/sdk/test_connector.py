"""Addresses, settings, and how errors of redis-py become ours."""

from typing import Any

import pytest
import redis
import redis.asyncio

from flowcraft_sdk import AsyncClient, BackendUnavailableError, Client, ClientSettings, ConfigurationError
from flowcraft_sdk._operations.effects import Batch, command
from flowcraft_sdk._transport.connector import Attempts, hidden, resolve_namespace, resolve_url
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys

START = scripts.cancel(Keys(), run_id="r", reason="", grace_ms=0)
READ = command("HGET", "k", "f")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOWCRAFT_REDIS_URL", "REDIS_URL", "FLOWCRAFT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def test_the_argument_comes_before_the_environment_and_that_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_url(None) == "redis://localhost:6379/0"
    monkeypatch.setenv("REDIS_URL", "redis://b:1")
    assert resolve_url(None) == "redis://b:1"
    monkeypatch.setenv("FLOWCRAFT_REDIS_URL", "rediss://a:1")
    assert resolve_url(None) == "rediss://a:1"
    assert resolve_url("unix:///tmp/x.sock") == "unix:///tmp/x.sock"
    assert resolve_namespace(None) == "flowcraft"
    monkeypatch.setenv("FLOWCRAFT_NAMESPACE", "agents")
    assert resolve_namespace(None) == "agents"
    assert resolve_namespace("mine") == "mine"


@pytest.mark.parametrize("name", ["a}b", "{a}", "a b", "a:b", "*", "x" * 65, 7])
def test_a_namespace_that_no_server_can_have_is_refused(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="namespace: the name of a deployment is 1 to 64 of"):
        resolve_namespace(name)
    monkeypatch.setenv("FLOWCRAFT_NAMESPACE", str(name))
    if isinstance(name, str):
        with pytest.raises(ConfigurationError, match="namespace"):
            resolve_namespace(None)


def test_valkey_addresses_are_understood() -> None:
    assert resolve_url("valkey://h:1/2") == "redis://h:1/2"
    assert resolve_url("valkeys://h:1/2") == "rediss://h:1/2"


@pytest.mark.parametrize("url", ["localhost:6379", "http://h", "redis:h", "://", "redis"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="expected an address such as redis://host:6379/0"):
        Client(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://ann:s3cret@h/0", "redis://ann:***@h/0"),
        ("redis://ann:a@b:s3cret@h/0", "redis://ann:***@h/0"),
        ("unix:///tmp/x.sock?db=1&password=s3cret", "unix:///tmp/x.sock?db=1&password=***"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("http://u:s3cret@[broken", "an address that cannot be read"),
    ],
)
def test_a_password_never_shows(url: str, shown: str) -> None:
    assert hidden(url) == shown
    if url.startswith(("redis", "unix")):
        for client in (Client(url), AsyncClient(url)):
            assert "s3cret" not in repr(client) + repr(client.get_handle("r")) + str(client.driver)
    error = _raised(START, redis.exceptions.TimeoutError("Timeout reading from socket"), url=url)
    assert "s3cret" not in str(error)


def _raised(step: object, *errors: Exception, url: str = "redis://h", retries: int | None = None) -> Exception:
    attempts = Attempts(
        step, url, ClientSettings(retries=len(errors) - 1 if retries is None else retries), "read a thing"
    )  # type: ignore[arg-type]
    for error in errors[:-1]:
        assert 0 < attempts.failed(error) <= 0.5
    with pytest.raises((BackendUnavailableError, ConfigurationError)) as caught:
        attempts.failed(errors[-1])
    assert caught.value.__cause__ is errors[-1]
    return caught.value


REFUSED = redis.exceptions.ConnectionError("Error 111 connecting to localhost:1. Connection refused.")
LOST = redis.exceptions.ConnectionError("Connection closed by server.")
SILENT = redis.exceptions.TimeoutError("Timeout reading from socket")


@pytest.mark.parametrize(
    ("errors", "maybe"),
    [
        ([REFUSED], False),
        ([SILENT], True),
        ([LOST], True),
        ([LOST, REFUSED], True),
        ([REFUSED, REFUSED], False),
        ([redis.exceptions.BusyLoadingError("LOADING")], False),
        ([redis.exceptions.OutOfMemoryError("OOM")], False),
        ([redis.exceptions.ConnectionError("No connection available.")], False),
        ([OSError(32, "Broken pipe")], True),
    ],
)
def test_an_error_says_whether_the_call_may_have_taken_effect(errors: list[Exception], maybe: bool) -> None:
    error = _raised(START, *errors)
    assert isinstance(error, BackendUnavailableError)
    assert (error.maybe_applied, error.operation) == (maybe, "read a thing")
    read = _raised(READ, *errors)
    assert isinstance(read, BackendUnavailableError)
    assert read.maybe_applied is False


def test_a_refusal_is_not_tried_again() -> None:
    error = _raised(Batch((READ,)), redis.exceptions.ResponseError("WRONGTYPE"), retries=3)
    assert str(error) == "cannot read a thing: Redis at redis://h refuses: WRONGTYPE"
    for refusal in (redis.exceptions.AuthenticationError("WRONGPASS"), redis.exceptions.NoPermissionError("no")):
        assert isinstance(_raised(READ, refusal, retries=3), ConfigurationError)


def test_a_client_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"expected a redis.Redis, got redis.asyncio"):
        Client(redis=redis.asyncio.Redis())
    with pytest.raises(ConfigurationError, match=r"expected a redis.asyncio.Redis, got redis"):
        AsyncClient(redis=redis.Redis())
    with pytest.raises(ConfigurationError, match="url or redis, not both"):
        Client("redis://h", redis=redis.Redis())
    with pytest.raises(ConfigurationError, match=r"got builtins.str"):
        Client(redis="redis://h")


def test_a_given_client_says_where_it_goes_without_its_password() -> None:
    assert repr(Client(redis=redis.Redis("h", 7, 3, "s3cret"))) == "<Client of flowcraft at redis://h:7/3>"
    client = AsyncClient(redis=redis.asyncio.Redis(unix_socket_path="/tmp/x.sock"))
    assert repr(client) == "<AsyncClient of flowcraft at unix:///tmp/x.sock>"


def test_the_clock_does_not_stop_with_a_frozen_one() -> None:
    freezegun = pytest.importorskip("freezegun")
    with freezegun.freeze_time("2026-01-01"):
        import time

        frozen, real = time.monotonic(), clock()
        time.sleep(0.02)
        assert time.monotonic() == frozen
        assert clock() - real >= 0.02


def test_an_empty_address_is_none_and_not_the_default() -> None:
    with pytest.raises(ConfigurationError, match="url: expected an address such as redis://host"):
        resolve_url("")
