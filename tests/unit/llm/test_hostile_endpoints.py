"""Endpoints that never finish, send too much, or send the caller elsewhere."""

import asyncio
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.llm import (
    Endpoint,
    LanguageModels,
    LLMRedirectError,
    LLMReplyTooLarge,
    LLMTimeout,
    OpenAICompatible,
    RetryPolicy,
)
from tests.unit.llm.chat_server import Answer, chat_server, reply

Serve = Callable[[socket.socket, threading.Event], None]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextmanager
def endpoint(serve: Serve) -> Iterator[str]:
    """A server that hands each connection, once a request has come, to `serve` until the test is over."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            try:
                serve(connection, over)
            except OSError:
                return  # the caller has hung up

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def provider() -> Iterator[Callable[..., OpenAICompatible]]:
    made: list[OpenAICompatible] = []

    def make(url: str, *, timeout: float = 30.0, max_reply: int = 16 * 1024 * 1024, calls: int = 1) -> OpenAICompatible:
        retries = RetryPolicy(max_attempts=calls, initial=0.01, max_delay=0.02)
        made.append(OpenAICompatible("main", Endpoint(url, "key", "m", timeout, 8, retries, max_reply)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask_both(provider: OpenAICompatible, kind: str) -> str:
    return provider.complete("secret prompt") if kind == "sync" else asyncio.run(provider.acomplete("secret prompt"))


def byte_by_byte(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
    while not over.wait(0.02):
        connection.sendall(b" ")


def headers_byte_by_byte(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while not over.wait(0.02):
        connection.sendall(b"x")


def without_end(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize("serve", [byte_by_byte, headers_byte_by_byte])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_timeout_is_of_the_whole_call(serve: Serve, kind: str, provider: Callable[..., OpenAICompatible]) -> None:
    with endpoint(serve) as url, pytest.raises(LLMTimeout):
        ask_both(provider(url, timeout=0.3), kind)


@pytest.mark.parametrize("serve", [byte_by_byte, headers_byte_by_byte])
def test_the_deadline_of_a_node_ends_a_call_of_a_function(
    serve: Serve, provider: Callable[..., OpenAICompatible]
) -> None:
    with endpoint(serve) as url:
        models = LanguageModels({"main": provider(url, timeout=0.2, calls=1_000_000)})
        model: Any = models.for_handler(awaited=False, deadline=clock() + 0.5)
        with pytest.raises(LLMTimeout, match="node's timeout"):
            model.complete("secret prompt")


def test_no_thread_stays_behind(provider: Callable[..., OpenAICompatible]) -> None:
    before = set(threading.enumerate())  # other tests of this process have providers of their own
    with chat_server(reply("ok")) as server:
        one = provider(server.url)
        assert one.complete("a") == "ok"
        one.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "llm-calls" and thread not in before]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_reply_without_end_is_given_up_at_the_bound(kind: str, provider: Callable[..., OpenAICompatible]) -> None:
    with endpoint(without_end) as url, pytest.raises(LLMReplyTooLarge, match=r"1048576 bytes \(`maxReply`\)"):
        ask_both(provider(url, max_reply=1024 * 1024), kind)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_reply_counts_as_it_is_once_unpacked(
    kind: str, status: int, provider: Callable[..., OpenAICompatible]
) -> None:
    packed = gzip.compress(bytes(64 * 1024 * 1024))

    def bomb(connection: socket.socket, _over: threading.Event) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
        connection.sendall(head.encode() + packed)

    with endpoint(bomb) as url, pytest.raises(LLMReplyTooLarge):
        ask_both(provider(url, max_reply=1024 * 1024), kind)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_redirect_to_another_host_is_not_followed(
    kind: str, status: int, provider: Callable[..., OpenAICompatible]
) -> None:
    with chat_server(reply("stolen")) as other:
        there = Answer(status=status, headers={"location": f"{other.url}/chat/completions"})
        with chat_server(there) as server, pytest.raises(LLMRedirectError) as caught:
            ask_both(provider(server.url), kind)
    assert other.requests == []
    for address in (server.url, other.url):
        assert address.removesuffix("/v1") in str(caught.value)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_redirect_within_the_host_keeps_the_prompt(kind: str, provider: Callable[..., OpenAICompatible]) -> None:
    with chat_server(Answer(status=307, headers={"location": "/v1/chat/completions"}), reply("ok")) as server:
        assert ask_both(provider(server.url), kind) == "ok"
    assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_redirects_that_go_in_circles_end(kind: str, provider: Callable[..., OpenAICompatible]) -> None:
    with (
        chat_server(Answer(status=307, headers={"location": "/v1/chat/completions"})) as server,
        pytest.raises(LLMRedirectError, match="more than 5 times"),
    ):
        ask_both(provider(server.url), kind)
