"""Clients over HTTP against what is no honest API: streams without an end, answers that trickle, numbers and values that are none."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk import BackendUnavailableError, HttpClient, HttpSettings, UnexpectedReplyError, WaitTimeoutError
from flowcraft_sdk._operations.server_events import EventReader
from tests.blocking_client import BlockingHttpClient
from tests.unit.sdk.test_http_client import Server, event, found, hang_up, server, stream

__all__ = ["server"]
RUNNING = found({"run_id": "r", "status": "running"})
PAGE = 1_000


@pytest.fixture(params=[HttpClient, BlockingHttpClient], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    settings = HttpSettings(timeout=3, retries=0, max_outage=0.1)
    with request.param(server.address, settings=settings) as client:
        yield client


def without_end(head: bytes, piece: bytes) -> Callable[[Any], None]:
    """An answer that comes on and on, until the client hangs up."""

    def answer(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        try:
            while True:
                handler.wfile.write(piece)
                handler.wfile.flush()
                handler.connection.settimeout(0.02)
                try:
                    if not handler.connection.recv(1):
                        return
                except TimeoutError:
                    handler.connection.settimeout(None)
        except OSError:
            return

    return answer


@pytest.mark.parametrize("follow", ["events", "stream"])
def test_comments_do_not_keep_a_stream_open_beyond_the_time_of_the_caller(
    client: Any, server: Server, follow: str
) -> None:
    server.answers = [without_end(b"content-type: text/event-stream", b": still here\n\n"), RUNNING, found({})]
    run = client.get_handle("r")
    with pytest.raises(WaitTimeoutError):
        list(run.events(timeout=0.01) if follow == "events" else run.stream("n", timeout=0.01))


def test_an_answer_that_trickles_counts_as_none(client: Any, server: Server) -> None:
    server.answers = [without_end(b"content-length: 1000000", b" ")]
    with pytest.raises(BackendUnavailableError):
        client.ping()


def test_a_stream_that_is_wrongly_packed_is_opened_again(client: Any, server: Server) -> None:
    def wrongly_packed(handler: Any) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n"
        )
        handler.wfile.write(head + b"no gzip at all")

    server.answers = [wrongly_packed, stream(event(1), 'event: end\ndata: {"status": "completed"}\n\n')]
    assert [each.id for each in client.get_handle("r").events(timeout=60)] == ["1"]


@pytest.mark.parametrize("number", ["9" * 5000, "\u0661", "-1", "1.5"])
def test_a_number_of_an_event_is_one(client: Any, server: Server, number: str) -> None:
    one = event(1).replace('"id": "1"', f'"id": "{number}"')
    server.answers = [stream(one), hang_up]
    with pytest.raises(UnexpectedReplyError, match="without a number"):
        list(client.get_handle("r").events(timeout=60))


@pytest.mark.parametrize("what", ["events", "logs"])
def test_a_page_that_comes_again_and_again_is_refused(client: Any, server: Server, what: str) -> None:
    base = {"at": "2026-01-02T03:04:05Z"}
    of_kind = {"type": "custom", "data": {}} if what == "events" else {"node_id": "n", "attempt": 1, "level": "info", "message": "m"}  # fmt: skip
    items = [{"id": str(number + 1), **base, **of_kind} for number in range(PAGE)]
    server.answers = [found({"items": items, "next_after": str(PAGE)})]
    run = client.get_handle("r")
    with pytest.raises(UnexpectedReplyError, match="number 1 behind 1000"):
        list(run.events(follow=False) if what == "events" else run.logs())


def test_a_value_that_is_too_deep_is_refused(client: Any, server: Server) -> None:
    deep = json.loads('{"a":' * 900 + "1" + "}" * 900)
    server.answers = [found([{"id": deep}])]
    with pytest.raises(UnexpectedReplyError, match="something else than was expected"):
        client.workers()


SSE = b": hello\r\n\r\nretry: 5\r\n\r\nid: 1\r\nevent: a\r\ndata: x\r\ndata: y\r\n\r\nid: 2\ndata: \xc3\xa9\n\n: bye\n\ndata: half"


@pytest.mark.parametrize("size", range(1, 12))
def test_events_are_the_same_however_the_stream_is_cut(size: int) -> None:
    reader, events = EventReader(1000), []
    for at in range(0, len(SSE), size):
        events += reader.feed(SSE[at : at + size])
    assert [(each.kind, each.data, each.id) for each in events] == [("a", "x\ny", "1"), ("message", "\u00e9", "2")]


def test_comments_count_for_no_event_and_take_no_memory() -> None:
    reader = EventReader(1000)
    for _ in range(1000):
        assert reader.feed(b": the API is alive\n") == []
    assert [each.data for each in reader.feed(b"data: 1\n\n")] == ["1"]


def test_a_large_event_is_put_together_once() -> None:
    """A reader that puts together what it has for each piece takes minutes for this."""
    reader, piece = EventReader(64 * 2**20), b"x" * 2048
    reader.feed(b"data: ")
    for _ in range(16_000):
        assert reader.feed(piece) == []
    (found_event,) = reader.feed(b"\n\n")
    assert len(found_event.data) == 16_000 * 2048
