"""URLs of `webhook` nodes: a request with one answers the node, once."""

import json
from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from flowcraft_sdk._operations.webhooks import answer_webhook
from flowcraft_sdk.protocol.bounds import LONGEST_NAME
from flowcraft_sdk.protocol.webhook_keys import LONGEST_KEY

from .access import PUBLIC
from .openapi import routes
from .problems import Problem, documented, encoded
from .runs import client_of

router = routes("/webhooks", tag="hooks")


class Taken(BaseModel):
    """That an answer was taken.

    Attributes:
        status: Always `taken`.
    """

    status: str = "taken"


@router.post(
    "/{key}",
    dependencies=[PUBLIC],
    response_model=Taken,
    responses=documented(404, 409, 410),
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {}}}, "required": False}},
)
async def answer_node(
    request: Request,
    key: Annotated[str, Path(min_length=1, max_length=LONGEST_KEY, description="The key of the node's URL.")],
    action: Annotated[
        str | None, Query(min_length=1, max_length=LONGEST_NAME, description="The node's action, if it offers any.")
    ] = None,
) -> Response:
    """Answer a `webhook` node: the body is its output. The first answer counts, any other one is answered with 410."""
    if request.app.state.options.read_only:
        raise Problem(403, "read_only", "this server changes nothing: api.readOnly is on")
    body = await request.body()
    try:
        payload = json.loads(body) if body else None
    except (ValueError, RecursionError):
        raise Problem(422, "invalid_request", "the body is no JSON") from None
    client = client_of(request)
    answered = await client.driver.run(answer_webhook(client.deployment, key, payload, action))
    if answered == "unknown":
        raise Problem(404, "not_found", "there is no such webhook")
    if answered == "early":
        raise Problem(
            409, "not_waiting", "the node does not wait yet: send it again later", headers={"retry-after": "5"}
        )
    if answered == "gone":
        raise Problem(410, "gone", "this was answered before, or is not waited for any more")
    return Response(encoded({"status": "taken"}), media_type="application/json")
