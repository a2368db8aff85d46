"""Routes for what watches over the process."""

import asyncio

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from flowcraft_sdk import FlowcraftError

from .access import PUBLIC
from .openapi import routes
from .problems import Problem, encoded
from .runs import client_of

SECONDS = 4.0
"""Time in which Redis has to answer."""

router = routes(tag="probes")


class Health(BaseModel):
    """That all is well.

    Attributes:
        status: Always `ok`.
    """

    status: str = "ok"


@router.get("/livez", dependencies=[PUBLIC], response_model=Health)
async def livez() -> Response:
    """Answers as long as the process does: a restart would not help."""
    return _ok()


@router.get("/readyz", dependencies=[PUBLIC], response_model=Health)
async def readyz(request: Request) -> Response:
    """Answers with 200 if Redis answers and a worker was seen lately, else with 503 and what is amiss."""
    if request.app.state.stopping.requested:
        raise Problem(503, "stopping", "this process is about to stop")
    try:
        async with asyncio.timeout(SECONDS):
            info = await client_of(request).ping()
    except (FlowcraftError, TimeoutError):
        raise Problem(503, "backend_unavailable", "Redis does not answer") from None
    if not info.workers:
        raise Problem(503, "no_worker", "no worker was seen lately")
    return _ok()


def _ok() -> Response:
    return Response(encoded({"status": "ok"}), media_type="application/json")
