"""What the SDK returns about runs: frozen records."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from flowcraft_sdk.records.base import Record as Record
from flowcraft_sdk.records.steps import StepRecord, StepTotals
from flowcraft_sdk.records.usage import Usage


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


class ItemCounts(Record):
    """How far the items of a batch are: those that are neither done nor begun wait until there is room.

    Attributes:
        total: How many there are.
        begun: How many were handed out so far.
        done: How many of these have ended, with a result or with an error that is collected.
    """

    total: int = 0
    begun: int = 0
    done: int = 0


class NodeSnapshot(Record):
    """A node of a run.

    Attributes:
        status: State of the node.
        attempts: Attempts so far.
        crashes: How often its worker was lost while it ran nothing else.
        caught_by_fallback: Whether it failed, and the output of its fallback stands for its own.
        taken_over: Whether its outcome is that of the run which this one does again; it has no times then.
        started_at: When its first attempt began, of the latest round in a loop.
        ended_at: When it ended.
        waited: Seconds that it was parked, waiting for a signal, a time, items or a child run; its present wait is not in it.
        worker: Id of the worker that is running it.
        waiting_for: Kind of its present wait.
        queue: Queue that it waits in, of a ready node.
        limit: Limit that it counts against, of a ready node.
        blocked_by: What keeps a ready node from being claimed, such as `queue 'io' is paused`; of a parked node whose model call
            waits, the limits that it waits for.
        child_run_id: Id of the child run of a subflow.
        items: How far its items are, of a batch in its latest round; None for any other node.
        added_by: The node that has added it while the run went; None for a node of the blueprint.
        compensates: Id of the node that it undoes if the run does not complete, of a compensation; None for any other node.
        progress: Fraction from 0 to 1 that the handler reported.
        message: Text that the handler reported with it.
        usage: What its model calls have used, with those of its child run; None without any.
        error: The last failure.
        output: The output; None unless it was asked for.
        steps: Its steps that are recorded, in the order in which they began; they go when it ends.
        step_totals: How many steps were recorded; None for a node that has taken none.
    """

    status: NodeStatus
    attempts: int = 0
    crashes: int = 0
    caught_by_fallback: bool = False
    taken_over: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waited: float = 0.0
    worker: str | None = None
    waiting_for: str | None = None
    queue: str | None = None
    limit: str | None = None
    blocked_by: str | None = None
    child_run_id: str | None = None
    items: ItemCounts | None = None
    added_by: str | None = None
    compensates: str | None = None
    progress: float | None = None
    message: str = ""
    usage: Usage | None = None
    error: NodeFailure | None = None
    output: Any = None
    steps: tuple[StepRecord, ...] = ()
    step_totals: StepTotals | None = None


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
        webhook_key: Of a `webhook` node, the key of its URL at the HTTP API, `/webhooks/KEY`; with it any program may answer it.
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
    webhook_key: str | None = None


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


class Abandoned(Record):
    """That a run goes on without its parent, which has stopped.

    Attributes:
        cause: What has become of the parent: it was `cancelled`, has `failed` or `timed_out`; or only the node that had started
            this run was given up (`node_given_up`), as another item of its `map` failed.
        at: When that was.
    """

    cause: str
    at: datetime


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
        forked_from: Id of the run that this one does again.
        usage: What its model calls have used, with those of its child runs; None without any.
        key: What it was started with to be counted by, with a limit of concurrent runs per key.
        blocked_by: Why it does not begin: there are so many concurrent runs that it is one too many.
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
    forked_from: str | None = None
    usage: Usage | None = None
    key: str | None = None
    blocked_by: str | None = None


class Compensation(Record):
    """What becomes of a completed node whose run does not complete, or of one of its items or rounds.

    Attributes:
        compensates: The instance that is undone: `pay`, `each[3]`, `body#2`.
        node_id: The node that undoes it.
        status: Of that node in this: pending, running, completed, failed or cancelled.
        error: What it failed with for good.
    """

    compensates: str
    node_id: str
    status: NodeStatus
    error: NodeFailure | None = None


class RunSnapshot(RunSummary):
    """A consistent snapshot of a run, read in one call.

    Attributes:
        deadline: When the run times out.
        priority: In what order its nodes are claimed among those that are ready.
        memo: The memo that `start` was given.
        nodes: By instance: every node of the graph, and items of batches that have not ended (`node[7]`).
        waiting: The nodes that wait.
        progress: How many of its nodes have ended.
        cancel: The cancel request, if there is one.
        failures: The failures for good, the first one first.
        children: Ids of its child runs.
        child_nodes: By the id of a child run the node that has started it: `call`, `each[7]`; empty for one of `ctx.start_child`.
        abandoned_children: Ids of those child runs that go on, or went on, though this one has stopped.
        on_parent_cancel: What becomes of it when its parent stops: "cancel" stops it too, with "abandon" it goes on.
        abandoned: Since when it goes on without its parent, and why; None if it does not.
        closing: What it will end as, if it has only compensations and nodes of `finally` left to run; else None.
        compensations: What is undone, or is to be undone, in that order; empty unless the run fails, is cancelled or times out.
        ctx: The whole context; None unless it was asked for.
        output: The output; None unless it was asked for and the run has completed.
    """

    deadline: datetime | None = None
    priority: Literal["high", "normal", "low"] = "normal"
    memo: Any = None
    nodes: Mapping[str, NodeSnapshot] = {}
    waiting: tuple[WaitPoint, ...] = ()
    progress: Progress = Progress(done=0, total=0)
    cancel: CancelInfo | None = None
    failures: tuple[NodeFailure, ...] = ()
    children: tuple[str, ...] = ()
    child_nodes: Mapping[str, str] = {}
    abandoned_children: tuple[str, ...] = ()
    on_parent_cancel: Literal["cancel", "abandon"] = "cancel"
    abandoned: Abandoned | None = None
    closing: RunStatus | None = None
    compensations: tuple[Compensation, ...] = ()
    ctx: Mapping[str, Any] | None = None
    output: Any = None


class RunEvent(Record):
    """Something that happened in a run.

    Attributes:
        id: Position in the history; `events(after=id)` begins behind it.
        type: run_started, node_started (an attempt), node_completed, node_retrying, node_failed, node_recovered (it failed,
            and its fallback stands in), node_skipped, node_waiting, node_resumed (what it waited for has come),
            node_cancelled, node_taken_over, node_handed_back (by a worker that could not run it), node_progress,
            step_recorded, step_failed, custom, signal_received, cancel_requested, child_abandoned, parent_stopped,
            run_closing (what is left are compensations and nodes of `finally`), node_compensating, run_ended, events_truncated
            or unknown. `isinstance` with the class of the type (`NodeFailedEvent`) lets a type checker know what the event has.
        at: When it happened.
        node_id: The node's instance, with the iteration in loops (`node#2`).
        data: Further values, by the type of the event.
        run_id: Id of the run that it happened in.
    """

    id: str
    type: str
    at: datetime
    node_id: str | None = None
    data: Mapping[str, Any] = {}
    run_id: str = ""


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


class BlueprintDetails(BlueprintInfo):
    """A version of a blueprint, with its graph.

    Attributes:
        current: Whether new runs get this version.
        document: The blueprint in its plain form: all short forms and defaults are worked in.
    """

    current: bool = True
    document: Mapping[str, Any] = {}


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


class QueueInfo(Record):
    """A queue.

    Attributes:
        name: Name of the queue.
        ready: How many nodes are ready in it.
        oldest_age: Seconds since the one became ready that has waited longest; None if there is none.
        workers: How many workers serve it that were seen lately.
        paused_since: Since when it is paused; None if it is not.
    """

    name: str
    ready: int = 0
    oldest_age: float | None = None
    workers: int = 0
    paused_since: datetime | None = None


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
