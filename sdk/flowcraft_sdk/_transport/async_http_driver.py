"""The async driver over HTTP: the only place where `AsyncHttpClient` does I/O."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
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


class AsyncHttpDriver:
    """Drives operations over HTTP, in one event loop; connects on first use.

    Args:
        where: the API.
        settings: timeouts and sizes.
    """

    def __init__(self, where: Endpoint, settings: HttpSettings) -> None:
        self._where = where
        self._settings = settings
        self._options = client_options(where, settings)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http = httpx().AsyncClient(**self._options)

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise ConfigurationError("this client belongs to another event loop; make one client for each loop")

    async def run(self, operation: HttpOperation[T]) -> T:
        """Run an operation to its end and return its value."""
        async with aclosing(self.stream(returning(operation), asked_of(operation))) as stream:
            result: T = await anext(stream)
        return result

    async def stream(self, operation: HttpOperation[Any], asked: str = "") -> AsyncGenerator[Any, None]:
        """Run an operation and yield its items. That the API is away is raised inside the operation first.

        Args:
            asked: what it is to do, for messages; by default its name.
        """
        self._check_loop()
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
                    answer = await self._do(step, events, asked)
                except BackendUnavailableError as away:
                    error = away
        finally:
            operation.close()
            await events.close()

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        await self._http.aclose()

    async def _do(self, step: HttpEffect, events: "_Events", asked: str) -> Any:
        if self._closed:
            raise ConfigurationError("this client is closed")
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, NextEvent):
            return await events.next()
        assert isinstance(step, Request | OpenStream)
        request = step if isinstance(step, Request) else step.request
        attempts = HttpAttempts(request, self._where, self._settings, asked)
        while True:
            try:
                reply = await self._send(
                    request, *((None, None) if isinstance(step, Request) else (events, step.lasts))
                )
                pause = attempts.answered(reply)
                if pause is None:
                    return reply
            except (httpx().TransportError, httpx().DecodingError) as error:
                pause = attempts.failed(error)
            await asyncio.sleep(pause)

    async def _send(self, request: Request, events: "_Events | None", lasts: float | None) -> Reply:
        timeout = timeout_of(self._settings, request, stream=events is not None)
        built = self._http.build_request(
            request.method, request.path, content=request.body, headers=sent_headers(request), timeout=timeout
        )
        response = await self._http.send(built, stream=True)
        kept = False
        try:
            status, location = response.status_code, response.headers.get("location")
            if events is not None and status == 200:
                await events.take(response, lasts)
                kept = True
                return Reply(status)
            pieces, size, began = [], 0, clock()
            async for piece in response.aiter_bytes():
                size += len(piece)
                if size > self._settings.max_reply:
                    raise too_large(self._settings)
                check_pace(timeout, clock() - began, size)
                pieces.append(piece)
            return Reply(status, b"".join(pieces), location)
        finally:
            if not kept:
                await response.aclose()


class _Events:
    """The stream that an operation has open."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._response: Any = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._reader = EventReader(settings.max_reply)
        self._waiting: deque[ServerEvent] = deque()
        self._ends = math.inf

    async def take(self, response: Any, lasts: float | None) -> None:
        """Read from another response."""
        await self.close()
        self._response, self._pieces = response, response.aiter_bytes()
        self._reader, self._waiting = EventReader(self._settings.max_reply), deque()
        self._ends = math.inf if lasts is None else clock() + lasts + self._settings.timeout

    async def next(self) -> ServerEvent | None:
        """The next event; None where the connection has ended."""
        while not self._waiting:
            if (
                clock() >= self._ends
            ):  # comments keep the connection from being silent, but the stream was to end by now
                return None
            try:
                piece = None if self._pieces is None else await anext(self._pieces, None)
            except (httpx().TransportError, httpx().DecodingError):
                piece = None
            if piece is None:
                return None
            try:
                self._waiting.extend(self._reader.feed(piece))
            except StreamTooLarge:
                raise too_large(self._settings) from None
        return self._waiting.popleft()

    async def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            await self._response.aclose()
            self._response = None
