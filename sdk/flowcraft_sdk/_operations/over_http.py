"""What clients can do with runs, for a deployment that is reached through its HTTP API."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flowcraft_sdk._operations import http_streams
from flowcraft_sdk._operations.deployment import Seconds
from flowcraft_sdk._operations.effects import Yield
from flowcraft_sdk._operations.http_admin import HttpAdministration
from flowcraft_sdk._operations.http_calls import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    LONGEST_WAIT,
    bearing_outages,
    behind,
    call,
    event_data,
    event_of,
    from_json,
    member,
    next_event,
    problem_in,
    record_of,
    records_of,
)
from flowcraft_sdk._operations.http_effects import (
    HttpOperation,
    OpenStream,
    Pause,
    Reply,
    Request,
    json_object,
    node_path,
    path_of,
)
from flowcraft_sdk._operations.problems import raise_problem
from flowcraft_sdk._operations.rerun import FromNode, Rerun, checked_order
from flowcraft_sdk._operations.signals import checked_id
from flowcraft_sdk._operations.start import StartOptions, checked_options
from flowcraft_sdk._operations.wait import IDLE_WARNING, Deadline, position_of
from flowcraft_sdk.errors import (
    BackendUnavailableError,
    ConfigurationError,
    FlowcraftError,
    RunCancelledError,
    RunFailedError,
    RunTimedOutError,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import (
    LONGEST_NAME,
    LONGEST_PATH,
    LONGEST_REASON,
    MOST_MESSAGE_BYTES,
    check_span,
    check_text,
)
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.context_input import (
    as_context,
    check_known_run_id,
    check_run_id,
    encoded,
    id_below,
)
from flowcraft_sdk.protocol.trace_context import current_traceparent
from flowcraft_sdk.protocol.usage_sums import budget_of
from flowcraft_sdk.records import LogLine, NodeAttempt, RunSnapshot, RunStatus

MOST_EVENTS = 1_000
MOST_AWAITED = 10_000
"""Runs that one request waits for."""

LAST_EVENTS = frozenset({"end", "problem", "dropped", "closing", "timeout"})
"""Kinds of the last event of a stream."""

LOG_PAUSE = 1.0
"""Seconds between two looks for lines of a run that goes on."""

LONGEST_STREAM = 3600.0
"""Seconds after which a stream is opened again."""

Look = Callable[[float], HttpOperation[tuple[RunStatus, Any]]]
"""Reads a run's state, and what belongs to it; it may wait so many seconds for a change."""


