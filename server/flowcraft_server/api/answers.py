"""Answers: JSON with large values left out, and with secrets masked for the role `view`."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.tagged_values import HEADER, TAGGED, json_values, tagged

from .access import Role, principal_of
from .options import ApiOptions
from .problems import encoded

MOST_INLINE = 64 * 1024
"""Bytes of a value as JSON above which an answer has a link to it in its place."""

PAYLOADS = frozenset({"ctx", "output", "memo", "data", "details", "prompt", "context", "params", "value"})
"""Members of answers that hold values of users."""


ABILITIES = frozenset({"webhook_key"})
"""Members of answers that would let a viewer change something: the role `view` gets null in their place."""


class Truncated(BaseModel):
    """Stands for a value that is too large for this answer.

    Attributes:
        truncated: Always true.
        bytes: Size of the value as JSON.
        href: Where the whole value is.
    """

    truncated: bool = True
    bytes: int
    href: str


def answer(
    request: Request, value: Any, status: int = 200, headers: Mapping[str, str] | None = None, *, payload: bool = False
) -> Response:
    """The answer to a request.

    Args:
        value: a record, or JSON values.
        payload: whether all of it is a value of a user, and not only what `PAYLOADS` names.
    """
    return Response(
        encoded(presented(request, value, payload=payload)), status, dict(headers or {}), "application/json"
    )


def is_tagged(request: Request) -> bool:
    """Whether a request has tags in its values, and wants them in the answer, as the SDK's clients do."""
    return request.headers.get(HEADER) == TAGGED


def value_of(request: Request, value: Any) -> Any:
    """A value of a user out of the body of a request."""
    return wire.revive(value) if is_tagged(request) else value


def context_of(request: Request, values: dict[str, Any] | None) -> dict[str, Any] | None:
    """Values of a context out of the body of a request."""
    if values is None or not is_tagged(request):
        return values
    return {key: wire.revive(value) for key, value in values.items()}


def is_masked(request: Request) -> bool:
    """Whether the sender of a request sees secrets masked."""
    return principal_of(request).role is Role.VIEW


def presented(request: Request, value: Any, *, payload: bool = False) -> Any:
    """A value as the sender of a request may see it. Arguments as of `answer`."""
    shown = tagged(value) if is_tagged(request) and not payload else json_values(value)
    if not is_masked(request):
        return shown
    options: ApiOptions = request.app.state.options
    return options.redactor.clean_value(shown) if payload else _payloads_masked(shown, options)


def _payloads_masked(value: Any, options: ApiOptions) -> Any:
    if isinstance(value, dict):
        return {
            key: None
            if key in ABILITIES
            else options.redactor.clean_value(item)
            if key in PAYLOADS
            else _payloads_masked(item, options)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_payloads_masked(item, options) for item in value]
    return options.redactor.clean(value) if isinstance(value, str) else value


def shortened(value: Any, href: str) -> Any:
    """A value of a user, or what stands for it if it is large.

    Args:
        href: where all of it is.
    """
    shown = json_values(value)
    size = len(encoded(shown))
    return value if size <= MOST_INLINE else Truncated(bytes=size, href=href).model_dump()
