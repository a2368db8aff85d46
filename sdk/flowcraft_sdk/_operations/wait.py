"""Waiting for runs: subscribe, *then* read, then wait for a notification.

A run that this client has started notifies the client's inbox: there it waits without subscribing or reading.

Nothing is polled.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flowcraft_sdk._operations.deployment import (
    Deployment,
    Seconds,
    keys_of,
    partitions_of,
    record,
    server_ms,
    text,
    with_plan,
)
from flowcraft_sdk._operations.durability import confirm
from flowcraft_sdk._operations.effects import (
    Batch,
    Operation,
    ReleaseNotification,
    Subscribe,
    T,
    WaitForNotification,
    Yield,
    command,
)
from flowcraft_sdk._operations.runs import live_workers, state_and_creation, status
from flowcraft_sdk._operations.tombstones import missing
from flowcraft_sdk.errors import (
    BackendUnavailableError,
    ConfigurationError,
    ForeignKeyError,
    RunBrokenError,
    RunCancelledError,
    RunFailedError,
    RunTimedOutError,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol.bounds import LONGEST_EVENT_ID, check_span, shown
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.end_notice import parse_end_notice
from flowcraft_sdk.protocol.events import parse_event
from flowcraft_sdk.protocol.node_attempts import attempts_of
from flowcraft_sdk.protocol.run_record import UNREADABLE, RunRecord
from flowcraft_sdk.records import NodeAttempt, RunEvent, RunSnapshot, RunStatus, typed_event

LOOK_AGAIN = 30.0
"""Seconds after which a sleeper looks by itself, in case a notice was lost."""

LISTEN_WAIT = 5.0
"""Seconds to wait for Redis to confirm a subscription, before one looks without."""

OUTAGE_LOOK = 1.0
"""Seconds between two looks while Redis is away."""

IDLE_WARNING = 5.0
"""Seconds of waiting after which it is logged, once, that no worker is alive."""

EVENTS_A_PAGE = 500
MOST_TIMERS = 1_000
NODE_TIMERS = ("T", "W", "b")
"""Kinds of timers that a run waits for: a further attempt, the end of a sleep or a wait, its begin."""


class Deadline:
    """The end of a wait.

    Args:
        timeout: seconds or a timedelta; None for ever.
    """

    def __init__(self, timeout: Seconds | None) -> None:
        self.seconds = check_span(timeout, "timeout")
        self._begin = clock()

    @property
    def waited(self) -> float:
        """Seconds so far."""
        return clock() - self._begin

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.seconds is not None and self.waited >= self.seconds

    def remaining(self, most: float) -> float:
        """Seconds left, `most` at most."""
        return most if self.seconds is None else max(0.0, min(most, self.seconds - self.waited))


def wait_for(
    deployment: Deployment, run_id: str, wanted: frozenset[RunStatus], timeout: Seconds | None, handle: Any
) -> Operation[RunStatus]:
    """Sleep until the run is in a wanted state or has ended."""
    now, _ = yield from _sleep_until(deployment, run_id, wanted, timeout, handle)
    return now


def _sleep_until(
    deployment: Deployment, run_id: str, wanted: frozenset[RunStatus], timeout: Seconds | None, handle: Any
) -> Operation[tuple[RunStatus, Mapping[str, str] | None]]:
    """What `wait_for` does; with the fields of the run's hash, if they came with the notification."""
    deadline, now = Deadline(timeout), RunStatus.QUEUED
    if not handle.just_started:
        now = yield from status(deployment, run_id)  # an unknown run, or no Redis at all, shows at once
    keys = yield from keys_of(deployment, run_id)
    channel = keys.channel(run_id) if wanted else keys.end_channel(run_id)
    if now.is_terminal or now in wanted:
        if handle.notification_token:
            yield ReleaseNotification(handle.notification_token)
        return now, None
    warned, exact = False, False
    created: str | None = None
    if not deadline.expired:
        exact = yield Subscribe(
            (channel,),
            deadline.remaining(LISTEN_WAIT),
            notification_token=None if wanted else handle.notification_token,
        )
    looked = exact
    while True:
        if not looked:
            last = now, created
            look = partial(state_and_creation, deployment, run_id)
            now, created = yield from bearing_outages(deployment, deadline, look, last)
            if now.is_terminal or now in wanted:
                return now, None
            if deadline.expired:
                raise (yield from timed_out(deployment, run_id, now, deadline, handle))
            if not warned and deadline.waited >= IDLE_WARNING:
                warned = True
                yield from _warn_if_nobody_works(deployment, run_id)
        looked = False
        notifications: Mapping[str, str] = yield WaitForNotification(
            deadline.remaining(LOOK_AGAIN if warned else max(0.1, IDLE_WARNING - deadline.waited))
        )
        if notifications.get(channel):
            # A cluster's nodes pass notifications on to each other: that of an earlier run with the same id may come after
            # this run was started. One in the inbox belongs to this start, any other one to the run that its record names.
            status_of_end, fields = parse_end_notice(notifications[channel])
            if (exact and created is None) or (fields is not None and fields.get("cr") == created):
                return status_of_end, fields


