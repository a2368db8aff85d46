"""One call of the API, and what all operations over HTTP need of it. No I/O."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from flowcraft_sdk._operations.http_effects import HttpOperation, NextEvent, Pause, Reply, Request
from flowcraft_sdk._operations.http_errors import UnexpectedReplyError
from flowcraft_sdk._operations.list_runs import Filter
from flowcraft_sdk._operations.problems import problem_error, raise_problem
from flowcraft_sdk._operations.rerun import Order
from flowcraft_sdk._operations.server_events import ServerEvent
from flowcraft_sdk._operations.wait import Deadline
from flowcraft_sdk.errors import BackendUnavailableError, FlowcraftError
from flowcraft_sdk.protocol.bounds import LONGEST_EVENT_ID, shown
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.tagged_values import untagged
from flowcraft_sdk.records import RunEvent, typed_event

T = TypeVar("T")

LONGEST_WAIT = 60.0
"""Seconds that the API keeps an answer back at most."""

_NUMBER = re.compile(rf"[0-9]{{1,{LONGEST_EVENT_ID}}}")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two looks while the API is away."""


def call(request: Request, asked: str) -> HttpOperation[Reply]:
    """Send a request; the value is the answer, if it is none that refuses.

    Args:
        asked: what it is to do, as it goes on after "cannot".

    Raises:
        FlowcraftError: the API refuses, or does not answer.
    """
    reply: Reply = yield request
    raise_problem(reply, asked)
    return reply


def bearing_outages(
    ask: Callable[[], HttpOperation[T]], deadline: Deadline, max_outage: float
) -> HttpOperation[T | None]:
    """What a call gives; while the API is away, it is made again. None if the time is up meanwhile.

    Raises:
        BackendUnavailableError: it was away for longer than that.
    """
    since: float | None = None
    pause = FIRST_PAUSE
    while True:
        try:
            return (yield from ask())
        except BackendUnavailableError:
            since = since or clock()
            if clock() - since >= max_outage:
                raise
            if deadline.expired:
                return None
        yield Pause(deadline.remaining(pause))
        pause = min(pause * 2, LONGEST_PAUSE)


def record_of(kind: type[T], value: Any) -> T:
    """A record as the API has sent it.

    Raises:
        UnexpectedReplyError: it is none.
    """
    try:
        return TypeAdapter(kind).validate_python(untagged(value))
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("value",), "msg": "too deep"}
        place = ".".join(map(str, first["loc"]))
        raise UnexpectedReplyError(
            f"the API has sent something else than was expected ({place}: {first['msg']}): do both sides have one release?",
            status=200,
        ) from None


def records_of(kind: type[T], reply: Reply) -> list[T]:
    """The records of a list.

    Raises:
        UnexpectedReplyError: it is none.
    """
    found = reply.json()
    if not isinstance(found, list):
        raise UnexpectedReplyError("the API has sent no list where one was expected", status=reply.status)
    return [record_of(kind, each) for each in found]


def member(reply: Reply, name: str, kind: type[T]) -> T:
    """A member of an answer.

    Raises:
        UnexpectedReplyError: it has none of this kind.
    """
    found = reply.json()
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, kind):
        raise UnexpectedReplyError(f"the API has sent an answer without `{name}`", status=reply.status)
    return value


def next_event() -> HttpOperation[ServerEvent | None]:
    """The next event of the open stream; None where the connection has ended."""
    event: ServerEvent | None = yield NextEvent()
    return event


def event_data(event: ServerEvent) -> Mapping[str, Any]:
    """The data of an event.

    Raises:
        UnexpectedReplyError: it is no JSON object.
    """
    try:
        found = json.loads(event.data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnexpectedReplyError("the API has sent an event that is no JSON object", status=200)
    return found


def event_of(value: Any) -> RunEvent:
    """An event of a run as the API has sent it.

    Raises:
        UnexpectedReplyError: it is none.
    """
    found = record_of(RunEvent, value)
    behind("-1", found.id)
    return typed_event(**{name: getattr(found, name) for name in RunEvent.model_fields})


def behind(seen: str, number: str) -> str:
    """The number of an event or a line, if it is larger than the last one: one that is not would be read again and again.

    Raises:
        UnexpectedReplyError: it is not, or it is none.
    """
    if not _NUMBER.fullmatch(number):
        raise UnexpectedReplyError(f"the API has sent something without a number: {shown(number)}", status=200)
    if int(number) <= int(seen):
        raise UnexpectedReplyError(f"the API has sent number {number} behind {seen}", status=200)
    return number


def problem_in(event: ServerEvent, asked: str) -> FlowcraftError:
    """The error for the last event of a stream that has failed."""
    data = event_data(event)
    return problem_error({**data, "code": str(data.get("code", ""))}, 503, asked)


def filter_query(wanted: Filter) -> Iterator[tuple[str, Any]]:
    """The parameters that name runs.

    Raises:
        ConfigurationError: a moment is none.
    """
    _ = wanted.bounds
    yield "blueprint", wanted.blueprint_id
    for status in sorted(wanted.statuses or ()):
        yield "status", status.value
    yield "tag", wanted.tag
    yield "parent", wanted.parent
    yield "since", _moment(wanted.after)
    yield "until", _moment(wanted.before)


def filter_body(wanted: Filter) -> dict[str, Any]:
    """The members of a body that name runs."""
    _ = wanted.bounds
    return {
        "blueprint": wanted.blueprint_id,
        "status": None if wanted.statuses is None else sorted(wanted.statuses),
        "tag": wanted.tag,
        "since": _moment(wanted.after),
        "until": _moment(wanted.before),
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def from_json(order: Order) -> Any:
    """The nodes of a rerun as the API takes them."""
    return "failed" if order.failed else list(order.nodes) or None
