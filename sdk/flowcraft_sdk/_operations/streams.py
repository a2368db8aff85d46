"""Following what a node streams: subscribe, *then* read, then wait for a notification, as in `wait`."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, Seconds, keys_of, plan_document, text
from flowcraft_sdk._operations.effects import Batch, Operation, Subscribe, WaitForNotification, Yield, command
from flowcraft_sdk._operations.runs import status
from flowcraft_sdk._operations.tombstones import missing
from flowcraft_sdk._operations.wait import LISTEN_WAIT, LOOK_AGAIN, Deadline, bearing_outages, timed_out
from flowcraft_sdk.errors import ConfigurationError, NodeNotFoundError, RunBrokenError
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, STREAM_ID, check_text, shown
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.lua_source import fields_of
from flowcraft_sdk.protocol.run_record import UNREADABLE, node_status
from flowcraft_sdk.records import NodeStatus, RunStatus
from flowcraft_sdk.records.streams import StreamEnded, StreamGap, StreamItem, StreamStarted, StreamText

ENTRIES_A_PAGE = 1_000

_ITEM = re.compile(r"^(.+)\[([0-9]{1,10})\]$")
_MOST_COMPARED = 2_000
"""Nodes of a blueprint that a name is compared with."""
_OVER = {NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node's stream is.

    Attributes:
        loop: the outermost loop around the node, '' for none: until it has ended, the node may run again.
    """

    keys: Keys
    run_id: str
    instance_id: str
    loop: str


@dataclass(frozen=True, slots=True)
class _Page:
    """What was read of a stream.

    Attributes:
        position: number of the claim and of the entry up to which it was read.
        more: whether there may be more already.
        ended: how the node has ended, if it has, for good.
    """

    items: tuple[StreamItem, ...]
    position: tuple[int, int]
    more: bool
    ended: NodeStatus | None


def stream(
    deployment: Deployment, run_id: str, node_id: str, after: str | None, timeout: Seconds | None, handle: Any
) -> Operation[None]:
    """Yield what a node streams behind an id, until it has ended; the last item says how.

    Raises:
        NodeNotFoundError: there is no such node.
        WaitTimeoutError: it has not ended in time.
    """
    deadline, position = Deadline(timeout), position_of_item(after)
    place = yield from _place(deployment, run_id, check_text(node_id, "node_id", LONGEST_PATH))
    channels = place.keys.stream(run_id, node_id), place.keys.channel(run_id)
    subscribed = False
    while True:
        nothing = _Page((), position, False, None)
        page = yield from bearing_outages(deployment, deadline, partial(_page, place, position), nothing)
        for item in page.items:
            yield Yield(item)
        position = page.position
        if page.more:
            continue
        if page.ended is not None:
            yield Yield(StreamEnded(id=f"{position[0]}-{position[1]}-end", status=page.ended))
            return
        if deadline.expired:
            now = yield from status(deployment, run_id)
            raise (yield from timed_out(deployment, run_id, now, deadline, handle))
        if subscribed:
            yield WaitForNotification(deadline.remaining(LOOK_AGAIN))
        else:  # what came before the subscription began is read before it is waited for more
            yield Subscribe(channels, deadline.remaining(LISTEN_WAIT))
            subscribed = True


def position_of_item(after: str | None) -> tuple[int, int]:
    """Number of the claim and of the entry that an item's id stands for; zeros for none.

    Raises:
        ConfigurationError: it is no such id.
    """
    if after is None:
        return 0, 0
    if not isinstance(after, str) or not re.fullmatch(STREAM_ID, after):
        raise ConfigurationError(f"after is the id of an item of a stream, got {shown(after)}")
    claims, number = after.split("-")[:2]
    return int(claims), int(number)