def bearing_outages(
    deployment: Deployment, deadline: Deadline, read: Callable[[], Operation[T]], last: T
) -> Operation[T]:
    """What `read` reads; while Redis is away, again and again, as long as the settings and the time left allow.

    When the time is up meanwhile, it is what was read last.
    """
    outage: float | None = None
    while True:
        try:
            return (yield from read())
        except BackendUnavailableError:
            outage = outage or clock()
            if clock() - outage >= deployment.max_outage:
                raise
            if deadline.expired:
                return last
        yield WaitForNotification(deadline.remaining(OUTAGE_LOOK))


def timed_out(
    deployment: Deployment, run_id: str, now: RunStatus, deadline: Deadline, handle: Any
) -> Operation[WaitTimeoutError]:
    hint = ""
    try:
        alive: int | None = yield from live_workers(deployment)
        if deployment.test_clock:
            hint = yield from _next_timer(deployment, run_id)
    except (BackendUnavailableError, ForeignKeyError):
        alive = None
    return WaitTimeoutError(run_id, now.value, deadline.waited, handle, alive, hint)


def _next_timer(deployment: Deployment, run_id: str) -> Operation[str]:
    """Of a run in a test that waits for a timer, or a run below it: how to move the clock; empty for any other."""
    keys, now = (yield from keys_of(deployment, run_id)), (yield from server_ms(deployment))
    (entries,) = yield Batch((command("ZRANGE", keys.timers, 0, MOST_TIMERS - 1, "WITHSCORES"),))
    for member, due in zip(entries[::2], entries[1::2], strict=True):
        kind, of, *_ = text(member).split("|")
        if kind in NODE_TIMERS and (of == run_id or of.startswith(f"{run_id}~")):
            return (
                f"; its next timer is due in {max(0, math.ceil((float(due) - now) / 1000))}s by the test clock, which skips "
                "nothing by itself: env.clock.advance_to_next_timer() moves it there, env.clock.advance(...) by any span"
            )
    return ""


def _warn_if_nobody_works(deployment: Deployment, run_id: str) -> Operation[None]:
    try:
        alive = yield from live_workers(deployment)
    except (BackendUnavailableError, ForeignKeyError):
        return
    if alive == 0:
        logging.getLogger("flowcraft_sdk").warning("waiting for run %s, but no worker is alive", run_id)


def result(deployment: Deployment, run_id: str, timeout: Seconds | None, handle: Any) -> Operation[Any]:
    """Wait for the end and return the output, or raise by how the run ended."""
    found = yield from _ended(deployment, run_id, timeout, handle)
    if found.status is RunStatus.COMPLETED:
        return found.result()
    snapshot = found.snapshot()
    if found.status is RunStatus.CANCELLED:
        raise RunCancelledError(snapshot)
    if found.status is RunStatus.TIMED_OUT:
        raise RunTimedOutError(snapshot)
    raise RunFailedError(snapshot)


def wait(deployment: Deployment, run_id: str, timeout: Seconds | None, handle: Any) -> Operation[RunSnapshot]:
    """Wait for the end, however it comes."""
    found = yield from _ended(deployment, run_id, timeout, handle)
    return found.snapshot(outputs=True)


def _ended(deployment: Deployment, run_id: str, timeout: Seconds | None, handle: Any) -> Operation[RunRecord]:
    """Wait for the end; the record of it."""
    _, fields = yield from _sleep_until(deployment, run_id, frozenset(), timeout, handle)
    if fields is None:
        found = yield from record(deployment, run_id)
    else:
        found = yield from with_plan(deployment, run_id, fields)
    yield from confirm(deployment, run_id, "the end", found.fields.get("en"))
    return found


def as_completed(deployment: Deployment, handles: Mapping[str, Any], timeout: Seconds | None) -> Operation[None]:
    """Yield each of the handles, given by run id, as its run ends."""
    for handle in handles.values():
        if handle.namespace != deployment.keys.namespace:
            raise ConfigurationError(
                f"run {handle.run_id} belongs to {handle.namespace}, not {deployment.keys.namespace}"
            )
    deadline = Deadline(timeout)
    states = yield from _statuses(deployment, list(handles))
    pending = {run_id for run_id, now in states.items() if not now.is_terminal}
    partitions = yield from partitions_of(deployment)
    runs = {partitions.for_run(run_id).end_channel(run_id): run_id for run_id in handles if run_id in pending}
    for run_id, handle in handles.items():
        if run_id not in pending:
            yield Yield(handle)
    if pending and not deadline.expired:
        yield Subscribe(tuple(runs), deadline.remaining(LISTEN_WAIT))
    notifications: Mapping[str, str] = {}
    while pending:
        # What a notification names is read, too: it may be that of an earlier run with the same id.
        named = {runs[channel] for channel, payload in notifications.items() if payload}
        look = [run_id for run_id in handles if run_id in pending and (run_id in named or not named)]
        found: dict[str, RunStatus] = {}
        found = yield from bearing_outages(deployment, deadline, partial(_statuses, deployment, look), found)
        states = states | found
        for run_id in look:
            if states[run_id].is_terminal:
                pending.discard(run_id)
                yield Yield(handles[run_id])
        if pending and deadline.expired:
            first = next(run_id for run_id in handles if run_id in pending)
            raise (yield from timed_out(deployment, first, states[first], deadline, handles[first]))
        notifications = (yield WaitForNotification(deadline.remaining(LOOK_AGAIN))) if pending else {}


