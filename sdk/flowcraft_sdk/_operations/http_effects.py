"""The effects of operations over HTTP: requests, and events of streams. Their drivers do the I/O, sync or async."""

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from flowcraft_sdk._operations.effects import Yield
from flowcraft_sdk._operations.http_errors import UnexpectedReplyError

T = TypeVar("T")

PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Request:
    """A request; the answer is a `Reply`.

    Attributes:
        method: of HTTP.
        path: with what stands in it quoted, and the query.
        body: JSON, None for none.
        headers: besides those that all requests have.
        wait: seconds for which the server may keep the answer back.
        repeatable: whether it may be sent twice.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    wait: float = 0.0
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Send a request whose answer is a stream of events, and close the stream before it.

    The answer is a `Reply`, without a body if the stream has begun.

    Attributes:
        request: to send.
        lasts: seconds after which the server is to end the stream by itself; it counts as ended soon after, whatever still comes.
    """

    request: Request
    lasts: float | None = None


@dataclass(frozen=True, slots=True)
class NextEvent:
    """The next event of the stream that is open; the answer is a `ServerEvent`, None where the connection has ended."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: code.
        body: whole.
        location: where it redirects to, if it does.
    """

    status: int
    body: bytes = b""
    location: str | None = None

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            UnexpectedReplyError: it is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise UnexpectedReplyError(
                f"what answers is no API of a deployment: its answer ({self.status}) is no JSON", status=self.status
            ) from None


HttpEffect = Request | OpenStream | NextEvent | Pause | Yield
HttpOperation = Generator[HttpEffect, Any, T]


def returning(operation: HttpOperation[T]) -> HttpOperation[None]:
    """The operation with its value as its one yielded item, so that a driver knows streams only."""
    value = yield from operation
    yield Yield(value)


def path_of(*parts: str, query: Iterable[tuple[str, Any]] = ()) -> str:
    """The path of a route; of the query, what is None is left out."""
    path = "/".join([PREFIX, *(quote(part, safe="") for part in parts)])
    given = [(name, value) for name, value in query if value is not None]
    return f"{path}?{urlencode(given)}" if given else path


def json_object(members: Mapping[str, Any]) -> bytes:
    """A JSON object of members that are encoded already if they are bytes; those that are None are left out."""
    parts = (
        json.dumps(name).encode() + b":" + (value if isinstance(value, bytes) else json.dumps(value).encode())
        for name, value in members.items()
        if value is not None
    )
    return b"{" + b",".join(parts) + b"}"


def node_path(path: str) -> Sequence[str]:
    """The parts of the way to a node in a path of the API: it may hold slashes, which stand for child runs."""
    return path.split("/")
