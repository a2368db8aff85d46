"""A local server that speaks the OpenAI chat-completions protocol and answers as a test sets it up."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `body` is sent as it is; `hang` seconds pass before; `cut` closes the connection instead."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0
    cut: bool = False


def reply(text: str | None, *, finish_reason: str = "stop", hang: float = 0.0) -> Answer:
    """A chat completion with this text."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "test",
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}},
        ],
    }
    return Answer(body=json.dumps(body), hang=hang)


def refusal(status: int, message: str, **headers: str) -> Answer:
    """An error answer in OpenAI's form; underscores in header names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=json.dumps({"error": {"message": message, "type": "t"}}), headers=named)


class ChatServer:
    """Gives the queued answers in turn, the last one for ever, and remembers what was asked."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = deque(answers)
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.idempotency_keys: list[str | None] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self.url = ""
        self._now = 0
        self._lock = threading.Lock()

    def take(self, request: dict[str, Any], authorization: str | None) -> Answer:
        with self._lock:
            self.requests.append(request)
            self.authorizations.append(authorization)
            self.times.append(time.monotonic())
            return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def chat_server(*answers: Answer) -> Iterator[ChatServer]:
    """Serve `answers` on a free port of the loopback interface."""
    state = ChatServer(list(answers))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler_for(state: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/chat/completions"
            state.idempotency_keys.append(self.headers["idempotency-key"])
            with state.counted():
                answer = state.take(request, self.headers["authorization"])
                time.sleep(answer.hang)
            if answer.cut:
                self.close_connection = True
                self.connection.close()
                return
            body = answer.body.encode()
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the client gave up waiting

        def log_message(self, *_: object) -> None:
            pass

    return Handler
