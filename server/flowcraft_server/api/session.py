"""Routes of browser sessions."""

from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from .access import PUBLIC, VIEW, Access, Role, principal_of
from .answers import answer
from .bodies import RequestBody
from .openapi import routes
from .problems import Problem
from .runs import PREFIX
from .sessions import FailedLogins

router = routes(f"{PREFIX}/session", tag="session")


class Login(RequestBody):
    """A login.

    Attributes:
        token: A token of `api.auth.tokens`.
    """

    token: Annotated[str, Field(min_length=1, max_length=4096)]


class Sender(BaseModel):
    """The sender of a request.

    Attributes:
        name: Name of the token, or `anonymous`.
        role: What it may do.
        read_only: Whether the server changes nothing.
    """

    name: str
    role: Role
    read_only: bool


@router.post("", dependencies=[PUBLIC], status_code=204)
async def log_in(request: Request, body: Login) -> Response:
    """Begin a session of a browser: answers with a cookie that scripts cannot read."""
    access: Access = request.app.state.access
    failed: FailedLogins = request.app.state.failed_logins
    address = request.client.host if request.client is not None else ""
    failed.check(address)
    token = access.token_of(body.token)
    if token is None:
        failed.note(address)
        raise Problem(401, "unauthenticated", "the token is none of this deployment's")
    response = Response(status_code=204)
    access.sessions.begin(request, response, token.name, token.secret)
    return response


@router.get("", dependencies=[VIEW], response_model=Sender)
async def read_session(request: Request) -> Response:
    """The sender of this request, and what the sender may do."""
    sender = principal_of(request)
    return answer(request, Sender(name=sender.name, role=sender.role, read_only=request.app.state.options.read_only))


@router.delete("", dependencies=[PUBLIC], status_code=204)
async def log_out(request: Request) -> Response:
    """End the session."""
    access: Access = request.app.state.access
    response = Response(status_code=204)
    access.end_session(request, response)
    return response
