"""Bodies of requests and answers, as far as they are no records of the SDK. Unknown members of requests are refused."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flowcraft_sdk.protocol.bounds import LONGEST_NAME, LONGEST_PATH, LONGEST_REASON, LONGEST_TAG, MOST_TAGS
from flowcraft_sdk.protocol.usage_sums import LEAST_USD, MOST_TOKENS, MOST_USD
from flowcraft_sdk.records import CancelInfo, LogLine, NodeAttempt, NodeFailure, NodeSnapshot, RunEvent, RunStatus

LONGEST_TEXT = 1024 * 1024
"""Characters of a blueprint to check."""

Span = Annotated[float, Field(ge=0)] | Annotated[str, Field(max_length=40)]
"""Seconds, or a text such as `5m`."""


class RequestBody(BaseModel):
    """What all bodies of requests share."""

    model_config = ConfigDict(extra="forbid")


class RunBudget(RequestBody):
    """What model calls may use at most: one of the two at least.

    Attributes:
        usd: US dollars.
        tokens: Tokens of input and output together; a number, or a text such as `200k`.
    """

    usd: Annotated[float, Field(ge=LEAST_USD, le=MOST_USD)] | None = None
    tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | Annotated[str, Field(max_length=30)] | None = None


class StartRun(RequestBody):
    """A run to start.

    Attributes:
        blueprint: Id of the blueprint.
        ctx: The start context.
        run_id: An id of your own, so that the request may be repeated; by default `Idempotency-Key`, or a new one.
        tags: Short texts to find runs by.
        memo: Small JSON value that the run shows.
        delay: How long to wait before the run begins: seconds, or a text such as `5m`.
        start_at: When to begin, in place of `delay`; with a time zone.
        run_timeout: How long the whole run may take.
        version: A plan hash, to start another version than the current one.
        parent: Id of a run whose deadline, depth of nesting and priority this one inherits.
        priority: In what order its nodes are claimed among those that are ready.
        on_conflict: What to do when the id is taken: `attach` to the same run, or `raise`.
        budget: What its model calls may use at most, with those of its child runs.
        key: What it is counted by, where the number of concurrent runs with one key is limited.
        on_parent_cancel: What becomes of it when its parent stops: `cancel` stops it too, with `abandon` it goes on.
    """

    blueprint: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    ctx: dict[str, Any] | None = None
    run_id: Annotated[str, Field(max_length=LONGEST_PATH)] | None = None
    tags: Annotated[list[Annotated[str, Field(max_length=LONGEST_TAG)]], Field(max_length=MOST_TAGS)] = []
    memo: dict[str, Any] | None = None
    delay: Span | None = None
    start_at: datetime | None = None
    run_timeout: Span | None = None
    version: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    parent: Annotated[str, Field(max_length=LONGEST_PATH)] | None = None
    priority: Literal["high", "normal", "low"] | None = None
    on_conflict: Literal["attach", "raise"] = "attach"
    budget: RunBudget | None = None
    key: Annotated[str, Field(max_length=LONGEST_TAG)] | None = None
    on_parent_cancel: Literal["cancel", "abandon"] = "cancel"


class RunStarted(BaseModel):
    """A run that was started.

    Attributes:
        run_id: Id of the run.
        attached: Whether it was there already.
        href: Address of the run.
    """

    run_id: str
    attached: bool
    href: str


class RunResult(BaseModel):
    """How far a run is, and how it ended.

    Attributes:
        run_id: Id of the run.
        blueprint_id: Id of its blueprint.
        status: State of the run.
        output: The output, if it has completed; a large one is left out, with a link to it.
        failures: The failures for good, the first one first.
        cancel: The cancel request, if there is one.
    """

    run_id: str
    blueprint_id: str = ""
    status: RunStatus
    output: Any = None
    failures: tuple[NodeFailure, ...] = ()
    cancel: CancelInfo | None = None


class NodeDetails(BaseModel):
    """A node of a run.

    Attributes:
        run_id: Id of the run.
        node_id: The node's instance.
        node: The node.
        attempts: Its attempts, in all rounds and items, as far as the history reaches back.
    """

    run_id: str
    node_id: str
    node: NodeSnapshot
    attempts: tuple[NodeAttempt, ...] = ()


class EventPage(BaseModel):
    """A part of a run's history.

    Attributes:
        items: The events.
        next_after: What `after` is to be for the next page; None once the run has ended and this is the last page.
    """

    items: list[RunEvent]
    next_after: str | None


class LogPage(BaseModel):
    """A part of what a run has logged.

    Attributes:
        items: The lines.
        next_after: What `after` is to be for the next page; None once the run has ended and this is the last page.
    """

    items: list[LogLine]
    next_after: str | None


class CancelRun(RequestBody):
    """A request to stop a run.

    Attributes:
        reason: Kept with the run.
        grace: How long running handlers may take to stop; by default the server's setting.
    """

    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    grace: Span | None = None


class Cancelled(BaseModel):
    """What came of a request to stop a run.

    Attributes:
        run_id: Id of the run.
        in_force: Whether it is stopping; false if it had ended.
    """

    run_id: str
    in_force: bool


class Signal(RequestBody):
    """An answer for a node that waits.

    Attributes:
        payload: The node's output.
        action: The node's action.
        signal_id: An id of your own, so that the request may be repeated; by default `Idempotency-Key`, or a new one.
        buffer: Whether to keep it if the node does not wait yet.
    """

    payload: Any = None
    action: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    signal_id: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    buffer: bool = False


class Message(RequestBody):
    """A message for a node.

    Attributes:
        message: A JSON value.
        message_id: An id of your own, so that the request may be repeated; by default `Idempotency-Key`, or a new one.
    """

    message: Any = None
    message_id: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None


class Signalled(BaseModel):
    """Which node got a signal or a message.

    Attributes:
        run_id: Id of the run.
        node_id: The node, by the way to it from this run.
    """

    run_id: str
    node_id: str


class BlueprintGraph(BaseModel):
    """The graph of a blueprint.

    Attributes:
        id: Id of the blueprint.
        version: Plan hash of the version.
        nodes: The nodes in their plain form.
        edges: The edges in their plain form, in the order in which they are evaluated.
    """

    id: str
    version: str
    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]


class BlueprintText(RequestBody):
    """A blueprint to check.

    Attributes:
        text: The blueprint, in YAML or JSON.
        id: Id of the blueprint, for a text that has none.
    """

    text: Annotated[str, Field(max_length=LONGEST_TEXT)]
    id: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] = "blueprint"


class Finding(BaseModel):
    """Something that is wrong with a blueprint.

    Attributes:
        severity: Whether it would keep the blueprint from being published.
        line: Line in the text, from 1.
        column: Column in the line, from 1.
        path: Where it is in the blueprint.
        message: What is wrong, and what was expected.
    """

    severity: Literal["error", "warning"]
    line: int | None
    column: int | None
    path: str
    message: str


class Findings(BaseModel):
    """What is wrong with a blueprint.

    Attributes:
        valid: Whether there is no error.
        findings: Errors and warnings, by their places.
    """

    valid: bool
    findings: list[Finding]


class Replayed(BaseModel):
    """The run that does the run of a dead letter again.

    Attributes:
        run_id: Id of the new run.
        attached: Whether it was there already.
    """

    run_id: str
    attached: bool


class Deleted(BaseModel):
    """How many things were deleted.

    Attributes:
        deleted: The number.
    """

    deleted: int


class Reload(RequestBody):
    """A request to read blueprints again.

    Attributes:
        restart_workers: Whether to replace worker processes although neither their code nor their settings have changed.
        host: Only the processes of the machine with this name.
    """

    restart_workers: bool = False
    host: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None


class Drain(RequestBody):
    """A request to end server processes.

    Attributes:
        worker: Only the process of the worker with this id.
        host: Only the processes of the machine with this name.
    """

    worker: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None
    host: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None


class Examination(RequestBody):
    """A search for stuck runs and left-over entries.

    Attributes:
        run_id: Only this run; by default all live runs, and all entries.
        fix: Whether to repair what is safe to repair.
    """

    run_id: Annotated[str, Field(max_length=LONGEST_PATH)] | None = None
    fix: bool = False
