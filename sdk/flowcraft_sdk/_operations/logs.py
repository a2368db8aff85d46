"""Reading what nodes of a run have logged: what is kept, then what comes, until the run has ended."""

import json
from functools import partial
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, Seconds, keys_of, text
from flowcraft_sdk._operations.effects import Batch, Operation, Subscribe, WaitForNotification, Yield, command
from flowcraft_sdk._operations.runs import status
from flowcraft_sdk._operations.streams import plan_with_node
from flowcraft_sdk._operations.tombstones import missing
from flowcraft_sdk._operations.wait import (
    LISTEN_WAIT,
    LOOK_AGAIN,
    Deadline,
    bearing_outages,
    position_of,
    timed_out,
)
from flowcraft_sdk.errors import RunBrokenError
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, check_text
from flowcraft_sdk.protocol.run_record import UNREADABLE, moment
from flowcraft_sdk.records import LogLine, RunStatus

LINES_A_PAGE = 200
Page = tuple[list[LogLine], int, bool]
"""Lines, the number of the last one that was looked at, and whether the run has ended and these are the last."""


def logs(
    deployment: Deployment,
    run_id: str,
    node_id: str | None,
    after: str | None,
    follow: bool,
    timeout: Seconds | None,
    handle: Any,
) -> Operation[None]:
    """Yield the lines that nodes of a run have logged, behind an id; with `follow` also those to come.

    Raises:
        NodeNotFoundError: the run has no such node.
        WaitTimeoutError: the run has not ended in time.
    """
    deadline, seen = Deadline(timeout), position_of(after, "a line")
    if node_id is not None:
        named = _names(check_text(node_id, "node", LONGEST_PATH))[-1]
        yield from plan_with_node(deployment, run_id, named, node_id)
    page, seen, ended = yield from _page(deployment, run_id, seen)
    if follow and not ended:
        keys = yield from keys_of(deployment, run_id)
        yield Subscribe((keys.channel(run_id),), deadline.remaining(LISTEN_WAIT))
        if not page:  # something may have been logged before the subscription began
            page, seen, ended = yield from _page(deployment, run_id, seen)
    while True:
        for line in page:
            if node_id is None or node_id in _names(line.node_id):
                yield Yield(line)
        if ended or (not page and not follow):
            return
        if not page and deadline.expired:
            now = yield from status(deployment, run_id)
            raise (yield from timed_out(deployment, run_id, now, deadline, handle))
        if not page:
            yield WaitForNotification(deadline.remaining(LOOK_AGAIN))
        nothing: Page = ([], seen, False)
        page, seen, ended = yield from bearing_outages(
            deployment, deadline, partial(_page, deployment, run_id, seen), nothing
        )


def _names(node_id: str) -> tuple[str, str, str]:
    """What stands for an instance in a filter: itself, without its round, and the node alone."""
    instance = node_id.partition("#")[0]
    return node_id, instance, instance.partition("[")[0]


def _page(deployment: Deployment, run_id: str, seen: int) -> Operation[Page]:
    keys = yield from keys_of(deployment, run_id)
    numbers = range(seen + 1, seen + LINES_A_PAGE + 1)
    head, entries = yield Batch(
        (command("HMGET", keys.run(run_id), "st", "cr"), command("HMGET", keys.logs(run_id), "q", *numbers)),
        atomic=True,
    )
    if head[0] is None:
        yield from missing(keys.gone, run_id)
    try:
        first, following, _ = (int(part) for part in text(entries[0] or b"1|1|0").split("|"))
        if seen + 1 < first:  # what was there has made room for later lines
            page, last, ended = yield from _page(deployment, run_id, first - 1)
            lost = first - 1 - seen
            return [page[0].model_copy(update={"missing": lost}), *page[1:]] if page else [], last, ended
        created = float(head[1])
        lines = [
            _line(number, text(entry), created)
            for number, entry in zip(numbers, entries[1:], strict=True)
            if entry is not None
        ]
    except UNREADABLE as error:
        raise RunBrokenError(run_id, f"its log: {type(error).__name__}: {error}") from error
    last = min(seen + LINES_A_PAGE, following - 1)
    return lines, max(seen, last), RunStatus(text(head[0])).is_terminal and last == following - 1


def _line(number: int, entry: str, created_ms: float) -> LogLine:
    ms, node_id, attempt, level, rest = entry.split("|", 4)
    about = json.loads(rest)
    return LogLine(
        id=str(number),
        at=moment(created_ms + float(ms)),
        node_id=node_id,
        attempt=int(attempt),
        level=level,
        message=about["message"],
        fields=about.get("fields", {}),
        traceback=about.get("traceback", ""),
    )
