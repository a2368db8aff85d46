"""What every request passes before the application sees it: host, origin, size and type of its body; headers of each answer."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from loguru import logger
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowcraft_sdk.protocol.trace_context import carried, checked

from .problems import Problem

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths that may be asked for by any host name: probes and Prometheus use addresses."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITE = frozenset({"same-origin", "none"})

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Refuses requests that ask for a foreign host, come from a foreign page, or have a body that is too large.

    Args:
        app: the application behind it.
        hosts: names that may be asked for.
        max_request: bytes of a body.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], max_request: int) -> None:
        self._app = app
        self._names = frozenset(host for host in hosts if not host.startswith("*."))
        self._suffixes = tuple(host[1:] for host in hosts if host.startswith("*."))
        self._max_request = max_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no websockets here
        carried.set(
            checked(Headers(scope=scope).get("traceparent"))
        )  # runs that the request starts belong to its trace
        body = _Body(receive, self._max_request)
        answer = _Answer(scope, send)
        try:
            self._check(scope, Headers(scope=scope))
            await self._app(scope, body.receive, answer.send)
        except Problem as problem:
            await problem.response()(scope, receive, answer.send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        method, path = scope["method"], scope["path"]
        if path not in PROBES and not self._is_ours(headers.get("host", "")):
            raise Problem(
                421,
                "unknown_host",
                "this server does not answer for that host name; api.allowedHosts says for which it does",
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_request:
            raise _too_large(self._max_request)
        if method in SAFE_METHODS:
            return
        if "authorization" not in headers:
            _check_origin(headers)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = length != "0" or "transfer-encoding" in headers
        if has_body and kind != "application/json":
            raise Problem(415, "unsupported_media_type", "send JSON: `Content-Type: application/json`")

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        name = name.lower().removesuffix(".")
        return name in self._names or name.endswith(self._suffixes or ("\0",))


def _check_origin(headers: Headers) -> None:
    """Refuse what a page of another site sends in the name of its reader.

    Raises:
        Problem: 403.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = site is not None and site not in OWN_SITE
    if not foreign and origin is not None:
        foreign = urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign:
        raise Problem(403, "foreign_origin", "this request comes from a page of another site")


def _too_large(limit: int) -> Problem:
    return Problem(
        413, "request_too_large", f"the body has more than {limit} bytes (api.maxRequest)",
        headers={"connection": "close"},
    )  # fmt: skip


class _Body:
    """Counts the bytes of a body while it is read, also of one that does not say how long it is."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._read = 0

    async def receive(self) -> Message:
        """The next part.

        Raises:
            Problem: 413.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._limit:
                raise _too_large(self._limit)
        return message


class _Answer:
    """Adds the headers that each answer has, and logs what was asked for."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a part."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self._scope["path"].startswith(("/api/", "/hooks/", "/webhooks/")):
                headers.setdefault("cache-control", "no-store")
            self._log(message["status"])
        await self._send(message)

    def _log(self, status: int) -> None:
        principal = self._scope.get("state", {}).get("principal")
        sender = "-" if principal is None else principal.name
        level = "DEBUG" if self._scope["method"] in SAFE_METHODS else "INFO"
        logger.log(level, "{} {} -> {} ({})", self._scope["method"], self._scope["path"], status, sender)
