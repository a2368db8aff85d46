"""What happens in a run, typed: a class for each kind of event.

    for event in handle.events():
        if isinstance(event, NodeRetryingEvent):
            print(event.node_id, event.delay, event.error.summary)

What they say beside `data`, they read from it; so an event has one form in Python and as JSON.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowcraft_sdk.records.runs import NodeFailure, RunEvent, RunStatus


class RunStartedEvent(RunEvent):
    """The run was recorded."""


class _AttemptEvent(RunEvent):
    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1."""
        return int(self.data["attempt"])


class NodeStartedEvent(_AttemptEvent):
    """An attempt at a node has begun."""

    @property
    def worker(self) -> str:
        """Id of the worker."""
        return str(self.data["worker"])


class NodeResumedEvent(NodeStartedEvent):
    """A worker goes on with a node, as what it waited for has come."""

    @property
    def ready_at(self) -> datetime:
        """When that came."""
        found: datetime = self.data["ready_at"]
        return found


class NodeCompletedEvent(RunEvent):
    """A node has completed."""

    @property
    def action(self) -> str | None:
        """The action that it has chosen, if it has."""
        found: str | None = self.data["action"]
        return found


class NodeRecoveredEvent(NodeCompletedEvent):
    """A node has failed, and its fallback stands in for it."""

    @property
    def fallback(self) -> str:
        """The node that stands in."""
        return str(self.data["fallback"])


class NodeHandedBackEvent(RunEvent):
    """A worker has handed a node back without having run it."""

    @property
    def worker(self) -> str:
        """Id of the worker."""
        return str(self.data["worker"])


class NodeFailedEvent(_AttemptEvent):
    """A node has failed for good."""

    @property
    def error(self) -> NodeFailure:
        """What it failed with: its type and message, without the traceback."""
        return NodeFailure(node_id=self.node_id or "", attempt=self.attempt, at=self.at, **self.data.get("error", {}))


class NodeRetryingEvent(NodeFailedEvent):
    """An attempt has failed, and a further one follows. `attempt` is the number of that."""

    @property
    def delay(self) -> float:
        """Seconds until then."""
        return float(self.data["delay"])


class NodeSkippedEvent(RunEvent):
    """A node is not going to run: no way led to it."""


class NodeWaitingEvent(RunEvent):
    """A node waits."""

    @property
    def kind(self) -> str:
        """What for: `signal`, `timer`, `subflow`, `batch`, `webhook`, `dynamic` or `fallback`."""
        return str(self.data["kind"])


class NodeCancelledEvent(RunEvent):
    """A node was cancelled."""


class NodeTakenOverEvent(RunEvent):
    """A node's worker was lost, and another one is going to run it."""

    @property
    def crashes(self) -> int:
        """How many workers the node has lost."""
        return int(self.data["crashes"])


class NodeProgressEvent(RunEvent):
    """A handler has reported how far it is."""

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None if it is not known."""
        found: float | None = self.data["fraction"]
        return found

    @property
    def message(self) -> str:
        """The text that came with it."""
        return str(self.data["message"])


class CustomEvent(RunEvent):
    """An event that a handler has added with `ctx.emit`."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.data["name"])

    @property
    def value(self) -> Any:
        """What the handler gave with it."""
        return self.data["data"]


class SignalReceivedEvent(RunEvent):
    """A node that waited was given its answer."""

    @property
    def action(self) -> str:
        """The action of the answer; empty without one."""
        return str(self.data["action"])


class CancelRequestedEvent(RunEvent):
    """The run was asked to stop."""

    @property
    def reason(self) -> str:
        """Why."""
        return str(self.data["reason"])


class ChildAbandonedEvent(RunEvent):
    """The run stops, or the node was given up, and a child run goes on. `node_id` is None for one of `start_child`."""

    @property
    def child_run_id(self) -> str:
        """Id of the child run."""
        return str(self.data["child_run_id"])


class ParentStoppedEvent(RunEvent):
    """The run's parent has stopped, and it goes on."""

    @property
    def cause(self) -> str:
        """`cancelled`, `failed` or `timed_out`; or `node_given_up`, see `Abandoned`."""
        return str(self.data["cause"])


class RunClosingEvent(RunEvent):
    """Only compensations and nodes of `finally` are left to run."""

    @property
    def status(self) -> RunStatus:
        """What the run will end as."""
        return RunStatus(self.data["status"])


class NodeCompensatingEvent(RunEvent):
    """A node is about to undo another one."""

    @property
    def compensates(self) -> str:
        """The instance that it undoes."""
        return str(self.data["compensates"])


class RunEndedEvent(RunEvent):
    """The run has ended: no event follows."""

    @property
    def status(self) -> RunStatus:
        """How it has ended."""
        return RunStatus(self.data["status"])


class EventsTruncatedEvent(RunEvent):
    """Events before the next one are not kept any more."""

    @property
    def count(self) -> int:
        """How many."""
        return int(self.data["count"])


class StepRecordedEvent(RunEvent):
    """What a step of a node has given was recorded; `data` has `bytes`, `seconds`, `tries` and `details`, too."""

    @property
    def name(self) -> str:
        """Name of the step."""
        return str(self.data["name"])

    @property
    def kind(self) -> str:
        """`step`, `model` or `tool`."""
        return str(self.data["kind"])


class StepFailedEvent(StepRecordedEvent):
    """A try of a step has raised, or what it gave was of no use to its handler."""

    @property
    def error(self) -> NodeFailure:
        """Its type and message."""
        return NodeFailure(node_id=self.node_id or "", **self.data["error"])


class UnknownEvent(RunEvent):
    """An event of a newer server, of a kind that this SDK does not know."""


EVENT_TYPES: Mapping[str, type[RunEvent]] = {
    "run_started": RunStartedEvent,
    "node_started": NodeStartedEvent,
    "node_resumed": NodeResumedEvent,
    "node_completed": NodeCompletedEvent,
    "node_recovered": NodeRecoveredEvent,
    "node_handed_back": NodeHandedBackEvent,
    "node_failed": NodeFailedEvent,
    "node_retrying": NodeRetryingEvent,
    "node_skipped": NodeSkippedEvent,
    "node_waiting": NodeWaitingEvent,
    "node_cancelled": NodeCancelledEvent,
    "node_taken_over": NodeTakenOverEvent,
    "node_progress": NodeProgressEvent,
    "step_recorded": StepRecordedEvent,
    "step_failed": StepFailedEvent,
    "custom": CustomEvent,
    "signal_received": SignalReceivedEvent,
    "cancel_requested": CancelRequestedEvent,
    "child_abandoned": ChildAbandonedEvent,
    "parent_stopped": ParentStoppedEvent,
    "run_closing": RunClosingEvent,
    "node_compensating": NodeCompensatingEvent,
    "run_ended": RunEndedEvent,
    "events_truncated": EventsTruncatedEvent,
}
"""The class of each type of event; of any other one it is `UnknownEvent`."""


def typed_event(**values: Any) -> RunEvent:
    """An event in the class of its type, as `RunEvent(**values)` would be."""
    return EVENT_TYPES.get(values["type"], UnknownEvent)(**values)
