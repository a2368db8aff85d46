"""What each node of a run did when: it was queued, ran, waited for something, paused before its next attempt. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flowcraft_sdk.records import RunEvent

Kind = Literal["queue", "run", "wait", "pause"]

_ENDS = {
    "node_completed": "completed",
    "node_recovered": "recovered",
    "node_retrying": "failed",
    "node_failed": "failed",
    "node_cancelled": "cancelled",
    "node_taken_over": "lost",
}


@dataclass
class Stretch:
    """A stretch of time.

    Attributes:
        kind: What was done: it was ready and waited for a worker, it ran, it waited for something, or it paused before its next
            attempt.
        begin: When it began.
        end: When it ended; None if it goes on.
        state: How it ended, or what it is doing.
        attempt: Number of the attempt.
    """

    kind: Kind
    begin: datetime
    end: datetime | None = None
    state: str = "running"
    attempt: int = 1


@dataclass
class Instance:
    """An instance of a node, while its history is gone through."""

    done: list[Stretch] = field(default_factory=list)
    current: Stretch | None = None
    attempt: int = 1

    def begin(self, event: RunEvent) -> None:
        """Run, after the time in which it was ready and no worker had it yet."""
        ready_at, now = event.data.get("ready_at"), self.current
        if isinstance(ready_at, datetime) and ready_at < event.at and (now is None or now.kind != "queue"):
            self.turn(ready_at if now is None else max(ready_at, now.begin), "queue", "queued")
        self.turn(event.at, "run", "running")

    def turn(self, at: datetime, kind: Kind | None, state: str, ended_as: str | None = None) -> None:
        """End what it was doing, and begin something else."""
        if self.current is not None:
            self.current.end = at
            if self.current.kind == "run":
                self.current.state = ended_as or "completed"
            self.done.append(self.current)
        self.current = None if kind is None else Stretch(kind, at, state=state, attempt=self.attempt)

    @property
    def stretches(self) -> list[Stretch]:
        """What it did, in the order of time."""
        return [*self.done, *([self.current] if self.current is not None else [])]


def stretches_of(events: Iterable[RunEvent]) -> dict[str, list[Stretch]]:
    """What each instance did, by its name, the first one to begin first.

    Args:
        events: The history of a run, in its order.
    """
    instances: dict[str, Instance] = {}
    for event in events:
        if event.node_id is not None:
            _apply(instances, event)
    return {name: instance.stretches for name, instance in instances.items()}


def _apply(instances: dict[str, Instance], event: RunEvent) -> None:
    name = event.node_id or ""
    if event.type == "node_started":
        instance = instances.setdefault(name, Instance())
        instance.attempt = int(event.data.get("attempt", 1))
        instance.begin(event)
        return
    instance_or_none = instances.get(name)
    if instance_or_none is None:
        return
    if event.type == "node_waiting":
        instance_or_none.turn(event.at, "wait", "waiting")
    elif event.type == "node_resumed":
        instance_or_none.begin(event)
    elif event.type == "node_handed_back":
        instance_or_none.turn(event.at, "queue", "queued", "cancelled")
    elif event.type in _ENDS:
        goes_on = event.type in ("node_retrying", "node_taken_over")
        instance_or_none.turn(event.at, "pause" if goes_on else None, "retrying", _ENDS[event.type])
