"""Webhooks: signed requests of other programs, each of which starts a run."""

import json
import time
from typing import Annotated

from fastapi import Path, Request
from starlette.responses import Response

from flowcraft_sdk import RunConflictError

from .access import PUBLIC
from .bodies import RunStarted
from .openapi import routes
from .problems import Problem, documented, encoded
from .runs import client_of, href_of
from .webhook import Hook

router = routes("/hooks", tag="hooks")


@router.post(
    "/{name}",
    dependencies=[PUBLIC],
    status_code=201,
    response_model=RunStarted,
    responses={200: {"model": RunStarted, "description": "The run was there already"}, **documented(404, 409)},
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {}}}, "required": True}},
)
async def start_by_hook(
    request: Request, name: Annotated[str, Path(max_length=64, description="Name of the webhook.")]
) -> Response:
    """Start a run by a signed request. A request that is sent again starts nothing more."""
    hook: Hook | None = request.app.state.options.hooks.get(name)
    if hook is None:
        raise Problem(404, "not_found", "there is no such webhook")
    body = await request.body()
    identifier = hook.check(request.headers, body, time.time())
    if request.app.state.options.read_only:
        raise Problem(403, "read_only", "this server changes nothing: api.readOnly is on")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(422, "invalid_request", "the body is no JSON") from None
    scope = {"body": payload, "headers": dict(request.headers), "query": dict(request.query_params)}
    ctx, run_id = hook.input.evaluate(scope), hook.run_id(scope, identifier)
    if not isinstance(ctx, dict):
        raise Problem(422, "invalid_request", f"`{hook.input.source}` gives no object to start a run with")
    try:
        handle = await client_of(request).start(hook.blueprint, ctx, run_id=run_id)
    except RunConflictError as error:  # a request that is sent again may differ, in its time for one
        if error.existing is None or error.reason != "different_input":
            raise
        handle = error.existing
        return _started(handle.run_id, attached=True)
    return _started(handle.run_id, attached=handle.attached)


def _started(run_id: str, *, attached: bool) -> Response:
    started = RunStarted(run_id=run_id, attached=attached, href=href_of(run_id))
    return Response(encoded(started.model_dump()), 200 if attached else 201, media_type="application/json")
