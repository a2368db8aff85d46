"""Clients over HTTP against a server that misbehaves: what is sent again, what is refused, and that the token stays where it is."""

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowcraft_sdk import (
    FAILED,
    AccessDeniedError,
    AsyncHttpClient,
    BackendUnavailableError,
    BlueprintNotFoundError,
    ConfigurationError,
    HttpClient,
    HttpSettings,
    RunStatus,
    UnexpectedReplyError,
)
from flowcraft_sdk._operations import over_http
from tests.blocking_client import BlockingHttpClient

TOKEN = "s3cret-token-of-ci"
Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Answers each request with the next answer, the last one again and again; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[Any], None]] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.asked.append((self.command, self.path, headers, json.loads(body) if body else None))
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                if callable(answer):
                    answer(self)
                    self.close_connection = True
                    return
                status, more, content = answer
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = respond  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


@pytest.fixture(params=[HttpClient, BlockingHttpClient], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    settings = HttpSettings(timeout=5, retries=2, max_outage=0.3, max_reply=10_000)
    with request.param(server.address, token=TOKEN, settings=settings) as client:
        yield client


def found(value: Any, status: int = 200) -> Answer:
    return status, {"content-type": "application/json"}, json.dumps(value).encode()


def problem(status: int, code: str, **more: Any) -> Answer:
    return found({"status": status, "code": code, "detail": "it is so", **more}, status)


def hang_up(handler: Any) -> None:
    handler.connection.close()


def stream(*events: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        handler.wfile.write("".join(events).encode())

    return answer


def event(number: int, kind: str = "custom") -> str:
    data = {"id": str(number), "type": kind, "at": "2026-01-02T03:04:05Z", "data": {}}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


STARTED = found({"run_id": "r", "attached": False, "href": "/api/v1/runs/r"}, 201)


def test_what_may_be_sent_twice_is_sent_again(client: Any, server: Server) -> None:
    server.answers = [hang_up, problem(503, "backend_unavailable"), STARTED]
    run = client.start("b", {"n": 1})
    assert [each[0] for each in server.asked] == ["POST"] * 3
    assert {each[3]["run_id"] for each in server.asked} == {run.run_id}, "so the same run is started"
    assert {each[2]["authorization"] for each in server.asked} == {f"Bearer {TOKEN}"}


def test_the_trace_of_the_caller_goes_along(client: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [STARTED, STARTED]
    client.start("b")
    monkeypatch.setattr(over_http, "current_traceparent", lambda: f"00-{7:032x}-{9:016x}-01")
    client.start("b")
    assert [each[2].get("traceparent") for each in server.asked] == [None, f"00-{7:032x}-{9:016x}-01"]


def test_what_may_be_done_twice_is_not_sent_again(client: Any, server: Server) -> None:
    run = client.get_handle("r")
    calls: list[Callable[[], Any]] = [
        lambda: run.rerun(FAILED), lambda: client.schedules.trigger("s"), lambda: client.start("b", run_id="r", on_conflict="raise"),
        lambda: list(client.admin.cancel_runs(tag="t")), lambda: client.admin.delete_dead_letters("r"),
    ]  # fmt: skip
    for call in calls:
        server.asked.clear()
        server.answers = [hang_up]
        with pytest.raises(BackendUnavailableError) as caught:
            call()
        assert (len(server.asked), caught.value.maybe_applied) == (1, True)
        assert TOKEN not in f"{caught.value!r} {caught.value.__dict__}"


def test_redirections_are_not_followed(client: Any, server: Server) -> None:
    other = Server()
    other.answers = [found({})]
    server.answers = [(302, {"location": f"{other.address}/api/v1/info"}, b"")]
    with pytest.raises(UnexpectedReplyError, match=r"redirects to .*give the address") as caught:
        client.ping()
    assert (caught.value.status, other.asked) == (302, [])
    other.http.shutdown()
    other.http.server_close()


def test_what_is_no_api_is_named(client: Any, server: Server) -> None:
    for answer in (
        (200, {}, b"<html>"),
        (404, {}, b"<html>"),
        found([1, 2]),
        found({"namespace": 3}),
        problem(404, "not_found"),
    ):
        server.answers = [answer]
        with pytest.raises(UnexpectedReplyError):
            client.ping()
    server.answers = [(200, {}, b"[" + b"1," * 10_000 + b"1]")]
    with pytest.raises(UnexpectedReplyError, match="more than 10000 bytes"):
        client.workers()


def test_problems_are_the_errors_of_all_clients(client: Any, server: Server) -> None:
    server.answers = [problem(404, "blueprint_not_found", blueprint_id="x", known=["y"], published=["y"])]
    with pytest.raises(BlueprintNotFoundError, match="it is so") as caught:
        client.blueprint("x")
    assert (caught.value.blueprint_id, caught.value.version, caught.value.known) == ("x", None, ("y",))
    for status, code in ((401, "unauthenticated"), (403, "forbidden"), (403, "read_only")):
        server.answers = [problem(status, code)]
        with pytest.raises(AccessDeniedError, match="it is so") as denied:
            client.ping()
        assert (denied.value.status, denied.value.reason) == (status, code)
        assert isinstance(denied.value, PermissionError)
    server.answers = [problem(422, "invalid_request")]
    with pytest.raises(ConfigurationError):
        client.ping()


def test_a_wait_bears_that_the_api_is_away_for_a_while(client: Any, server: Server) -> None:
    running, ended = found({"run_id": "r", "status": "running"}), found({"run_id": "r", "status": "completed"})
    server.answers = [running, hang_up, hang_up, hang_up, problem(503, "stopping"), ended]
    assert client.get_handle("r").wait_for(RunStatus.WAITING, timeout=60) is RunStatus.COMPLETED
    server.answers = [running, hang_up]
    with pytest.raises(BackendUnavailableError):
        client.get_handle("r").wait_for(RunStatus.WAITING, timeout=60)


def test_a_broken_stream_is_resumed_without_loss(client: Any, server: Server) -> None:
    half = event(2)[:20]
    server.answers = [
        stream("retry: 2000\n\n", event(1), half), stream(event(2), "event: closing\ndata: {}\n\n"),
        hang_up, hang_up, hang_up, stream(": \n\n", event(3, "run_ended"), 'event: end\ndata: {"status": "completed"}\n\n'),
    ]  # fmt: skip
    assert [each.id for each in client.get_handle("r").events(timeout=60)] == ["1", "2", "3"]
    assert [each[2]["last-event-id"] for each in server.asked] == ["0", "1", "2", "2", "2", "2"]
    server.answers = [stream("data: " + "x" * 20_000)]
    with pytest.raises(UnexpectedReplyError, match="more than 10000 bytes"):
        list(client.get_handle("r").events())
    server.answers = [stream('event: problem\ndata: {"code": "run_expired", "detail": "gone"}\n\n')]
    with pytest.raises(LookupError, match="gone"):
        list(client.get_handle("r").events())


def test_the_token_is_never_shown(client: Any, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [problem(401, "unauthenticated")]
    with pytest.raises(AccessDeniedError) as caught:
        client.ping()
    inner = client.client if isinstance(client, BlockingHttpClient) else client
    shown = f"{inner!r} {inner.driver._where!r} {caught.value!r} {vars(caught.value)} {caplog.text} {inner.settings!r}"
    assert TOKEN not in shown


def test_the_address_and_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("FLOWCRAFT_SERVER", "FLOWCRAFT_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigurationError, match="FLOWCRAFT_SERVER"):
        HttpClient()
    monkeypatch.setenv("FLOWCRAFT_SERVER", "https://flows.example.org/base/api/v1/")
    with HttpClient() as client:
        assert repr(client) == "<HttpClient of https://flows.example.org/base>"
    for wrong in (
        "redis://localhost",
        "localhost:8088",
        "http://",
        "http://user:pass@host",
        "http://host?x=1",
        "http://h:99999",
        3,
    ):
        with pytest.raises(ConfigurationError) as caught:
            HttpClient(wrong)  # type: ignore[arg-type]
        assert "pass@" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="token"):
        AsyncHttpClient("http://h", token="a b\n")
    with pytest.raises(ConfigurationError, match="ca_file"):
        HttpClient("https://h", settings=HttpSettings(ca_file="/none.pem"))
    with pytest.raises(ConfigurationError, match="address of the API"):
        HttpClient.from_config()


def test_without_the_extra_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flowcraft-sdk\[http\]'"):
        HttpClient("http://localhost:8088")
