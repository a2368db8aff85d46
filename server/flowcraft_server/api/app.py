"""The application: routes, access, errors, and the checks that each request passes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from flowcraft_sdk import AsyncClient
from flowcraft_server import __version__

from . import (
    blueprints,
    deployment,
    hooks,
    live_text,
    memories,
    metrics,
    node_webhooks,
    probes,
    reruns,
    run_views,
    runs,
    schedules,
    session,
)
from .access import Access, check_routes
from .guard import Guard
from .live import LiveEvents
from .live_text import NodeStreams
from .openapi import described
from .options import ApiOptions
from .problems import answer_problems
from .sessions import FailedLogins, Sessions
from .stopping import Stopping


def create_app(client: AsyncClient, options: ApiOptions | None = None) -> FastAPI:
    """Make the application. It closes the client when it ends.

    `app.state` has what its routes use: `client`, `options`, `access`, `live` and `stopping`. A caller that adds routes
    declares a role for each (`dependencies=[VIEW]`, see `access`), and calls `check_routes` afterwards.

    Args:
        client: of the deployment; it belongs to the event loop that the application runs on.
        options: what it is set to do.

    Raises:
        RuntimeError: a route declares no role.
    """
    options = options or ApiOptions()
    stopping = Stopping()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            stopping.request()
            await app.state.live.close()
            await client.aclose()

    app = FastAPI(
        title="Flowcraft Server",
        version=__version__,
        description="Start runs, follow them, answer what waits. Errors are problems (RFC 9457) with the codes of the SDK.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[Middleware(Guard, hosts=options.hosts, max_request=options.max_request)],
    )
    app.state.client = client
    app.state.options = options
    app.state.stopping = stopping
    app.state.access = Access(options.tokens, Sessions(options.namespace, options.session_seconds))
    app.state.failed_logins = FailedLogins()
    app.state.checking = asyncio.Semaphore(1)
    app.state.metrics = metrics.MetricsReader(client)
    app.state.live = LiveEvents(stopping)
    app.state.node_streams = NodeStreams(stopping)
    answer_problems(app)
    for part in (
        reruns,
        run_views,
        runs,
        live_text,
        blueprints,
        deployment,
        hooks,
        node_webhooks,
        schedules,
        memories,
        session,
        probes,
        metrics,
    ):
        app.router.routes.extend(part.router.routes)
    described(app)
    check_routes(app)
    return app
