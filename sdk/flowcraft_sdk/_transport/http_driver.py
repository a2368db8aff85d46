"""The sync driver over HTTP: the only place where `HttpClient` does I/O."""

import math
import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, TypeVar

from flowcraft_sdk._operations.effects import Yield
from flowcraft_sdk._operations.http_effects import (
    HttpEffect,
    HttpOperation,
    NextEvent,
    OpenStream,
    Pause,
    Reply,
    Request,
    returning,
)
from flowcraft_sdk._operations.phrases import asked_of
from flowcraft_sdk._operations.server_events import EventReader, ServerEvent, StreamTooLarge
from flowcraft_sdk._transport.http_connector import (
    Endpoint,
    HttpAttempts,
    HttpSettings,
    check_pace,
    client_options,
    httpx,
    sent_headers,
    timeout_of,
    too_large,
)
from flowcraft_sdk.errors import BackendUnavailableError, ConfigurationError
from flowcraft_sdk.protocol.clock import clock

T = TypeVar("T")


class HttpDriver:
    """Drives operations over HTTP. Thread-safe; connects on first use.

    Args:
        where: the API.
        settings: timeouts and sizes.
    """

    def __init__(self, where: Endpoint, settings: HttpSettings) -> None:
        self._where = where
        self._settings = settings
        self._options = client_options(where, settings)
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._http = httpx().Client(**self._options)

    def run(self, operation: HttpOperation[T]) -> T:
        """Run an operation to its end and return its value."""
        with closing(self.stream(returning(operation), asked_of(operation))) as stream:
            result: T = next(stream)
        return result

    def stream(self, operation: HttpOperation[Any], asked: str = "") -> Generator[Any, None, None]:
        """Run an operation and yield its items. That the API is away is raised inside the operation first.

        Args:
            asked: what it is to do, for messages; by default its name.
        """
        events = _Events(self._settings)
        asked = asked or asked_of(operation)
        answer: Any = None
        error: BackendUnavailableError | None = None
        try:
            while True:
                try:
                    step = operation.send(answer) if error is None else operation.throw(error)
                except StopIteration:
                    return
                answer = error = None
                if isinstance(step, Yield):
                    yield step.item
                    continue
                try:
                    answer = self._do(step, events, asked)
                except BackendUnavailableError as away:
                    error = away
        finally:
            operation.close()
            events.close()

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._http.close()

    def _do(self, step: HttpEffect, events: "_Events", asked: str) -> Any:
        if self._closed:
            raise ConfigurationError("this client is closed")
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, NextEvent):
            return events.next()
        assert isinstance(step, Request | OpenStream)
        if self._pid != os.getpid():  # a fork shares no connections with its parent
            self._open()
        request = step if isinstance(step, Request) else step.request
        attempts = HttpAttempts(request, self._where, self._settings, asked)
        while True:
            try:
                reply = self._send(request, *((None, None) if isinstance(step, Request) else (events, step.lasts)))
                pause = attempts.answered(reply)
                if pause is None:
                    return reply
            except (httpx().TransportError, httpx().DecodingError) as error:
                pause = attempts.failed(error)
            time.sleep(pause)

    def _send(self, request: Request, events: "_Events | None", lasts: float | None) -> Reply:
        timeout = timeout_of(self._settings, request, stream=events is not None)
        built = self._http.build_request(
            request.method, request.path, content=request.body, headers=sent_headers(request), timeout=timeout
        )
        response = self._http.send(built, stream=True)
        kept = False
        try:
            status, location = response.status_code, response.headers.get("location")
            if events is not None and status == 200:
                events.take(response, lasts)
                kept = True
                return Reply(status)
            pieces, size, began = [], 0, clock()
            for piece in response.iter_bytes():
                size += len(piece)
                if size > self._settings.max_reply:
                    raise too_large(self._settings)
                check_pace(timeout, clock() - began, size)
                pieces.append(piece)
            return Reply(status, b"".join(pieces), location)
        finally:
            if not kept:
                response.close()


class _Events:
    """The stream that an operation has open."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._response: Any = None
        self._pieces: Iterator[bytes] = iter(())
        self._reader = EventReader(settings.max_reply)
        self._waiting: deque[ServerEvent] = deque()
        self._ends = math.inf

    def take(self, response: Any, lasts: float | None) -> None:
        """Read from another response."""
        self.close()
        self._response, self._pieces = response, response.iter_bytes()
        self._reader, self._waiting = EventReader(self._settings.max_reply), deque()
        self._ends = math.inf if lasts is None else clock() + lasts + self._settings.timeout

    def next(self) -> ServerEvent | None:
        """The next event; None where the connection has ended."""
        while not self._waiting:
            if (
                clock() >= self._ends
            ):  # comments keep the connection from being silent, but the stream was to end by now
                return None
            try:
                piece = next(self._pieces, None)
            except (httpx().TransportError, httpx().DecodingError):
                piece = None
            if piece is None:
                return None
            try:
                self._waiting.extend(self._reader.feed(piece))
            except StreamTooLarge:
                raise too_large(self._settings) from None
        return self._waiting.popleft()

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None
