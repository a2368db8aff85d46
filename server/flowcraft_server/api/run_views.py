"""Routes that read a run in a further form: its state, its attempts, its graph, its timeline; and waiting for several runs."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from flowcraft_sdk import AsyncHandle, NodeAttempt, NodeStatus, RunEvent, RunStatus, WaitTimeoutError
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, LONGEST_PATH

from .access import VIEW, VIEW_BY_POST
from .answers import answer
from .bodies import RequestBody
from .openapi import routes
from .problems import documented
from .runs import PREFIX, Name, RunId, Wait, client_of, handle_of
from .stretches import stretches_of

MOST_AWAITED = 10_000
MOST_TIMELINE_EVENTS = 10_000

router = routes(PREFIX, tag="runs")


class RunState(BaseModel):
    """The state of a run.

    Attributes:
        run_id: Id of the run.
        status: Its state.
    """

    run_id: str
    status: RunStatus


class LastEvent(BaseModel):
    """Where the history of a run ends.

    Attributes:
        id: Id of its latest event; `0` if nothing has happened.
    """

    id: str


class RunCount(BaseModel):
    """How many runs there are.

    Attributes:
        count: The number.
    """

    count: int


class AwaitedRuns(RequestBody):
    """Runs to wait for.

    Attributes:
        run_ids: Their ids.
    """

    run_ids: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)]], Field(max_length=MOST_AWAITED)
    ]


class EndedRuns(BaseModel):
    """Those of several runs that have ended.

    Attributes:
        ended: Their ids.
    """

    ended: list[str]


class GraphNode(BaseModel):
    """A node of a run in its graph.

    Attributes:
        id: Id of the node.
        uses: What runs it.
        status: Its state; of a loop's node, that of the latest round.
        attempts: Attempts so far.
        caught_by_fallback: Whether it failed, and the output of its fallback stands for its own.
        active_items: How many items of a batch are under way.
        child_run_id: Id of the child run of a subflow.
    """

    id: str
    uses: str
    status: NodeStatus
    attempts: int = 0
    caught_by_fallback: bool = False
    active_items: int = 0
    child_run_id: str | None = None


class GraphEdge(BaseModel):
    """An edge in the graph of a run.

    Attributes:
        source: Id of the node that it leaves.
        target: Id of the node that it leads to.
        action: The action for which it is taken.
        condition: What must hold for it to be taken.
    """

    source: str
    target: str
    action: str | None = None
    condition: str | None = None


class RunGraph(BaseModel):
    """The graph of a run, with the states of its nodes.

    Attributes:
        run_id: Id of the run.
        blueprint_id: Id of its blueprint.
        version: Plan hash of the blueprint's version.
        status: State of the run.
        nodes: The nodes.
        edges: The edges, in the order in which they are evaluated.
    """

    run_id: str
    blueprint_id: str
    version: str
    status: RunStatus
    nodes: list[GraphNode]
    edges: list[GraphEdge]


class TimelineStretch(BaseModel):
    """A stretch of time of a node.

    Attributes:
        kind: What was done: it was ready and waited for a worker, it ran, it waited for something, or it paused before its next
            attempt.
        state: How it ended, or what it is doing.
        attempt: Number of the attempt.
        begin: When it began.
        end: When it ended; null if it goes on.
    """

    kind: Literal["queue", "run", "wait", "pause"]
    state: str
    attempt: int
    begin: datetime
    end: datetime | None


class TimelineRow(BaseModel):
    """An instance of a node in a timeline.

    Attributes:
        instance: Its name, with item and round.
        node_id: Id of the node.
        stretches: What it did, in the order of time.
    """

    instance: str
    node_id: str
    stretches: list[TimelineStretch]


class RunTimeline(BaseModel):
    """What each node of a run did when, as far as its history is kept.

    Attributes:
        run_id: Id of the run.
        status: State of the run.
        started_at: When its first node began.
        ended_at: When it ended.
        rows: Instances of nodes, the first one to begin first.
        truncated: Whether the run has more events than were looked at: 10,000.
    """

    run_id: str
    status: RunStatus
    started_at: datetime | None
    ended_at: datetime | None
    rows: list[TimelineRow]
    truncated: bool


@router.get("/runs/{run_id}/status", dependencies=[VIEW], response_model=RunState, responses=documented(404, 410))
async def read_status(
    request: Request,
    run_id: RunId,
    wait: Wait = None,
    until: Annotated[
        list[RunStatus] | None, Query(description="States to wait for, besides the end of the run.")
    ] = None,
) -> Response:
    """The state of a run. With `wait`, once it has ended or is in one of the states of `until`; else as it is when time is up."""
    handle = handle_of(request, run_id)
    if not wait:
        return answer(request, RunState(run_id=run_id, status=await handle.status()))
    try:
        status = await _unless_stopping(request, handle.wait_for(*(until or ()), timeout=wait))
    except WaitTimeoutError:
        status = None
    return answer(request, RunState(run_id=run_id, status=status or await handle.status()))


async def _unless_stopping(request: Request, waiting: Coroutine[Any, Any, Any]) -> Any:
    return await request.app.state.stopping.unless_stopping(waiting)


@router.get(
    "/runs/{run_id}/attempts", dependencies=[VIEW], response_model=list[NodeAttempt], responses=documented(404, 410)
)
async def read_attempts(request: Request, run_id: RunId) -> Response:
    """Every attempt at every node, round and item, as far as the history reaches back."""
    return answer(request, await handle_of(request, run_id).attempts())


@router.get("/runs/{run_id}/events/last", dependencies=[VIEW], response_model=LastEvent, responses=documented(404, 410))
async def read_last_event(request: Request, run_id: RunId) -> Response:
    """Where the history of a run ends: what happens from now on is behind it."""
    return answer(request, LastEvent(id=await handle_of(request, run_id).last_event_id()))


@router.get("/run-count", dependencies=[VIEW], response_model=RunCount)
async def count_runs(
    request: Request,
    status: Annotated[list[RunStatus] | None, Query(description="Only runs in one of these states.")] = None,
    blueprint: Annotated[Name, Query(description="Only runs of this blueprint.")] = None,
    tag: Annotated[Name, Query(max_length=LONGEST_NAME, description="Only runs with this tag.")] = None,
) -> Response:
    """How many runs there are."""
    count = await client_of(request).count_runs(blueprint_id=blueprint, status=status, tag=tag)
    return answer(request, RunCount(count=count))


@router.post("/runs/wait", dependencies=[VIEW_BY_POST], response_model=EndedRuns, responses=documented(404, 410))
async def wait_for_runs(request: Request, body: AwaitedRuns, wait: Wait = None) -> Response:
    """Those of several runs that have ended. With `wait`, as soon as one has, or when the time is up."""
    handles = [handle_of(request, run_id) for run_id in body.run_ids]
    ended = await _ended(request, handles, 0.0)
    if not ended and handles and wait:
        ended = await _unless_stopping(request, _ended(request, handles, wait)) or []
    return answer(request, EndedRuns(ended=ended))


async def _ended(request: Request, handles: list[AsyncHandle[Any]], seconds: float) -> list[str]:
    found: list[str] = []
    with suppress(WaitTimeoutError):
        async for handle in client_of(request).as_completed(handles, timeout=seconds):
            found.append(handle.run_id)
            if seconds:
                break
    return found


@router.get("/runs/{run_id}/graph", dependencies=[VIEW], response_model=RunGraph, responses=documented(404, 410))
async def read_run_graph(request: Request, run_id: RunId) -> Response:
    """The nodes and edges of a run's blueprint, with the states of the nodes."""
    run = await handle_of(request, run_id).describe()
    found = await client_of(request).blueprint(run.blueprint_id, version=run.blueprint_version)
    items: dict[str, int] = {}
    for instance in run.nodes:
        name, bracket, _ = instance.partition("[")
        items[name] = items.get(name, 0) + bool(bracket)
    nodes = []
    for node in found.document.get("nodes", []):
        now = run.nodes.get(node["id"])
        nodes.append(
            GraphNode(
                id=node["id"],
                uses=node["uses"],
                status=now.status if now is not None else NodeStatus.PENDING,
                attempts=now.attempts if now is not None else 0,
                caught_by_fallback=now is not None and now.caught_by_fallback,
                active_items=items.get(node["id"], 0),
                child_run_id=now.child_run_id if now is not None else None,
            )
        )
    names = set(GraphEdge.model_fields)
    edges = [
        GraphEdge(**{name: edge[name] for name in names if edge.get(name) is not None})
        for edge in found.document.get("edges", [])
    ]
    graph = RunGraph(
        run_id=run_id, blueprint_id=run.blueprint_id, version=run.blueprint_version, status=run.status,
        nodes=nodes, edges=edges,
    )  # fmt: skip
    return answer(request, graph)


@router.get("/runs/{run_id}/timeline", dependencies=[VIEW], response_model=RunTimeline, responses=documented(404, 410))
async def read_timeline(request: Request, run_id: RunId) -> Response:
    """What each node of a run did when: was queued, ran, waited, paused before a further attempt."""
    handle = handle_of(request, run_id)
    run, (events, truncated) = await asyncio.gather(handle.describe(), _first_events(handle))
    rows = [
        TimelineRow(
            instance=name,
            node_id=name.partition("#")[0].partition("[")[0],
            stretches=[
                TimelineStretch(kind=each.kind, state=each.state, attempt=each.attempt, begin=each.begin, end=each.end)
                for each in stretches
            ],
        )
        for name, stretches in stretches_of(events).items()
    ]
    found = RunTimeline(
        run_id=run_id, status=run.status, started_at=run.started_at, ended_at=run.ended_at, rows=rows,
        truncated=truncated,
    )  # fmt: skip
    return answer(request, found)


async def _first_events(handle: AsyncHandle[Any]) -> tuple[list[RunEvent], bool]:
    events: list[RunEvent] = []
    async for event in handle.events(follow=False):
        if len(events) == MOST_TIMELINE_EVENTS:
            return events, True
        events.append(event)
    return events, False
