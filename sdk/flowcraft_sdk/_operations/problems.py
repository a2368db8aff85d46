"""Errors of the API become those that the other clients raise, with the same attributes."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from flowcraft_sdk import errors
from flowcraft_sdk._operations.http_effects import Reply
from flowcraft_sdk._operations.http_errors import AccessDeniedError, UnexpectedReplyError
from flowcraft_sdk.errors import (
    BackendUnavailableError,
    ConfigurationError,
    FlowcraftError,
    PayloadTooLargeError,
    RunLimitError,
)

T = TypeVar("T", bound=FlowcraftError)

LONGEST_DETAIL = 4_000
"""Characters of what the API says that an error repeats."""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "maybe_applied": bool,
    "size": _number,
    "limit": _number,
    "waiting": _texts,
    "running": _texts,
    "known": _texts,
    "published": lambda value: None if value is None else _texts(value),
    "version": _text_or_none,
    "ended_at": _moment,
    "existing": lambda _value: None,
    "errors": lambda value: [_misfit(each) for each in value if isinstance(each, dict)] if value else [],
}
"""What reads an attribute of an error; all others are texts."""

_OPTIONAL = {("not_waiting", "node_id"), ("dead_letter_not_found", "node_id")}
"""Attributes that may be None, by code and name; elsewhere they are texts."""

_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "backend_unavailable": ("operation", "maybe_applied"),
    "backend_refused": ("reason", "operation", "maybe_applied"),
    "not_durable": ("operation", "maybe_applied"),
    "protocol_mismatch": ("client_version", "server_version"),
    "serialization": ("path",),
    "payload_too_large": ("path", "size", "limit"),
    "blueprint_not_found": ("blueprint_id", "version", "known", "published"),
    "invalid_input": ("errors",),
    "run_not_found": ("run_id",),
    "run_expired": ("run_id", "ended_at", "status"),
    "run_broken": ("run_id", "problem"),
    "foreign_key": ("key", "expected"),
    "run_state": ("run_id", "status"),
    "rerun_refused": ("run_id", "reason"),
    "not_waiting": ("run_id", "status", "node_id", "waiting"),
    "not_receiving": ("run_id", "status", "node_id", "reason"),
    "dead_letter_not_found": ("run_id", "node_id"),
    "schedule_not_found": ("schedule_id",),
    "memory_not_found": ("memory_id",),
    "run_conflict": ("run_id", "reason", "existing"),
    "run_limit": ("run_id", "reached", "running"),
    "node_not_found": (),
    "configuration": (),
    "no_server": (),
}
"""The attributes of each error that the API passes on, by its code."""

_EXPECTED_ADDRESS = (
    "is the address right? It is that of the server, http://HOST:PORT or https://HOST, without the /api/v1 of its "
    "routes"
)
REFUSED_BY_ACCESS = (401, 403)
BUSY = (429, 502, 503, 504)
"""Status codes that a further attempt may change."""


def _kinds(base: type[FlowcraftError]) -> Iterator[type[FlowcraftError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


_KINDS = {kind.code: kind for kind in _kinds(errors.FlowcraftError)} | {RunLimitError.code: RunLimitError}


def raise_problem(reply: Reply, asked: str) -> None:
    """Raise the error that an answer stands for, if it does.

    Args:
        asked: what was to be done, for messages.

    Raises:
        FlowcraftError: the answer says so.
    """
    if reply.status < 300:
        return
    raise error_of(reply, asked)


def error_of(reply: Reply, asked: str) -> FlowcraftError:
    """The error that an answer stands for."""
    if reply.status < 400:
        to = f" to {reply.location[:200]}" if reply.location else ""
        return UnexpectedReplyError(
            f"cannot {asked}: the server redirects{to}; redirections are not followed, give the address of the API itself",
            status=reply.status,
        )
    try:
        problem = json.loads(reply.body)
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        return _without_problem(reply.status, asked)
    return problem_error(problem, reply.status, asked)


def problem_error(problem: Mapping[str, Any], status: int, asked: str) -> FlowcraftError:
    """The error for a problem of the API."""
    code, detail = str(problem["code"]), _text(problem.get("detail"))[:LONGEST_DETAIL]
    if code in _ATTRIBUTES:
        return _rebuilt(_KINDS[code], code, detail, problem)
    if status in REFUSED_BY_ACCESS:
        return AccessDeniedError(f"cannot {asked}: {detail}", status=status, reason=code)
    if status == 413:
        limit = _number(problem.get("limit"))
        return _rebuilt(PayloadTooLargeError, code, detail, {"limit": limit})
    if status in BUSY:
        return BackendUnavailableError(f"cannot {asked}: {detail}", operation=asked)
    if code == "not_found":  # a route that is not there
        return UnexpectedReplyError(f"cannot {asked}: {detail}: {_EXPECTED_ADDRESS}", status=status)
    if status >= 500 or code == "method_not_allowed":
        return UnexpectedReplyError(f"cannot {asked}: {detail}", status=status)
    return ConfigurationError(f"cannot {asked}: {detail}")


def _rebuilt(kind: type[FlowcraftError], code: str, detail: str, problem: Mapping[str, Any]) -> FlowcraftError:
    error = kind.__new__(kind)
    error.args = (detail,)
    for name in _ATTRIBUTES.get(kind.code, ()):
        given = problem.get("run_status" if name == "status" else name)
        reader = _text_or_none if (code, name) in _OPTIONAL else _READERS.get(name, _text)
        setattr(error, name, reader(given))
    return error


def _misfit(each: Mapping[str, Any]) -> dict[str, Any]:
    loc = each.get("loc")
    return {
        "loc": tuple(loc) if isinstance(loc, list) else (),
        "type": _text(each.get("type")),
        "msg": _text(each.get("msg")),
    }


def _without_problem(status: int, asked: str) -> FlowcraftError:
    if status in BUSY:
        return BackendUnavailableError(
            f"cannot {asked}: the API does not answer ({status})", operation=asked, maybe_applied=status in (502, 504)
        )
    return UnexpectedReplyError(
        f"cannot {asked}: what answers ({status}) is no API of a deployment: {_EXPECTED_ADDRESS}", status=status
    )