def _statuses(deployment: Deployment, run_ids: list[str]) -> Operation[dict[str, RunStatus]]:
    if not run_ids:
        return {}
    partitions = yield from partitions_of(deployment)
    reads = tuple(command("HGET", partitions.for_run(run_id).run(run_id), "st") for run_id in run_ids)
    replies = yield Batch(reads, bearing=True)
    for run_id, reply in zip(run_ids, replies, strict=True):
        if isinstance(reply, Exception):
            raise RunBrokenError(run_id, "something of another type lies under its key")
        if reply is None:
            yield from missing(partitions.for_run(run_id).gone, run_id)
    return {run_id: RunStatus(text(reply)) for run_id, reply in zip(run_ids, replies, strict=True)}


def events(
    deployment: Deployment, run_id: str, after: str | None, follow: bool, timeout: Seconds | None, handle: Any
) -> Operation[None]:
    """Yield a run's events behind an id; with `follow` also those to come, until it has ended.

    Raises:
        WaitTimeoutError: it has not ended in time.
    """
    deadline, seen = Deadline(timeout), position_of(after)
    page, ended = yield from event_page(deployment, run_id, seen)
    if follow and not ended:
        keys = yield from keys_of(deployment, run_id)
        yield Subscribe((keys.channel(run_id),), deadline.remaining(LISTEN_WAIT))
        if not page:  # something may have happened before the subscription began
            page, ended = yield from event_page(deployment, run_id, seen)
    while True:
        for event in page:
            yield Yield(event)
        seen = int(page[-1].id) if page else seen
        if ended or (not page and not follow):
            return
        if not page and deadline.expired:
            now = yield from status(deployment, run_id)
            raise (yield from timed_out(deployment, run_id, now, deadline, handle))
        if not page:
            yield WaitForNotification(deadline.remaining(LOOK_AGAIN))
        nothing: tuple[list[RunEvent], bool] = ([], False)
        page, ended = yield from bearing_outages(
            deployment, deadline, partial(event_page, deployment, run_id, seen), nothing
        )


def attempts(deployment: Deployment, run_id: str) -> Operation[list[NodeAttempt]]:
    """Every attempt in the run's history."""
    found: list[RunEvent] = []
    ended = False
    while not ended:
        page, ended = yield from event_page(deployment, run_id, int(found[-1].id) if found else 0)
        ended = ended or not page
        found += page
    return attempts_of(found)


def last_event_id(deployment: Deployment, run_id: str) -> Operation[str]:
    """The id of the latest event of a run."""
    keys = yield from keys_of(deployment, run_id)
    head, count = yield Batch(
        (command("HMGET", keys.run(run_id), "st", "ev0"), command("LLEN", keys.events(run_id))), atomic=True
    )
    if head[0] is None:
        yield from missing(keys.gone, run_id)
    try:
        return str(int(head[1] or 0) + int(count))
    except UNREADABLE as error:
        raise RunBrokenError(run_id, f"{type(error).__name__}: {error}") from error


def position_of(after: str | None, what: str = "an event") -> int:
    """The number that an id stands for, 0 for none.

    Raises:
        ConfigurationError: it is no id.
    """
    if after is None:
        return 0
    if not isinstance(after, str) or not re.fullmatch(rf"[0-9]{{1,{LONGEST_EVENT_ID}}}", after):
        raise ConfigurationError(f"after is the id of {what}, got {shown(after)}")
    return int(after)


def event_page(deployment: Deployment, run_id: str, seen: int) -> Operation[tuple[list[RunEvent], bool]]:
    """Events behind an id, at most a page, and whether the run has ended and these are the last.

    Positions in the list shift when its head is trimmed, so how much is trimmed is read in the same moment.
    """
    keys, trimmed = (yield from keys_of(deployment, run_id)), 0
    while True:
        first = max(0, seen - trimmed)
        head, entries = yield Batch(
            (
                command("HMGET", keys.run(run_id), "st", "cr", "ev0"),
                command("LRANGE", keys.events(run_id), first, first + EVENTS_A_PAGE - 1),
            ),
            atomic=True,
        )
        if head[0] is None:
            yield from missing(keys.gone, run_id)
        try:
            cut, created = int(head[2] or 0), float(head[1])
            found = [
                parse_event(trimmed + first + i + 1, text(entry), created, run_id) for i, entry in enumerate(entries)
            ]
        except UNREADABLE as error:
            raise RunBrokenError(run_id, f"{type(error).__name__}: {error}") from error
        if cut == trimmed:
            break
        trimmed = cut
    if seen < trimmed and found:
        lost = {"count": trimmed - seen}
        found.insert(0, typed_event(run_id=run_id, id=str(trimmed), type="events_truncated", at=found[0].at, data=lost))
    return found, RunStatus(text(head[0])).is_terminal and len(entries) < EVENTS_A_PAGE
