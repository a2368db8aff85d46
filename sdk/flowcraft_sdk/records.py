"""What the SDK tells of runs: frozen records."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class RunStatus(StrEnum):
    """State of a run; UNKNOWN is one that a newer server invented."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended; a terminal state never changes."""
        return self in _TERMINAL

    @classmethod
    def _missing_(cls, value: object) -> "RunStatus":
        return cls.UNKNOWN


STATES = frozenset(RunStatus) - {RunStatus.UNKNOWN}
"""States that a run can be in."""

_TERMINAL = {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT}


class NodeStatus(StrEnum):
    """State of a node."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> "NodeStatus":
        return cls.UNKNOWN


class Record(BaseModel):
    """Base of all records: frozen."""

    model_config = ConfigDict(frozen=True)


class NodeFailure(Record):
    """A failed attempt of a node.

    Attributes:
        type: dotted name of the exception's class.
        traceback: text, never an object.
        details: what the exception carried as `details`.
        retryable: whether a further attempt might have helped.
        input_hash: the hash of what the node was given: attempts at the same input have the same one.
    """

    node_id: str
    attempt: int = 1
    type: str = ""
    message: str = ""
    traceback: str = ""
    details: Any = None
    retryable: bool = True
    input_hash: str = ""
    at: datetime | None = None

    @property
    def summary(self) -> str:
        """Type and message in one, such as `KeyError: 'price'`: a message alone often says nothing."""
        name = self.type.rpartition(".")[2]
        return ": ".join(part for part in (name, self.message) if part)


class NodeSnapshot(Record):
    """A node of a run.

    Attributes:
        attempts: attempts so far.
        crashes: how often its worker was lost while it ran nothing else.
        started_at: when its first attempt began, of the latest round in a loop.
        waited: for how many seconds it was parked meanwhile, waiting for a signal, a time, items or a child run; what it
            is waiting for now is not in it.
        worker: that runs it now.
        caught_by_fallback: it failed, and its fallback's output stands for its own.
        progress: fraction from 0 to 1 that the handler reported, and its message.
        output: only when asked for.
    """

    status: NodeStatus
    attempts: int = 0
    crashes: int = 0
    caught_by_fallback: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waited: float = 0.0
    worker: str | None = None
    waiting_for: str | None = None
    child_run_id: str | None = None
    progress: float | None = None
    message: str = ""
    error: NodeFailure | None = None
    output: Any = None


class NodeAttempt(Record):
    """One attempt at a node, as the run's history tells it.

    Attributes:
        node_id: the node, without round and item.
        round: which round of the loops around it, from 0, such as `2` or `1.4` (outermost first); empty outside of loops.
        item: which item of a batch, None outside of one.
        attempt: 1 for the first one in its round.
        status: running, waiting, completed, failed, cancelled, or lost: its worker died or stalled, and it was run again.
        waited: for how many seconds it was parked.
        worker: that ran it last.
        error: what it failed with: type, message and input hash.
    """

    node_id: str
    round: str = ""
    item: int | None = None
    attempt: int = 1
    status: Literal["running", "waiting", "completed", "failed", "cancelled", "lost"] = "running"
    started_at: datetime
    ended_at: datetime | None = None
    waited: float = 0.0
    worker: str | None = None
    error: NodeFailure | None = None


class WaitPoint(Record):
    """A node that waits: for a signal, a time or a child run.

    Attributes:
        node_id: the node; one in a child run by the way to it: `subflow/wait`. `Handle.signal` takes it as it is.
        run_id: the run that the node is in.
        expires_at: when it ends by itself, if it does.
        prompt: what the node asks.
        payload_schema: JSON Schema of the answers that it takes, if it says so.
        actions: the actions that it offers, if it says so.
    """

    node_id: str
    kind: Literal["signal", "timer", "webhook", "subflow"]
    since: datetime
    run_id: str = ""
    expires_at: datetime | None = None
    prompt: Any = None
    payload_schema: Any = None
    actions: Any = None
    child_run_id: str | None = None


class CancelInfo(Record):
    """A cancel request. `forced`: something still ran when the grace was over."""

    reason: str = ""
    requested_at: datetime | None = None
    grace: float = 0.0
    forced: bool = False


class Progress(Record):
    """How many of the graph's nodes are done; skipped ones count."""

    done: int
    total: int


