"""A local server that streams chat completions as a test sets them up, and sees when its clients leave."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Step = bytes | str
"""Bytes to send; or `wait`, until the client has left; `hold`, until the test calls `go_on`; `reset`, which breaks the connection."""


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """A piece of a reply, as a server-sent event."""
    delta = {} if text is None else {"content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return event(json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": choices, **more}))


def event(data: str) -> bytes:
    """A server-sent event."""
    return f"data: {data}\n\n".encode()


USAGE = event(
    json.dumps(
        {
            "choices": [],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
        }
    )
)
DONE = event("[DONE]")


class StreamServer:
    """Plays a script for each request in turn, the last one for ever."""

    def __init__(self, scripts: list[list[Step]]) -> None:
        self.scripts = scripts
        self.requests: list[dict[str, Any]] = []
        self.left = threading.Semaphore(0)
        self.held = threading.Event()
        self.url = ""
        self._lock = threading.Lock()

    def take(self, request: dict[str, Any]) -> list[Step]:
        with self._lock:
            self.requests.append(request)
            return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]

    def go_on(self) -> None:
        """Let what holds go on."""
        self.held.set()


@contextmanager
def stream_server(*scripts: list[Step]) -> Iterator[StreamServer]:
    """Serve scripts on a free port of the loopback interface."""
    state = StreamServer(list(scripts))
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler_for(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.go_on()
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler_for(state: StreamServer) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                length = 0
                while (line := self.rfile.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                if not length:
                    return
                self.play(state.take(json.loads(self.rfile.read(length))))
            except OSError:
                state.left.release()

        def play(self, script: list[Step]) -> None:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            if isinstance(script[0], bytes) and script[0].startswith(b"HTTP/"):
                head, script = script[0], script[1:]
            # A connection is of one request: said, so that the client does not try it for the next one.
            self.wfile.write(head[:-2] + b"connection: close\r\n\r\n")
            for step in script:
                if isinstance(step, bytes):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(step), step))
                elif step == "hold":
                    state.held.wait(30)
                elif step == "wait":
                    self.connection.settimeout(30)
                    if self.connection.recv(1) == b"":
                        state.left.release()
                    return
                elif step == "reset":
                    return
            self.wfile.write(b"0\r\n\r\n")

    return Handler