def _place(deployment: Deployment, run_id: str, instance_id: str) -> Operation[_Place]:
    keys = yield from keys_of(deployment, run_id)
    node = instance_id.partition("[")[0]
    plan = yield from plan_with_node(deployment, run_id, node, instance_id)
    raw = yield command("HGET", keys.plan(plan), f"n:{node}")
    entry = json.loads(raw) if raw is not None else []
    options = dict(zip(fields_of("plan", "entry"), entry, strict=False)).get("options") or {}
    return _Place(keys, run_id, instance_id, next(iter(options.get("loops") or ()), ""))


def plan_with_node(deployment: Deployment, run_id: str, node: str, shown_as: str) -> Operation[str]:
    """The plan of a run, which has this node, or to which a handler has added it.

    Raises:
        NodeNotFoundError: there is no such node.
    """
    keys = yield from keys_of(deployment, run_id)
    plan, dynamic = yield command("HMGET", keys.run(run_id), "plan", f"y:{node}")
    if plan is None:
        yield from missing(keys.gone, run_id)
    doc = yield from plan_document(deployment, text(plan))
    known = [str(each["id"]) for each in (doc or {}).get("nodes", ())]
    if dynamic is None and node not in known:
        near = difflib.get_close_matches(node, known[:_MOST_COMPARED], 1)
        hint = f"did you mean '{near[0]}'?" if near else "a node of a child run is followed by the id of that run"
        raise NodeNotFoundError(f"run {run_id} has no node '{shown_as}'; {hint}")
    return text(plan)


def _page(place: _Place, position: tuple[int, int]) -> Operation[_Page]:
    keys, run_id, instance_id = place.keys, place.run_id, place.instance_id
    item = _ITEM.match(instance_id)
    batch = (keys.batch(run_id, item[1]), f"r:{item[2]}") if item else (keys.batch(run_id, ""), "")
    head, entries, is_done = yield Batch(
        (
            command("HMGET", keys.run(run_id), "st", f"n:{instance_id}", f"l:{place.loop}"),
            command(
                "XRANGE",
                keys.stream(run_id, instance_id),
                f"({position[0]}-{position[1]}",
                "+",
                "COUNT",
                ENTRIES_A_PAGE,
            ),
            command("HEXISTS", *batch),
        ),
        atomic=True,
    )
    if head[0] is None:
        yield from missing(keys.gone, run_id)
    try:
        items, seen = _items(entries, position)
        node = NodeStatus.COMPLETED if head[1] is None and is_done else node_status(text(head[1] or b"P"))
        has_ended = RunStatus(text(head[0])).is_terminal
        # Within a loop the node may run again: what has come of a round is its end once the loop is over.
        closed = not place.loop or (text(head[2] or b"").count("|") == 3 and not text(head[2]).endswith("|"))
    except UNREADABLE as error:
        raise RunBrokenError(run_id, f"{type(error).__name__}: {error}") from error
    ended = node if has_ended or (node in _OVER and closed) else None
    return _Page(tuple(items), seen, len(entries) == ENTRIES_A_PAGE, ended)


def _items(
    entries: Sequence[tuple[Any, Mapping[Any, Any]]], position: tuple[int, int]
) -> tuple[list[StreamItem], tuple[int, int]]:
    """The items that entries stand for: those of a part that follow each other are one. And the position behind them."""
    items: list[StreamItem] = []
    claims, number = position
    for id_, raw in entries:
        fields = {text(name): text(value) for name, value in raw.items()}
        its_claims, its_number = map(int, text(id_).split("-"))
        if its_claims != claims:
            items.append(StreamStarted(id=f"{its_claims}-0", attempt=int(fields["a"])))
            claims, number = its_claims, 0
        if its_number != number + 1:
            items.append(StreamGap(id=f"{claims}-{its_number - 1}"))
        number = its_number
        last = items[-1] if items else None
        if isinstance(last, StreamText) and last.part == fields["p"]:
            items[-1] = StreamText(id=text(id_), text=last.text + fields["t"], part=last.part)
        else:
            items.append(StreamText(id=text(id_), text=fields["t"], part=fields["p"]))
    return items, (claims, number)
