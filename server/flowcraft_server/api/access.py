"""The sender of a request, and what the sender may do: tokens, roles, and the role that each route requires."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Mount

from .problems import Problem
from .sessions import Sessions

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ANONYMOUS = "anonymous"


class Role(StrEnum):
    """What a caller may do; each role includes those before it."""

    VIEW = "view"
    OPERATE = "operate"
    ADMIN = "admin"

    @property
    def includes(self) -> frozenset["Role"]:
        """The roles whose routes it may call."""
        order = list(Role)
        return frozenset(order[: order.index(self) + 1])


@dataclass(frozen=True)
class Token:
    """A token of the configuration."""

    name: str
    role: Role
    secret: str

    @property
    def digest(self) -> bytes:
        """A hash of the token: hashes are compared, so that neither content nor length of a token shows in the time taken."""
        return hashlib.sha256(self.secret.encode()).digest()


@dataclass(frozen=True)
class Principal:
    """The sender of a request.

    Attributes:
        name: of the token.
        role: what the sender may do.
        by_cookie: whether a browser's session says so, and not a token in the request itself.
    """

    name: str
    role: Role
    by_cookie: bool = False


class Access:
    """Finds the sender of a request.

    Args:
        tokens: without any, each sender may do everything.
        sessions: of browsers.
    """

    def __init__(self, tokens: Sequence[Token], sessions: Sessions) -> None:
        self._tokens = {token.name: token for token in tokens}
        self._digests = [(token, token.digest) for token in tokens]
        self._secrets = {token.name: token.secret for token in tokens}
        self.sessions = sessions

    @property
    def open(self) -> bool:
        """Whether no token is needed."""
        return not self._tokens

    def token_of(self, secret: str) -> Token | None:
        """The token with this secret; all are compared, whichever it is."""
        given, found = hashlib.sha256(secret.encode()).digest(), None
        for token, digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = token
        return found

    def principal_of(self, request: Request) -> Principal:
        """The sender of a request: by its `Authorization`, else by its cookie.

        Raises:
            Problem: 401, it names no sender.
        """
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, secret = header.partition(" ")
            token = self.token_of(secret.strip()) if scheme.lower() == "bearer" else None
            if token is not None:
                return Principal(token.name, token.role)
            if not self.open:
                raise Problem(401, "unauthenticated", "the token is none of this deployment's")
        if self.open:
            return Principal(ANONYMOUS, Role.ADMIN)
        name = self.sessions.name_in(request, self._secrets)
        if name is None:
            raise Problem(401, "unauthenticated", "send a token: `Authorization: Bearer TOKEN`")
        return Principal(name, self._tokens[name].role, by_cookie=True)

    def end_session(self, request: Request, response: Response) -> None:
        """Log the browser out that sends a request."""
        self.sessions.end(request, response, self._secrets)


class RequiredRole:
    """A dependency that lets a request through whose sender has a role.

    Args:
        role: the role; None for a route that everybody may call.
        writes: whether the route changes something; by default whether its method is none that only reads.
    """

    def __init__(self, role: Role | None, *, writes: bool | None = None) -> None:
        self.role = role
        self.writes = writes

    async def __call__(self, request: Request) -> Principal | None:
        """Check the request. Its sender is in `request.state.principal` afterwards.

        Raises:
            Problem: 401 or 403.
        """
        if self.role is None:
            return None
        app = request.app
        principal: Principal = app.state.access.principal_of(request)
        if self.role not in principal.role.includes:
            raise Problem(403, "forbidden", f"this needs the role {self.role}; '{principal.name}' has {principal.role}")
        writes = request.method not in SAFE_METHODS if self.writes is None else self.writes
        if writes and app.state.options.read_only:
            raise Problem(403, "read_only", "this server changes nothing: api.readOnly is on")
        request.state.principal = principal
        return principal


VIEW = Depends(RequiredRole(Role.VIEW))
OPERATE = Depends(RequiredRole(Role.OPERATE))
ADMIN = Depends(RequiredRole(Role.ADMIN))
PUBLIC = Depends(RequiredRole(None))
VIEW_BY_POST = Depends(RequiredRole(Role.VIEW, writes=False))
"""Of a route that takes its question in a body and changes nothing."""


def principal_of(request: Request) -> Principal:
    """The sender of a request that a `RequiredRole` has let through."""
    principal: Principal = request.state.principal
    return principal


def role_of(route: APIRoute) -> RequiredRole | None:
    """The role that a route declares; None if it declares none."""
    for dependency in route.dependencies:
        if isinstance(dependency.dependency, RequiredRole):
            return dependency.dependency
    return None


def check_routes(app: FastAPI) -> None:
    """Refuse an application that has a route without a declared role.

    Raises:
        RuntimeError: it has one.
    """
    for route in all_routes(app.routes):
        if not isinstance(route, APIRoute) or role_of(route) is None:
            raise RuntimeError(
                f"the route {getattr(route, 'path', route)} declares no role: see flowcraft_server.api.access"
            )


def all_routes(routes: Sequence[Any]) -> list[Any]:
    """Routes, and those of routers and of applications below them."""
    found: list[Any] = []
    for route in routes:
        included = getattr(route, "original_router", None)  # FastAPI keeps a router that is included as it is
        below = route.routes if isinstance(route, Mount) else None if included is None else included.routes
        found += all_routes(below) if below else [route]
    return found
