"""The attempts at a run's nodes, put together from its history. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowcraft_sdk.records import NodeAttempt, NodeFailure, RunEvent

_INSTANCE = re.compile(r"(?P<node>.*?)(?:\[(?P<item>\d+)\])?(?:#(?P<round>[\d.]+))?", re.DOTALL)
_ENDS = {
    "node_completed": "completed",
    "node_retrying": "failed",
    "node_failed": "failed",
    "node_cancelled": "cancelled",
    "node_taken_over": "lost",
}


@dataclass(slots=True)
class _Open:
    """An attempt that has not ended, and since when it is parked."""

    place: int
    data: dict[str, Any]
    parked_since: datetime | None = None
    resumed: bool = False


def attempts_of(events: Iterable[RunEvent]) -> list[NodeAttempt]:
    """Every attempt in the events, in the order in which they began."""
    done: dict[int, dict[str, Any]] = {}
    open_: dict[str, _Open] = {}
    for place, event in enumerate(events):
        name = event.node_id or ""
        if event.type == "node_started":
            if name in open_:
                done[open_[name].place] = open_.pop(name).data
            open_[name] = _Open(place, _begun(name, event))
            continue
        current = open_.get(name)
        if current is None:
            continue
        if event.type == "node_waiting":
            current.parked_since, current.data["status"] = event.at, "waiting"
        elif event.type == "node_resumed":
            _resume(current, event)
            current.resumed = True
            current.data |= {"status": "running", "worker": event.data.get("worker") or None}
        elif event.type == "node_handed_back":
            if current.data.get("status") != "waiting" and not current.resumed:
                del open_[name]  # it was not run
        elif event.type in _ENDS:
            _resume(current, event)
            current.data |= {"status": _ENDS[event.type], "ended_at": event.at, "error": _error(current.data, event)}
            done[open_.pop(name).place] = current.data
    done |= {current.place: current.data for current in open_.values()}
    return [NodeAttempt(**done[place]) for place in sorted(done)]


def _begun(name: str, event: RunEvent) -> dict[str, Any]:
    found = _INSTANCE.fullmatch(name)
    item = found["item"] if found else None
    return {
        "node_id": found["node"] if found else name,
        "round": (found["round"] if found else None) or "",
        "item": None if item is None else int(item),
        "attempt": event.data.get("attempt", 1),
        "started_at": event.at,
        "worker": event.data.get("worker") or None,
    }


def _resume(current: _Open, event: RunEvent) -> None:
    """Count the time that an attempt was parked."""
    if current.parked_since is not None:
        waited = (event.data.get("ready_at", event.at) - current.parked_since).total_seconds()
        current.data["waited"] = current.data.get("waited", 0.0) + waited
        current.parked_since = None


def _error(data: dict[str, Any], event: RunEvent) -> NodeFailure | None:
    error = event.data.get("error")
    if not isinstance(error, dict):
        return None
    return NodeFailure(
        node_id=data["node_id"],
        attempt=data["attempt"],
        type=str(error.get("type", "")),
        message=str(error.get("message", "")),
        input_hash=str(error.get("input_hash", "")),
        at=event.at,
    )
