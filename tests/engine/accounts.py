"""Whether the ways to look at a run report the same of it: its record and its history."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flowcraft_sdk import NodeSnapshot, RunEvent

ENDS = ("node_completed", "node_failed", "node_recovered", "node_cancelled", "node_retrying")


def disagreements(handle: Any) -> list[str]:
    """Where `describe`, `events` and `attempts` differ on when a node of an ended run began, waited and ended."""
    events = [event for event in handle.events(follow=False) if event.node_id is not None]
    history: dict[str, list[RunEvent]] = {}
    for event in events:
        history.setdefault(event.node_id or "", []).append(event)
    found = []
    attempts = handle.attempts()
    for node_id, node in handle.describe().nodes.items():
        rounds = [name for name in history if name == node_id or name.startswith(f"{node_id}#")]
        if not rounds or (node.started_at is None and node.ended_at is None):
            continue  # it never ran
        ran = [name for name in rounds if any(event.type != "node_skipped" for event in history[name])]
        chosen = ran[-1] if ran else rounds[-1]  # of a node that was skipped in its last round, the one before
        own = history[chosen]
        name, _, number = chosen.partition("#")
        rows = [
            row
            for row in attempts
            if f"{row.node_id}[{row.item}]" == name or (row.node_id == name and row.item is None)
        ]
        rows = [row for row in rows if row.round == number]
        found += [f"{chosen}: {what}" for what in _of_a_node(node, own, rows)]
    return found


def _of_a_node(node: NodeSnapshot, own: list[RunEvent], rows: list[Any]) -> Iterator[str]:
    starts = [event for event in own if event.type == "node_started"]
    numbers = [event.data["attempt"] for event in starts]
    redone = {"node_taken_over", "node_handed_back"} & {event.type for event in own}
    if not redone and numbers != list(range(1, len(numbers) + 1)):
        yield f"attempts {numbers} began"
    began = starts[0].at if starts else None
    if node.started_at != began and not redone:
        yield f"began at {node.started_at}, by its history at {began}"
    if [row.attempt for row in rows] != numbers and not redone:
        yield f"attempts {rows} for {numbers}"
    last = [event.at for event in own if event.type in ENDS]
    if node.ended_at != (last[-1] if last else None):
        yield f"ended at {node.ended_at}, by its history at {last[-1:]}"
    waited = sum((end - since).total_seconds() for since, end in _waits(own))
    if abs(node.waited - waited) > 1e-6:
        yield f"waited {node.waited} s, by its history {waited} s"


def _waits(own: list[RunEvent]) -> Iterator[tuple[datetime, datetime]]:
    since = None
    for event in own:
        if event.type == "node_waiting":
            since = event.at
        elif since is not None and event.type in ("node_resumed", *ENDS):
            yield since, event.data.get("ready_at", event.at)
            since = None
