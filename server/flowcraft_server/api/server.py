"""The process that serves the API: uvicorn on a socket, until a stop is asked for."""

import asyncio
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI
from loguru import logger

from flowcraft_sdk import AsyncClient, ClientSettings
from flowcraft_server.config.model import Settings
from flowcraft_server.service.listening import BACKLOG, listen, url_of
from flowcraft_server.service.stopping import StopRequests

from .app import create_app
from .options import options_of

DESCRIPTORS = 8192
"""Open files that the process may have: a connection is one, and the usual limit of 1,024 is less than its streams."""

LOOK_PAUSE = 0.2
"""Seconds between two looks for stop requests."""

KEEP_ALIVE = 75
"""Seconds for which an idle connection is kept: longer than the pools of usual proxies."""

CONNECTIONS = 64
"""To Redis, for commands. A request needs one for moments only."""

MAX_OUTAGE = 20.0
"""Seconds for which a request that waits for a run bears that Redis does not answer."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve_api(
    url: str,
    settings: Settings,
    secrets: frozenset[str],
    stop: StopRequests,
    descriptor: int | None = None,
    extend: Callable[[FastAPI], None] | None = None,
) -> bool:
    """Serve the API until a stop is asked for; returns whether all requests could be answered.

    Args:
        url: of Redis.
        secrets: texts that are masked wherever they stand.
        descriptor: of the socket of a supervisor; None to listen here.
        extend: adds to the application before it is served.

    Raises:
        CannotListen: the address cannot be listened on.
    """
    _allow_descriptors()
    listening = listen(settings.api.host, settings.api.port) if descriptor is None else socket.socket(fileno=descriptor)
    logger.info("the HTTP API of '{}' is at {}", settings.name, url_of(listening))
    try:
        return asyncio.run(_serve(url, settings, secrets, stop, listening, extend))
    finally:
        listening.close()


def _allow_descriptors() -> None:
    """Raise the limit on open files, as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a bound of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(
    url: str,
    settings: Settings,
    secrets: frozenset[str],
    stop: StopRequests,
    listening: socket.socket,
    extend: Callable[[FastAPI], None] | None,
) -> bool:
    pool = ClientSettings(
        max_connections=CONNECTIONS, max_outage=MAX_OUTAGE, max_value=settings.limits.max_value, retries=1
    )
    client = AsyncClient(url, namespace=settings.name, settings=pool)
    app = create_app(client, options_of(settings, secrets))
    if extend is not None:
        extend(app)
    server = _Server(
        uvicorn.Config(
            app,
            backlog=BACKLOG,
            http="h11",
            ws="none",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(settings.executor.drain_timeout)),
        )
    )
    serving = asyncio.create_task(server.serve([listening]))
    while not serving.done():
        if await asyncio.to_thread(stop.wait, LOOK_PAUSE):
            app.state.stopping.request()
            server.should_exit = True
            server.force_exit = stop.now
            await asyncio.wait({serving}, timeout=LOOK_PAUSE)
    await serving
    return not server.force_exit