class HttpOperations(HttpAdministration):
    """The operations of the clients that reach the HTTP API; `RedisOperations` has the same ones.

    Args:
        address: of the API, for messages.
        max_outage: seconds that a wait bears the API being away.
        max_value: bytes that one value of a start context may have.
    """

    def __init__(self, address: str, max_outage: float, max_value: int) -> None:
        self.address = address
        self.max_outage = max_outage
        self.max_value = max_value

    def choose_run_id(self, run_id: str | None, parent: Any) -> HttpOperation[str]:
        """The id of a run with a parent: the one that is given, or a new one in the partition of its parent."""
        parent_id = check_known_run_id(getattr(parent, "run_id", parent))
        yield from ()  # an operation is a generator, also one that asks for nothing
        return check_run_id(run_id, parent_id) if run_id is not None else id_below(parent_id)

    def start(self, blueprint_id: str, ctx: Any, run_id: str, options: StartOptions) -> HttpOperation[str | None]:
        """Start a run; the value is None if it was there already."""
        check_text(blueprint_id, "a blueprint id", LONGEST_NAME)
        checked = checked_options(options)
        start_at, budget = options.get("start_at"), budget_of(options.get("budget"))
        body = json_object(
            {
                "blueprint": blueprint_id,
                "ctx": json_object(encoded(as_context(ctx), self.max_value)),
                "run_id": run_id,
                "on_conflict": checked["on_conflict"],
                "delay": checked["delay"],
                "start_at": None if start_at is None else start_at.isoformat(),
                "run_timeout": check_span(options.get("run_timeout"), "run_timeout"),
                "tags": checked["tags"] or None,
                "memo": checked["memo"] or None,
                "version": checked["version"] or None,
                "parent": checked["parent"] or None,
                "priority": checked["priority"] or None,
                "budget": None if budget is None else budget.model_dump(exclude_none=True),
                "key": checked["key"] or None,
                "on_parent_cancel": checked["on_parent_cancel"] or None,
            }
        )
        once = checked["on_conflict"] == "raise"  # the second of two requests would find the run of the first
        trace = current_traceparent()
        headers = {"traceparent": trace} if trace else None
        reply = yield from call(Request("POST", path_of("runs"), body, headers, repeatable=not once), "start a run")
        return None if member(reply, "attached", bool) else ""

    def status(self, run_id: str) -> HttpOperation[RunStatus]:
        """A run's state."""
        return (yield from self._status(run_id, frozenset(), 0.0))[0]

    def done(self, run_id: str) -> HttpOperation[bool]:
        """Whether a run has ended."""
        return (yield from self.status(run_id)).is_terminal

    def _status(self, run_id: str, wanted: frozenset[RunStatus], span: float) -> HttpOperation[tuple[RunStatus, Any]]:
        until = [("until", status.value) for status in sorted(wanted)]
        query = [*until, ("wait", f"{span:.3f}")] if span else []
        request = Request("GET", path_of("runs", run_id, "status", query=query), wait=span)
        reply = yield from call(request, "read the run's status")
        return RunStatus(member(reply, "status", str)), None

    def _result(self, run_id: str, span: float) -> HttpOperation[tuple[RunStatus, Any]]:
        query = [("full", "true"), ("wait", f"{span:.3f}" if span else None)]
        request = Request("GET", path_of("runs", run_id, "result", query=query), wait=span)
        reply = yield from call(request, "read the run's result")
        return RunStatus(member(reply, "status", str)), reply.json().get("output")

    def wait_for(
        self, run_id: str, wanted: frozenset[RunStatus], timeout: Seconds | None, handle: Any
    ) -> HttpOperation[RunStatus]:
        """Wait until the run is in a wanted state or has ended."""
        look = partial(self._status, run_id, wanted)
        return (yield from self._until(run_id, wanted, timeout, handle, look))[0]

    def _until(
        self, run_id: str, wanted: frozenset[RunStatus], timeout: Seconds | None, handle: Any, look: Look
    ) -> HttpOperation[tuple[RunStatus, Any]]:
        """Look until the run is in a wanted state or has ended; what was seen then."""
        deadline, warned = Deadline(timeout), False
        span = deadline.remaining(IDLE_WARNING) if handle.just_started else 0.0
        seen = yield from look(span)  # an unknown run, or no API at all, shows at once
        while not (seen[0].is_terminal or seen[0] in wanted):
            if deadline.expired:
                raise (yield from self._timed_out(run_id, seen[0], deadline, handle))
            if not warned and deadline.waited >= IDLE_WARNING:
                warned = True
                yield from self._warn_if_nobody_works(run_id)
            again = partial(look, deadline.remaining(LONGEST_WAIT if warned else IDLE_WARNING))
            seen = (yield from bearing_outages(again, deadline, self.max_outage)) or seen
        return seen

    def _timed_out(
        self, run_id: str, now: RunStatus, deadline: Deadline, handle: Any
    ) -> HttpOperation[WaitTimeoutError]:
        alive = yield from self._live_workers()
        return WaitTimeoutError(run_id, now.value, deadline.waited, handle, alive)

    def _live_workers(self) -> HttpOperation[int | None]:
        try:
            return (yield from self.ping()).workers
        except FlowcraftError:
            return None

    def _warn_if_nobody_works(self, run_id: str) -> HttpOperation[None]:
        if (yield from self._live_workers()) == 0:
            logging.getLogger("flowcraft_sdk").warning("waiting for run %s, but no worker is alive", run_id)

    def result(self, run_id: str, timeout: Seconds | None, handle: Any) -> HttpOperation[Any]:
        """Wait for the end and return the output, or raise by how the run ended."""
        look = partial(self._result, run_id)
        status, output = yield from self._until(run_id, frozenset(), timeout, handle, look)
        if status is RunStatus.COMPLETED:
            return wire.revive(output)
        snapshot = yield from self.describe(run_id, False, False)
        if status is RunStatus.CANCELLED:
            raise RunCancelledError(snapshot)
        if status is RunStatus.TIMED_OUT:
            raise RunTimedOutError(snapshot)
        raise RunFailedError(snapshot)

    def wait(self, run_id: str, timeout: Seconds | None, handle: Any) -> HttpOperation[RunSnapshot]:
        """Wait for the end, however it comes."""
        yield from self.wait_for(run_id, frozenset(), timeout, handle)
        return (yield from self.describe(run_id, False, True))

    def as_completed(self, handles: Mapping[str, Any], timeout: Seconds | None) -> HttpOperation[None]:
        """Yield each of the handles, given by run id, as its run ends."""
        for handle in handles.values():
            if handle.namespace != self.address:
                raise ConfigurationError(f"run {handle.run_id} belongs to {handle.namespace}, not {self.address}")
        if len(handles) > MOST_AWAITED:
            raise ConfigurationError(f"over HTTP, {MOST_AWAITED:,} runs can be waited for at most together")
        deadline, pending, span = Deadline(timeout), dict(handles), 0.0
        while pending:
            look = partial(self._ended, list(pending), span)
            ended = yield from bearing_outages(look, deadline, self.max_outage)
            for run_id in ended or ():
                if run_id in pending:
                    yield Yield(pending.pop(run_id))
            if pending and not ended and deadline.expired:
                first = next(iter(pending))
                now = yield from self.status(first)
                raise (yield from self._timed_out(first, now, deadline, handles[first]))
            span = deadline.remaining(LONGEST_WAIT)

    def _ended(self, run_ids: list[str], wait: float) -> HttpOperation[list[str]]:
        query = [("wait", f"{wait:.3f}")] if wait else []
        request = Request("POST", path_of("runs", "wait", query=query), json_object({"run_ids": run_ids}), wait=wait)
        reply = yield from call(request, "wait for runs")
        return [str(run_id) for run_id in member(reply, "ended", list)]

    def events(
        self, run_id: str, after: str | None, follow: bool, children: bool, timeout: Seconds | None, handle: Any
    ) -> HttpOperation[None]:
        """Yield a run's events behind an id; with `follow` also those to come, until it has ended.

        With `children` those of the runs below it come, too: several histories have no common position, so a stream that breaks
        begins anew, and what has been seen is left out.
        """
        deadline, seen = Deadline(timeout), str(position_of(after))
        if children and after is not None:
            raise ConfigurationError("after is the id of an event of one run: leave it out, or children")
        if not follow and not children:
            yield from self._history(run_id, seen)
            return
        known: dict[str, int] = {}
        since: float | None = None
        pause = FIRST_PAUSE
        while True:
            span = deadline.remaining(LONGEST_STREAM) if follow else 0.0
            query = [("wait", f"{span:.3f}"), ("children", "true" if children else None)]
            headers = {"accept": "text/event-stream", **({} if children else {"last-event-id": seen})}
            last, event, fresh = None, None, False
            try:
                path = path_of("runs", run_id, "events", query=query)
                reply: Reply = yield OpenStream(Request("GET", path, headers=headers), span)
                raise_problem(reply, "read the run's events")
                if reply.status == 204:
                    return
                while (event := (yield from next_event())) is not None:
                    if event.kind in LAST_EVENTS:
                        last = event.kind
                        break
                    found = event_of(event_data(event))
                    if int(found.id) > known.get(found.run_id, -1):
                        known[found.run_id], seen, fresh = int(found.id), found.id, True
                        yield Yield(found)
                if last == "problem" and event is not None:
                    raise problem_in(event, "read the run's events")
            except BackendUnavailableError:
                since = since or clock()
                if clock() - since >= self.max_outage:
                    raise
            if last == "end" or (last == "timeout" and not follow):
                return
            if last is not None or fresh:
                since, pause = None, FIRST_PAUSE
            if deadline.expired:
                now = yield from self.status(run_id)
                if now.is_terminal and not children:
                    yield from self._history(run_id, seen)
                if now.is_terminal:
                    return
                raise (yield from self._timed_out(run_id, now, deadline, handle))
            if last != "timeout":
                yield Pause(deadline.remaining(pause))
                pause = min(pause * 2, LONGEST_PAUSE)

    def _history(self, run_id: str, seen: str) -> HttpOperation[None]:
        while True:
            query = [("after", seen), ("limit", MOST_EVENTS)]
            reply = yield from call(
                Request("GET", path_of("runs", run_id, "events", query=query)), "read the run's events"
            )
            items = member(reply, "items", list)
            for item in items:
                event = event_of(item)
                seen = behind(seen, event.id)
                yield Yield(event)
            if len(items) < MOST_EVENTS:
                return

    def logs(
        self,
        run_id: str,
        node_id: str | None,
        after: str | None,
        follow: bool,
        timeout: Seconds | None,
        handle: Any,
    ) -> HttpOperation[None]:
        """Yield the lines that nodes of a run have logged, behind an id; with `follow` also those to come."""
        deadline, seen = Deadline(timeout), str(position_of(after, "a line"))
        if node_id is not None:
            check_text(node_id, "node", LONGEST_PATH)
        while True:
            look = partial(self._log_page, run_id, node_id, seen)
            page = yield from bearing_outages(look, deadline, self.max_outage)
            items, more = page or ([], True)
            for line in items:
                seen = behind(seen, line.id)
                yield Yield(line)
            if not more or (not follow and not items):
                return
            if items or not follow:
                continue
            if deadline.expired:
                now = yield from self.status(run_id)
                raise (yield from self._timed_out(run_id, now, deadline, handle))
            # Lines are looked for every second, and at once when the run has ended.
            pause = partial(self._status, run_id, frozenset(), deadline.remaining(LOG_PAUSE))
            yield from bearing_outages(pause, deadline, self.max_outage)

    def _log_page(self, run_id: str, node_id: str | None, seen: str) -> HttpOperation[tuple[list[LogLine], bool]]:
        query = [("node", node_id), ("after", seen), ("limit", MOST_EVENTS)]
        reply = yield from call(Request("GET", path_of("runs", run_id, "logs", query=query)), "read the run's logs")
        items = [record_of(LogLine, each) for each in member(reply, "items", list)]
        return items, reply.json().get("next_after") is not None

    def stream(
        self, run_id: str, node_id: str, after: str | None, timeout: Seconds | None, handle: Any
    ) -> HttpOperation[None]:
        """Yield what a node streams behind an id, until it has ended; the last item says how."""

        def timed_out(deadline: Deadline) -> HttpOperation[WaitTimeoutError]:
            now = yield from self.status(run_id)
            return (yield from self._timed_out(run_id, now, deadline, handle))

        return http_streams.stream(run_id, node_id, after, timeout, self.max_outage, timed_out)

    def last_event_id(self, run_id: str) -> HttpOperation[str]:
        """The id of the latest event of a run."""
        request = Request("GET", path_of("runs", run_id, "events", "last"))
        return member((yield from call(request, "read the run's events")), "id", str)

    def attempts(self, run_id: str) -> HttpOperation[list[NodeAttempt]]:
        """Every attempt in the run's history."""
        request = Request("GET", path_of("runs", run_id, "attempts"))
        return records_of(NodeAttempt, (yield from call(request, "read the run's attempts")))

    def describe(self, run_id: str, ctx: bool, outputs: bool) -> HttpOperation[RunSnapshot]:
        """A picture of a run."""
        query = [("ctx", "true" if ctx else None), ("outputs", "true" if outputs else None), ("full", "true")]
        reply = yield from call(Request("GET", path_of("runs", run_id, query=query)), "describe the run")
        return record_of(RunSnapshot, reply.json())

    def cancel(self, run_id: str, reason: str, grace: Seconds | None) -> HttpOperation[bool]:
        """Ask a run to stop; False if it had ended."""
        check_text(reason, "reason", LONGEST_REASON, least=0)
        body = json_object({"reason": reason, "grace": check_span(grace, "grace")})
        reply = yield from call(Request("POST", path_of("runs", run_id, "cancel"), body), "cancel the run")
        return member(reply, "in_force", bool)

    def rerun(
        self,
        run_id: str,
        from_node: FromNode,
        ctx_patch: Any,
        version: str,
        new_id: str | None,
        on_conflict: str = "attach",
    ) -> HttpOperation[Rerun]:
        """Do an ended run again."""
        order = checked_order(from_node, version, new_id, on_conflict)
        body = json_object(
            {
                "from": from_json(order),
                "patch": json_object(encoded(as_context(ctx_patch), self.max_value)),
                "blueprint_version": version,
                "run_id": new_id,
                "on_conflict": on_conflict,
            }
        )
        once = new_id is None or on_conflict == "raise"
        request = Request("POST", path_of("runs", run_id, "rerun"), body, repeatable=not once)
        reply = yield from call(request, "do the run again")
        return Rerun(member(reply, "run_id", str), member(reply, "attached", bool))

    def delete(self, run_id: str) -> HttpOperation[bool]:
        """Remove an ended run; False if it had been removed before."""
        reply = yield from call(Request("DELETE", path_of("runs", run_id)), "delete the run")
        return member(reply, "deleted", int) > 0

    def signal(
        self, run_id: str, node_id: str | None, payload: Any, action: str | None, signal_id: str | None, buffer: bool
    ) -> HttpOperation[str]:
        """Give a waiting node its answer; the value names the node that got it."""
        chosen, path = checked_id(signal_id, "a signal id"), node_id or ""
        check_text(path, "node_id", LONGEST_PATH, least=0)
        if action is not None:
            check_text(action, "an action", LONGEST_NAME)
        if buffer and not path:
            raise ConfigurationError("buffer=True needs node_id: it is not known yet which node will wait")
        body = json_object(
            {
                "payload": wire.dumps(payload, path="payload", limit=self.max_value),
                "action": action,
                "signal_id": chosen,
                "buffer": buffer,
            }
        )
        parts = node_path(path) if path else ()
        reply = yield from call(Request("POST", path_of("runs", run_id, "signals", *parts), body), "signal the run")
        return member(reply, "node_id", str)

    def send(self, run_id: str, node_id: str, message: Any, message_id: str | None) -> HttpOperation[str]:
        """Keep a message for a node; the value names the node that gets it."""
        chosen = checked_id(message_id, "a message id")
        path = check_text(node_id, "node_id", LONGEST_PATH)
        body = json_object(
            {"message": wire.dumps(message, path="message", limit=MOST_MESSAGE_BYTES), "message_id": chosen}
        )
        request = Request("POST", path_of("runs", run_id, "messages", *node_path(path)), body)
        return member((yield from call(request, "send the message")), "node_id", str)
