"""Routes of runs."""

import asyncio
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Header, Path, Query, Request
from starlette.responses import Response

from flowcraft_sdk import AsyncClient, AsyncHandle, RunPage, RunSnapshot, RunStatus, WaitTimeoutError
from flowcraft_sdk.protocol.bounds import LONGEST_EVENT_ID, LONGEST_NAME, LONGEST_PATH, MOST_LISTED

from .access import OPERATE, VIEW
from .answers import answer, context_of, shortened, value_of
from .bodies import (
    Cancelled,
    CancelRun,
    EventPage,
    LogPage,
    Message,
    NodeDetails,
    RunResult,
    RunStarted,
    Signal,
    Signalled,
    StartRun,
)
from .live_tree import stream_tree
from .openapi import routes
from .problems import Problem, documented
from .stopping import Stopping

PREFIX = "/api/v1"
LONGEST_WAIT = 60.0
LONGEST_STREAM = 3600.0
MOST_EVENTS = 1_000

router = routes(f"{PREFIX}/runs", tag="runs")

RunId = Annotated[str, Path(description="Id of the run.", min_length=1, max_length=LONGEST_PATH)]
Wait = Annotated[float | None, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the end of the run.")]
NodePath = Annotated[
    str, Path(min_length=1, max_length=LONGEST_PATH, description="The node, or the way to it: `sub/node`.")
]
Full = Annotated[bool, Query(description="Whether to answer with the whole value, however large.")]
IdempotencyKey = Annotated[
    str | None, Header(max_length=LONGEST_NAME, description="An id of your own, so that the request may be repeated.")
]


def client_of(request: Request) -> AsyncClient:
    """The SDK's client."""
    client: AsyncClient = request.app.state.client
    return client


def handle_of(request: Request, run_id: str) -> AsyncHandle[Any]:
    """A handle to a run."""
    return client_of(request).get_handle(run_id)


def href_of(run_id: str, *parts: str, query: str = "") -> str:
    """The address of a run, or of something in it."""
    path = "/".join(quote(part, safe="") for part in (run_id, *parts))
    return f"{PREFIX}/runs/{path}" + (f"?{query}" if query else "")


@router.post(
    "",
    dependencies=[OPERATE],
    status_code=201,
    response_model=RunStarted,
    responses={
        200: {"model": RunStarted | RunResult, "description": "The run was there already, or has ended (`wait`)"},
        202: {"model": RunResult, "description": "It has not ended within `wait`"},
        **documented(404, 409, 410),
    },
)
async def start_run(
    request: Request, body: StartRun, wait: Wait = None, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run. With a `run_id` or `Idempotency-Key` the request may be repeated: the same run is answered with."""
    if body.run_id is not None and idempotency_key is not None and body.run_id != idempotency_key:
        raise Problem(422, "invalid_request", "run_id and Idempotency-Key differ: send one of them")
    handle = await client_of(request).start(
        body.blueprint,
        context_of(request, body.ctx),
        run_id=body.run_id if body.run_id is not None else idempotency_key,
        tags=body.tags,
        memo=value_of(request, body.memo),
        on_conflict=body.on_conflict,
        delay=body.delay,
        start_at=body.start_at,
        run_timeout=body.run_timeout,
        version=body.version,
        parent=body.parent,
        priority=body.priority,
        budget=None if body.budget is None else body.budget.model_dump(exclude_none=True),
        key=body.key,
        on_parent_cancel=body.on_parent_cancel,
    )
    location = {"location": href_of(handle.run_id)}
    if wait is not None:
        return await _result(request, handle, wait, False, location)
    started = RunStarted(run_id=handle.run_id, attached=handle.attached, href=href_of(handle.run_id))
    return answer(request, started, 200 if handle.attached else 201, location)


Name = Annotated[str | None, Query(min_length=1, max_length=LONGEST_NAME)]


@router.get("", dependencies=[VIEW], response_model=RunPage)
async def list_runs(
    request: Request,
    status: Annotated[list[RunStatus] | None, Query(description="Only runs in one of these states.")] = None,
    blueprint: Annotated[Name, Query(description="Only runs of this blueprint.")] = None,
    tag: Annotated[Name, Query(description="Only runs with this tag.")] = None,
    parent: Annotated[
        str | None, Query(min_length=1, max_length=LONGEST_PATH, description="Only children of this run.")
    ] = None,
    since: Annotated[datetime | None, Query(description="Only runs recorded at or after this moment.")] = None,
    until: Annotated[datetime | None, Query(description="Only runs recorded before this moment.")] = None,
    q: Annotated[
        Name, Query(description="Only runs whose id begins with this, or whose failure has it in its type or message.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Runs of a page.")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=LONGEST_PATH + 40, description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """Runs, the newest first, without payloads. A page may be short and not be the last: `next_cursor` says so."""
    page = await client_of(request).list_runs_page(
        blueprint_id=blueprint,
        status=status,
        tag=tag,
        parent=parent,
        started_after=since,
        started_before=until,
        search=q,
        limit=limit,
        cursor=cursor,
    )
    return answer(request, page)


@router.get("/{run_id}", dependencies=[VIEW], response_model=RunSnapshot, responses=documented(404, 410))
async def describe_run(
    request: Request,
    run_id: RunId,
    ctx: Annotated[bool, Query(description="Whether to answer with its context, too.")] = False,
    outputs: Annotated[
        bool, Query(description="Whether to answer with its output and those of its nodes, too.")
    ] = False,
    full: Full = False,
) -> Response:
    """A run with its nodes, what it waits for and its failures, in one consistent picture. Large values are left out."""
    snapshot = await handle_of(request, run_id).describe(ctx=ctx, outputs=outputs)
    return answer(request, snapshot if full else _with_links(snapshot))


def _with_links(run: RunSnapshot) -> RunSnapshot:
    """A run with links in place of large values."""
    context = None if run.ctx is None else {key: shortened(run.ctx[key], _key_href(run.run_id, key)) for key in run.ctx}
    nodes = {
        name: node
        if node.output is None
        else node.model_copy(
            update={"output": shortened(node.output, href_of(run.run_id, "nodes", name, query="full=true"))}
        )
        for name, node in run.nodes.items()
    }
    output = shortened(run.output, href_of(run.run_id, "result", query="full=true"))
    return run.model_copy(update={"ctx": context, "nodes": nodes, "output": output})


def _key_href(run_id: str, key: str) -> str:
    return href_of(run_id, "context", query=f"key={quote(key, safe='')}")


@router.get(
    "/{run_id}/result",
    dependencies=[VIEW],
    response_model=RunResult,
    responses={202: {"model": RunResult, "description": "The run has not ended"}, **documented(404, 410)},
)
async def read_result(request: Request, run_id: RunId, wait: Wait = 0.0, full: Full = False) -> Response:
    """How a run ended, and its output. 200 once it has ended, however it did; 202 before."""
    return await _result(request, handle_of(request, run_id), wait or 0.0, full)


async def _result(
    request: Request, handle: AsyncHandle[Any], seconds: float, full: bool, headers: dict[str, str] | None = None
) -> Response:
    stopping: Stopping = request.app.state.stopping
    try:
        snapshot = await stopping.unless_stopping(handle.wait(timeout=seconds))
    except WaitTimeoutError as error:
        return answer(request, RunResult(run_id=handle.run_id, status=error.status), 202, headers)  # type: ignore[arg-type]
    if snapshot is None:
        status = await handle.status()
        return answer(request, RunResult(run_id=handle.run_id, status=status), 202, headers)
    href = href_of(handle.run_id, "result", query="full=true")
    result = RunResult(
        run_id=snapshot.run_id,
        blueprint_id=snapshot.blueprint_id,
        status=snapshot.status,
        output=snapshot.output if full else shortened(snapshot.output, href),
        failures=snapshot.failures,
        cancel=snapshot.cancel,
    )
    return answer(request, result, 200, headers)


@router.get("/{run_id}/context", dependencies=[VIEW], response_model=dict[str, Any], responses=documented(404, 410))
async def read_context(
    request: Request,
    run_id: RunId,
    key: Annotated[str | None, Query(max_length=LONGEST_PATH, description="Only this key, whole.")] = None,
) -> Response:
    """The context of a run. Large values are left out, with a link to each."""
    context = (await handle_of(request, run_id).describe(ctx=True)).ctx or {}
    if key is not None:
        if key not in context:
            raise Problem(404, "not_found", "the context of the run has no such key")
        return answer(request, {key: context[key]}, payload=True)
    shown = {name: shortened(value, _key_href(run_id, name)) for name, value in context.items()}
    return answer(request, shown, payload=True)


@router.get(
    "/{run_id}/nodes/{node_id}", dependencies=[VIEW], response_model=NodeDetails, responses=documented(404, 410)
)
async def read_node(
    request: Request,
    run_id: RunId,
    node_id: Annotated[
        str, Path(max_length=LONGEST_PATH, description="The node's instance, such as `node` or `node[7]`.")
    ],
    full: Full = False,
) -> Response:
    """A node of a run with its output and all its attempts. A large output is left out, with a link to it."""
    handle = handle_of(request, run_id)
    snapshot, attempts = await asyncio.gather(handle.describe(outputs=True), handle.attempts())
    node = snapshot.nodes.get(node_id)
    if node is None:
        raise Problem(404, "not_found", f"run {run_id} has no such node")
    if not full:
        href = href_of(run_id, "nodes", node_id, query="full=true")
        node = node.model_copy(update={"output": shortened(node.output, href)})
    name = node_id.partition("#")[0]
    of_node = tuple(
        attempt for attempt in attempts if name in (attempt.node_id, _instance_of(attempt.node_id, attempt.item))
    )
    return answer(request, NodeDetails(run_id=run_id, node_id=node_id, node=node, attempts=of_node))


def _instance_of(node_id: str, item: int | None) -> str:
    return node_id if item is None else f"{node_id}[{item}]"


@router.get(
    "/{run_id}/events",
    dependencies=[VIEW],
    response_model=EventPage,
    responses={
        200: {"description": "A page, or the stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The run has ended, and the stream has no more: do not connect again"},
        **documented(404, 410),
    },
)
async def read_events(
    request: Request,
    run_id: RunId,
    after: Annotated[
        str | None, Query(pattern=rf"^[0-9]{{1,{LONGEST_EVENT_ID}}}$", description="Id of the last event already seen.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_EVENTS, description="Events of a page.")] = 100,
    wait: Annotated[
        float | None, Query(ge=0, le=LONGEST_STREAM, description="Seconds after which a stream ends by itself.")
    ] = None,
    children: Annotated[
        bool,
        Query(description="Whether a stream has the events of the runs below it, too; it begins at the start then."),
    ] = False,
    last_event_id: Annotated[
        str | None, Header(pattern=rf"^[0-9]{{1,{LONGEST_EVENT_ID}}}$", description="As `after`; browsers send it.")
    ] = None,
) -> Response:
    """The history of a run: a page of it as JSON, or, with `Accept: text/event-stream`, all of it and then what happens."""
    handle, seen = handle_of(request, run_id), last_event_id or after
    streamed = "text/event-stream" in request.headers.get("accept", "")
    if children:
        if not streamed:
            raise Problem(422, "invalid_request", "children needs a stream: `Accept: text/event-stream`")
        return await stream_tree(request, handle, wait)
    if streamed:
        response: Response = await request.app.state.live.respond(request, handle, seen, wait)
        return response
    items = []
    async for event in handle.events(after=seen, follow=False):
        items.append(event)
        if len(items) == limit:
            break
    more = len(items) == limit or not await handle.done()
    last = items[-1].id if items else seen or "0"
    return answer(request, EventPage(items=items, next_after=last if more else None))


@router.get("/{run_id}/logs", dependencies=[VIEW], response_model=LogPage, responses=documented(404, 410))
async def read_logs(
    request: Request,
    run_id: RunId,
    node: Annotated[
        str | None,
        Query(min_length=1, max_length=LONGEST_PATH, description="Only lines of this node, or of this item or round."),
    ] = None,
    after: Annotated[
        str | None, Query(pattern=rf"^[0-9]{{1,{LONGEST_EVENT_ID}}}$", description="Id of the last line already seen.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_EVENTS, description="Lines of a page.")] = 100,
) -> Response:
    """What handlers of a run have logged, as far as it is kept."""
    handle = handle_of(request, run_id)
    ended, items = await handle.done(), []
    async for line in handle.logs(node, after=after):
        items.append(line)
        if len(items) == limit:
            break
    more = len(items) == limit or not ended
    last = items[-1].id if items else after or "0"
    return answer(request, LogPage(items=items, next_after=last if more else None), payload=True)


@router.post(
    "/{run_id}/cancel",
    dependencies=[OPERATE],
    status_code=202,
    response_model=Cancelled,
    responses=documented(404, 410),
)
async def cancel_run(request: Request, run_id: RunId, body: CancelRun | None = None) -> Response:
    """Ask a run and its subflows to stop. Answers without waiting."""
    body = body or CancelRun()
    in_force = await handle_of(request, run_id).cancel(body.reason, grace=body.grace)
    return answer(request, Cancelled(run_id=run_id, in_force=in_force), 202)


@router.post("/{run_id}/signals", dependencies=[OPERATE], response_model=Signalled, responses=documented(404, 409, 410))
async def signal_run(request: Request, run_id: RunId, body: Signal, idempotency_key: IdempotencyKey = None) -> Response:
    """Give the only node of a run that waits its answer."""
    return await _signal(request, run_id, None, body, idempotency_key)


@router.post(
    "/{run_id}/signals/{node_id:path}",
    dependencies=[OPERATE],
    response_model=Signalled,
    responses=documented(404, 409, 410),
)
async def signal_node(
    request: Request,
    run_id: RunId,
    node_id: NodePath,
    body: Signal,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Give a node that waits its answer."""
    return await _signal(request, run_id, node_id, body, idempotency_key)


async def _signal(request: Request, run_id: str, node_id: str | None, body: Signal, key: str | None) -> Response:
    if body.signal_id is not None and key is not None and body.signal_id != key:
        raise Problem(422, "invalid_request", "signal_id and Idempotency-Key differ: send one of them")
    signal_id = body.signal_id if body.signal_id is not None else key
    reached = await handle_of(request, run_id).signal(
        node_id, value_of(request, body.payload), action=body.action, signal_id=signal_id, buffer=body.buffer
    )
    return answer(request, Signalled(run_id=run_id, node_id=reached))


@router.post(
    "/{run_id}/messages/{node_id:path}",
    dependencies=[OPERATE],
    response_model=Signalled,
    responses=documented(404, 409, 410),
)
async def send_message(
    request: Request, run_id: RunId, node_id: NodePath, body: Message, idempotency_key: IdempotencyKey = None
) -> Response:
    """Send a message to a node that runs or has yet to run: its handler takes it with `ctx.receive`."""
    if body.message_id is not None and idempotency_key is not None and body.message_id != idempotency_key:
        raise Problem(422, "invalid_request", "message_id and Idempotency-Key differ: send one of them")
    message_id = body.message_id if body.message_id is not None else idempotency_key
    reached = await handle_of(request, run_id).send(node_id, value_of(request, body.message), message_id=message_id)
    return answer(request, Signalled(run_id=run_id, node_id=reached))
