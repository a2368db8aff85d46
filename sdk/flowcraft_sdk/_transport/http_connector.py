"""What the drivers over HTTP share: the address, the token, how requests look, and what becomes of one that fails."""

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flowcraft_sdk._operations.http_effects import Reply, Request
from flowcraft_sdk._operations.http_errors import UnexpectedReplyError
from flowcraft_sdk._operations.problems import BUSY
from flowcraft_sdk.errors import BackendUnavailableError, ConfigurationError
from flowcraft_sdk.protocol.bounds import shown
from flowcraft_sdk.protocol.tagged_values import HEADER, TAGGED

SERVER_VARIABLE, TOKEN_VARIABLE = "FLOWCRAFT_SERVER", "FLOWCRAFT_TOKEN"
TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
LONGEST_ADDRESS = 2_000

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between attempts."""

SILENCE = 45.0
"""Seconds after which a stream counts as broken: the API sends a comment every 15 s."""

SLOWEST = 1024
"""Bytes a second at which an answer has to come, besides the timeout."""

SPARE_WAIT = 10.0
"""Seconds that an answer may take longer than the request lets the API keep it back, besides the timeout."""


@dataclass(frozen=True)
class HttpSettings:
    """How a client talks to the HTTP API. Times are in seconds.

    Attributes:
        timeout: Seconds after which a request counts as unanswered, besides those for which it asks the API to wait.
        connect_timeout: Seconds to open a connection.
        retries: How often a request is sent again that got no answer, if it may be sent twice.
        max_connections: Size of the pool; a request that finds no free connection waits for one.
        max_outage: Seconds that a wait for a run goes on while the API does not answer, after it has seen the run once.
        max_value: Bytes that one value of a start context may have.
        max_reply: Bytes that an answer, or an event of a stream, may have.
        ca_file: File with the certificates that the API's is checked against; None for those of the system.
    """

    timeout: float = 10.0
    connect_timeout: float = 5.0
    retries: int = 3
    max_connections: int = 50
    max_outage: float = 60.0
    max_value: int = 16 * 1024 * 1024
    max_reply: int = 256 * 1024 * 1024
    ca_file: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where the API is.

    Attributes:
        address: without a path; it is shown in messages.
        token: that requests carry, never shown.
    """

    address: str
    token: str | None = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request."""
        found = {HEADER: TAGGED, "accept": "application/json"}
        return found if self.token is None else {**found, "authorization": f"Bearer {self.token}"}


def endpoint(url: str | None, token: str | None) -> Endpoint:
    """Where the API is, by the arguments, else by the environment.

    Raises:
        ConfigurationError: nothing says where it is, or what does cannot be used.
    """
    called = "url" if url is not None else SERVER_VARIABLE
    found = url if url is not None else os.environ.get(SERVER_VARIABLE)
    if not found:
        raise ConfigurationError(f"say where the API is: url, or {SERVER_VARIABLE}, such as https://flows.example.org")
    secret = token if token is not None else os.environ.get(TOKEN_VARIABLE)
    if secret is not None and (not isinstance(secret, str) or not TOKEN.fullmatch(secret.strip())):
        raise ConfigurationError("the token is one of api.auth.tokens: printable characters without spaces")
    return Endpoint(_address(found, called), secret.strip() if secret else None)


def _address(url: object, called: str) -> str:
    if not isinstance(url, str) or len(url) > LONGEST_ADDRESS or not url.isprintable():
        raise ConfigurationError(f"{called}: expected the address of an API, http://HOST:PORT or https://HOST")
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{called}: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{called}: the address holds a name or a password: give the token as `token`")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{called}: expected http://HOST:PORT or https://HOST, got {shown(url)}")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{called}: the address of an API has no query, got {shown(url)}")
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def httpx() -> Any:
    """The library that sends requests, loaded by the first client.

    Raises:
        ConfigurationError: it is not there.
    """
    try:
        import httpx2
    except ImportError:
        raise ConfigurationError(
            "clients over HTTP need the package httpx2: pip install 'flowcraft-sdk[http]'"
        ) from None
    return httpx2


def client_options(where: Endpoint, settings: HttpSettings) -> dict[str, Any]:
    """Options of a client of the library: redirections are not followed, certificates are checked.

    Raises:
        ConfigurationError: the file with certificates cannot be read.
    """
    library = httpx()
    limits = library.Limits(
        max_connections=settings.max_connections, max_keepalive_connections=settings.max_connections
    )
    return {
        "base_url": where.address,
        "headers": where.headers,
        "follow_redirects": False,
        "limits": limits,
        "verify": _certificates(settings.ca_file),
    }


def _certificates(ca_file: str | None) -> Any:
    import ssl

    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ca_file: {ca_file} cannot be used: {error}") from None


def timeout_of(settings: HttpSettings, request: Request, *, stream: bool) -> Any:
    """The timeouts of a request."""
    span = settings.timeout + (request.wait + SPARE_WAIT if request.wait else 0.0)
    return httpx().Timeout(
        connect=settings.connect_timeout,
        read=max(SILENCE, span) if stream else span,
        write=settings.timeout,
        pool=settings.timeout,
    )


def check_pace(timeout: Any, seconds: float, size: int) -> None:
    """Make sure that an answer comes on: a byte now and then would keep to the timeouts of the library.

    Args:
        timeout: those of the request.
        seconds: since the answer began.
        size: bytes of it so far.

    Raises:
        ReadTimeout: of the library: it came slower than `SLOWEST`.
    """
    if seconds > timeout.read + size / SLOWEST:
        raise httpx().ReadTimeout(f"{size:,} bytes of an answer came in {seconds:.0f} s")


def sent_headers(request: Request) -> dict[str, str]:
    """The headers of a request besides those of all."""
    found = dict(request.headers or {})
    return found if request.body is None else {**found, "content-type": "application/json"}


def too_large(settings: HttpSettings) -> UnexpectedReplyError:
    """The error for an answer that is too large."""
    return UnexpectedReplyError(
        f"the answer of the API has more than {settings.max_reply} bytes (HttpSettings.max_reply)", status=200
    )


class HttpAttempts:
    """Counts the attempts at one request, and says what becomes of a failed one.

    Args:
        request: what is sent.
        where: the API.
        settings: how many attempts there are.
        asked: what the caller wanted, as it goes on after "cannot".
    """

    def __init__(self, request: Request, where: Endpoint, settings: HttpSettings, asked: str) -> None:
        self._request = request
        self._where = where
        self._asked = asked
        self._left = settings.retries
        self._sent = False
        self._pause = FIRST_PAUSE

    def answered(self, reply: Reply) -> float | None:
        """Seconds to pause before the request is sent again although it was answered; None if this is the answer."""
        if reply.status not in BUSY or self._left <= 0:
            return None
        if not self._request.repeatable and reply.status in (502, 504):
            return None  # it may have been done
        return self._next()

    def failed(self, error: Exception) -> float:
        """Seconds to pause before the next attempt.

        Raises:
            BackendUnavailableError: there is none.
        """
        library = httpx()
        self._sent = self._sent or not isinstance(
            error, library.ConnectError | library.ConnectTimeout | library.PoolTimeout
        )
        if self._left > 0 and (self._request.repeatable or not self._sent):
            return self._next()
        why = str(error) or type(error).__name__
        raise BackendUnavailableError(
            f"cannot {self._asked}: the API at {self._where.address} does not answer: {why}",
            operation=self._asked,
            maybe_applied=self._sent and self._request.method != "GET",
        ) from error

    def _next(self) -> float:
        self._left -= 1
        pause, self._pause = self._pause, min(self._pause * 3, LONGEST_PAUSE)
        return pause
