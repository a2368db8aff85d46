"""What the SDK returns about runs: frozen records."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class RunStatus(StrEnum):
    """State of a run; UNKNOWN is one that a newer server has and this SDK does not."""

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
    """State of a node; UNKNOWN is one that a newer server has and this SDK does not."""

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
    """Base of all records, which are frozen pydantic models."""

    model_config = ConfigDict(frozen=True)


class NodeFailure(Record):
    """A failed attempt of a node.

    Attributes:
        node_id: Id of the node.
        attempt: Number of the attempt, from 1.
        type: Dotted name of the exception's class.
        message: Text of the exception.
        traceback: Text of the traceback.
        details: JSON value that the exception carried as `details`.
        retryable: Whether a further attempt might have helped.
        input_hash: Hash of the node's input: attempts at the same input have the same one.
        at: When it failed.
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
        """Type and message in one line, such as `KeyError: 'price'`: a message alone is often not enough."""
        name = self.type.rpartition(".")[2]
        return ": ".join(part for part in (name, self.message) if part)


class NodeSnapshot(Record):
    """A node of a run.

    Attributes:
        status: State of the node.
        attempts: Attempts so far.
        crashes: How often its worker was lost while it ran nothing else.
        caught_by_fallback: Whether it failed, and the output of its fallback stands for its own.
        started_at: When its first attempt began, of the latest round in a loop.
        ended_at: When it ended.
        waited: Seconds that it was parked, waiting for a signal, a time, items or a child run; its present wait is not in it.
        worker: Id of the worker that is running it.
        waiting_for: Kind of its present wait.
        child_run_id: Id of the child run of a subflow.
        progress: Fraction from 0 to 1 that the handler reported.
        message: Text that the handler reported with it.
        error: The last failure.
        output: The output; None unless it was asked for.
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
    """One attempt at a node, as the run's history has it.

    Attributes:
        node_id: Id of the node, without round and item.
        round: Round of the loops around it, from 0, such as `2` or `1.4` (outermost first); empty outside of loops.
        item: Index of the item of a batch, None outside of one.
        attempt: Number of the attempt in its round, from 1.
        status: running, waiting, completed, failed, cancelled, or lost: its worker died or stalled, and it was run again.
        started_at: When it began.
        ended_at: When it ended.
        waited: Seconds that it was parked.
        worker: Id of the worker that ran it last.
        error: What it failed with: type, message and input hash.
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
        node_id: Id of the node; of one in a child run, the path to it, `subflow/wait`. `Handle.signal` takes it as it is.
        kind: What it waits for.
        since: When the wait began.
        run_id: Id of the run that the node is in.
        expires_at: When the wait ends by itself, if it does.
        prompt: What the node asks.
        payload_schema: JSON Schema of the answers that it takes, if it declares one.
        actions: The actions that it offers, if it declares them.
        child_run_id: Id of the child run of a subflow.
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
    """A cancel request.

    Attributes:
        reason: Its reason.
        requested_at: When it was made.
        grace: Seconds that running handlers have to stop.
        forced: Whether a node was still running when the grace period ended.
    """

    reason: str = ""
    requested_at: datetime | None = None
    grace: float = 0.0
    forced: bool = False


class Progress(Record):
    """How far a run is.

    Attributes:
        done: How many of the graph's nodes have ended; skipped ones count.
        total: How many nodes the graph has.
    """

    done: int
    total: int


class RunSummary(Record):
    """A run in a list, without payloads.

    Attributes:
        run_id: Id of the run.
        blueprint_id: Id of its blueprint.
        blueprint_version: Plan hash of the blueprint's version.
        status: State of the run.
        created_at: When it was recorded.
        started_at: When its first node began.
        ended_at: When it ended.
        tags: Its tags.
        parent_run_id: Id of the run that it is a child of.
    """

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
    """A consistent snapshot of a run, read in one call.

    Attributes:
        deadline: When the run times out.
        forked_from: Id of the run that this one does again.
        memo: The memo that `start` was given.
        nodes: By instance: every node of the graph, and items of batches that have not ended (`node[7]`).
        waiting: The nodes that wait.
        progress: How many of its nodes have ended.
        cancel: The cancel request, if there is one.
        failures: The failures for good, the first one first.
        children: Ids of its child runs.
        ctx: The whole context; None unless it was asked for.
        output: The output; None unless it was asked for and the run has completed.
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
        id: Position in the history; `events(after=id)` begins behind it.
        type: run_started, node_started (an attempt), node_completed, node_retrying, node_failed, node_recovered (it failed,
            and its fallback stands in), node_skipped, node_waiting, node_resumed (what it waited for has come),
            node_cancelled, node_taken_over, node_handed_back (by a worker that could not run it), node_progress, custom,
            signal_received, cancel_requested, run_ended, events_truncated or unknown.
        at: When it happened.
        node_id: The node's instance, with the iteration in loops (`node#2`).
        data: Further values, by the type of the event.
    """

    id: str
    type: str
    at: datetime
    node_id: str | None = None
    data: Mapping[str, Any] = {}


class BlueprintInfo(Record):
    """A published blueprint.

    Attributes:
        id: Id of the blueprint.
        version: Plan hash of its current version.
        description: Its description.
        node_count: How many nodes it has.
        inputs: The `inputs` that it declares.
    """

    id: str
    version: str
    description: str = ""
    node_count: int = 0
    inputs: Mapping[str, Any] | None = None


class WorkerInfo(Record):
    """A worker that was seen recently.

    Attributes:
        id: Id of the worker.
        host: Name of its machine.
        pid: Id of its process.
        concurrency: How many functions it runs at once.
        queues: The queues that it serves, the first one first.
        last_seen: When it last renewed its record.
        deployment: Its file, as `host:path`; empty if the worker does not report it.
        handlers: Names of the handlers that it has; None for a worker of a release that does not report them.
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
    """What `ping` found.

    Attributes:
        namespace: The deployment's name.
        protocol: Version of the protocol that the deployment speaks.
        redis_version: Version of Redis or Valkey.
        blueprints: How many blueprints are published.
        workers: How many workers are alive.
    """

    namespace: str
    protocol: str
    redis_version: str
    blueprints: int
    workers: int


class DeadLetter(Record):
    """A node that was given up because its worker was lost again and again while running it.

    Attributes:
        run_id: Id of the run.
        node_id: Id of the node.
        blueprint_id: Id of the blueprint.
        status: State of the run, now.
        at: When the node was given up.
        crashes: How many workers were lost.
        reason: Why, in one line.
    """

    run_id: str
    node_id: str
    blueprint_id: str
    status: RunStatus
    at: datetime
    crashes: int = 0
    reason: str = ""


class Defect(Record):
    """An entry of the store that should not be as it is.

    Attributes:
        kind: A stable name, such as `ready-not-queued`.
        run_id: Id of the run, if it is about one.
        subject: The node, the child run or the entry.
        explanation: What is wrong and what follows from it, in one line.
        remedy: What a repair does, in one line; empty if it takes a person.
        fixed: Whether it was repaired.
    """

    kind: str
    run_id: str = ""
    subject: str = ""
    explanation: str = ""
    remedy: str = ""
    fixed: bool = False
