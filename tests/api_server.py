"""The HTTP API of a test environment on a port of loopback, for clients that send real requests."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from flowcraft_sdk import AsyncClient
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.service.listening import listen, url_of


@contextmanager
def serving(env: Any, **options: Any) -> Iterator[str]:
    """Serve the API of an environment in a thread; the address of it.

    Args:
        options: of the API.
    """
    with listen("127.0.0.1", 0) as listening:
        begun: list[Any] = []
        ready = threading.Event()

        async def serve() -> None:
            app = create_app(
                AsyncClient(env.url, namespace=env.namespace), ApiOptions(**{"namespace": env.namespace, **options})
            )
            server = uvicorn.Server(
                uvicorn.Config(app, log_config=None, http="h11", ws="none", loop="asyncio", timeout_graceful_shutdown=1)
            )
            begun.extend([asyncio.get_running_loop(), app, server])
            ready.set()
            await server.serve([listening])

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert ready.wait(30)
        loop, app, server = begun
        try:
            yield url_of(listening)
        finally:
            loop.call_soon_threadsafe(app.state.stopping.request)
            server.should_exit = True
            thread.join(30)
