"""Following what a node streams over HTTP: a stream of the API, opened again behind the last item where it breaks off."""

from collections.abc import Callable, Mapping
from typing import Any

from flowcraft_sdk._operations.deployment import Seconds
from flowcraft_sdk._operations.effects import Yield
from flowcraft_sdk._operations.http_calls import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    event_data,
    next_event,
    problem_in,
    record_of,
)
from flowcraft_sdk._operations.http_effects import HttpOperation, OpenStream, Pause, Reply, Request, path_of
from flowcraft_sdk._operations.problems import raise_problem
from flowcraft_sdk._operations.streams import position_of_item
from flowcraft_sdk._operations.wait import Deadline
from flowcraft_sdk.errors import BackendUnavailableError, WaitTimeoutError
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, check_text
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.records import StreamEnded, StreamGap, StreamItem, StreamStarted, StreamText

LONGEST_STREAM = 3600.0
"""Seconds after which a stream is opened again."""

ASKED = "follow what the node streams"
ITEMS: Mapping[str, type[StreamItem]] = {
    "started": StreamStarted,
    "text": StreamText,
    "gap": StreamGap,
    "end": StreamEnded,
}


def stream(
    run_id: str,
    node_id: str,
    after: str | None,
    timeout: Seconds | None,
    max_outage: float,
    timed_out: Callable[[Deadline], HttpOperation[WaitTimeoutError]],
) -> HttpOperation[None]:
    """Yield what a node streams behind an id, until it has ended; the last item says how.

    Args:
        run_id, node_id, after, timeout: as for `handle.stream`.
        max_outage: seconds that the API may be away.
        timed_out: makes the error for the time being over.
    """
    deadline = Deadline(timeout)
    position_of_item(after)
    seen = "0-0" if after is None else after.removesuffix("-end")
    check_text(node_id, "node_id", LONGEST_PATH)
    since: float | None = None
    pause = FIRST_PAUSE
    while True:
        span = deadline.remaining(LONGEST_STREAM)
        query = [("after", seen), ("wait", f"{span:.3f}")]
        path = path_of("runs", run_id, "nodes", node_id, "stream", query=query)
        last = ""
        try:
            reply: Reply = yield OpenStream(Request("GET", path, headers={"accept": "text/event-stream"}), span)
            raise_problem(reply, ASKED)
            while (event := (yield from next_event())) is not None:
                if event.kind not in ITEMS:
                    last = event.kind
                    break
                data: dict[str, Any] = {**event_data(event), "id": event.id}
                item = record_of(ITEMS[event.kind], data)
                position_of_item(item.id)
                seen, since, pause = item.id, None, FIRST_PAUSE
                yield Yield(item)
                if isinstance(item, StreamEnded):
                    return
            if last == "problem" and event is not None:
                raise problem_in(event, ASKED)
        except BackendUnavailableError:
            since = since or clock()
            if clock() - since >= max_outage:
                raise
        if deadline.expired:
            raise (yield from timed_out(deadline))
        if last != "timeout":
            yield Pause(deadline.remaining(pause))
            pause = min(pause * 2, LONGEST_PAUSE)
