"""The steps of nodes that have not ended."""

from collections.abc import Mapping
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, keys_of
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.run_record import UNREADABLE, moment
from flowcraft_sdk.protocol.step_script import FAILED, StepEntry, read_entry
from flowcraft_sdk.records import NodeSnapshot, NodeStatus, RunSnapshot
from flowcraft_sdk.records.steps import StepRecord

MOST_NODES = 100
"""Nodes whose steps are read for one picture of a run."""

_ENDED = (NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED)


def with_steps(deployment: Deployment, snapshot: RunSnapshot) -> Operation[RunSnapshot]:
    """A picture of a run, with the recorded steps of its nodes."""
    names = [name for name, node in snapshot.nodes.items() if node.step_totals and node.status not in _ENDED][
        :MOST_NODES
    ]
    if not names:
        return snapshot
    keys = yield from keys_of(deployment, snapshot.run_id)
    reads = tuple(command("HGETALL", keys.steps(snapshot.run_id, name)) for name in names)
    replies = yield Batch(reads, bearing=True)
    nodes: dict[str, NodeSnapshot] = dict(snapshot.nodes)
    for name, reply in zip(names, replies, strict=True):
        if isinstance(reply, Mapping):
            nodes[name] = nodes[name].model_copy(update={"steps": _records(reply)})
    return snapshot.model_copy(update={"nodes": nodes})


def _records(reply: Mapping[Any, Any]) -> tuple[StepRecord, ...]:
    found: list[tuple[int, StepRecord]] = []
    for place, record in reply.items():
        text = place.decode() if isinstance(place, bytes) else place
        try:
            entry = read_entry(text, record if isinstance(record, bytes) else record.encode())
            found.append((entry.started_ms, _record(entry, text.startswith(FAILED))))
        except UNREADABLE:  # something else has written there; the doctor finds it
            continue
    return tuple(record for _, record in sorted(found, key=lambda each: each[0]))


def _record(entry: StepEntry, failed: bool) -> StepRecord:
    return StepRecord(
        name=entry.name,
        kind=entry.kind,  # type: ignore[arg-type]
        state="failed" if failed else "completed",
        started_at=moment(entry.started_ms),
        ended_at=moment(entry.started_ms + entry.took_ms),
        bytes=entry.size,
        tries=entry.tries,
        details=entry.details,
        error=": ".join(entry.error) if entry.error else "",
        value=None if entry.value is None else wire.loads(entry.value),
    )