class RunSummary(Record):
    """A run in a list, without payloads."""

    run_id: str
    blueprint_id: str
    blueprint_version: str
    status: RunStatus
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    tags: tuple[str, ...] = ()
    parent_run_id: str | None = None


class RunSnapshot(RunSummary):
    """A consistent picture of a run, read at once.

    Attributes:
        forked_from: the run that this one does again.
        nodes: by instance: every node of the graph, and items of batches that are under way (`node[7]`).
        ctx: the full context, only when asked for.
        output: the result, only when asked for and completed.
    """

    deadline: datetime | None = None
    forked_from: str | None = None
    memo: Any = None
    nodes: Mapping[str, NodeSnapshot] = {}
    waiting: tuple[WaitPoint, ...] = ()
    progress: Progress = Progress(done=0, total=0)
    cancel: CancelInfo | None = None
    failures: tuple[NodeFailure, ...] = ()
    children: tuple[str, ...] = ()
    ctx: Mapping[str, Any] | None = None
    output: Any = None


class RunEvent(Record):
    """Something that happened in a run.

    Attributes:
        id: position in the history; `events(after=id)` goes on behind it.
        type: run_started, node_started (an attempt), node_completed, node_retrying, node_failed, node_recovered (it failed,
            and its fallback stands in), node_skipped, node_waiting, node_resumed (what it waited for has come),
            node_cancelled, node_taken_over, node_handed_back (by a worker that could not run it), node_progress, custom,
            signal_received, cancel_requested, run_ended, events_truncated or unknown.
        node_id: the node's instance, with the iteration in loops (`node#2`).
        data: what the type tells besides.
    """

    id: str
    type: str
    at: datetime
    node_id: str | None = None
    data: Mapping[str, Any] = {}


class BlueprintInfo(Record):
    """A published blueprint."""

    id: str
    version: str
    description: str = ""
    node_count: int = 0
    inputs: Mapping[str, Any] | None = None


class WorkerInfo(Record):
    """A worker that was seen lately.

    Attributes:
        concurrency: how many functions it runs at once.
        queues: the queues that it serves, the first one first.
        deployment: its file, as `host:path`; '' if it does not tell.
        handlers: names of the handlers that it has; None for a worker of a release that does not tell.
    """

    id: str
    host: str = ""
    pid: int = 0
    concurrency: int = 0
    queues: tuple[str, ...] = ()
    deployment: str = ""
    handlers: tuple[str, ...] | None = None
    last_seen: datetime


class ServerInfo(Record):
    """What `ping` found."""

    namespace: str
    protocol: str
    redis_version: str
    blueprints: int
    workers: int


class DeadLetter(Record):
    """A node that was given up because its worker was lost again and again while running it.

    Attributes:
        status: of the run, now.
        at: when the node was given up.
        crashes: how many workers were lost.
        reason: one line.
    """

    run_id: str
    node_id: str
    blueprint_id: str
    status: RunStatus
    at: datetime
    crashes: int = 0
    reason: str = ""


class Defect(Record):
    """Something in the store that should not be.

    Attributes:
        kind: a stable name, such as `ready-not-queued`.
        run_id: the run, if it is about one.
        subject: the node, the child run or the entry.
        explanation: one line: what is wrong, and what comes of it.
        remedy: one line: what a repair does, empty if it takes a person.
        fixed: whether it was repaired.
    """

    kind: str
    run_id: str = ""
    subject: str = ""
    explanation: str = ""
    remedy: str = ""
    fixed: bool = False
