"""Routes of the deployment as a whole."""

from typing import Annotated

from fastapi import Path, Query, Request
from starlette.responses import Response

from flowcraft_sdk import (
    BlueprintDetails,
    BlueprintInfo,
    DeadLetter,
    Defect,
    LimitInfo,
    QueueInfo,
    ServerAnswer,
    ServerInfo,
    ServerProcess,
    Stats,
    UsageOfDay,
    WaitingPage,
    WorkerInfo,
)
from flowcraft_sdk._operations.usage import MOST_DAYS
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, LONGEST_PATH, MOST_A_PAGE, MOST_LISTED

from .access import ADMIN, OPERATE, VIEW, VIEW_BY_POST
from .answers import answer
from .blueprint_check import check_blueprint
from .bodies import BlueprintGraph, BlueprintText, Deleted, Drain, Examination, Findings, Reload, Replayed
from .openapi import routes
from .problems import documented
from .runs import LONGEST_WAIT, PREFIX, RunId, client_of

router = routes(PREFIX, tag="deployment")

BlueprintId = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, description="Id of the blueprint.")]
Version = Annotated[
    str | None, Query(min_length=1, max_length=LONGEST_NAME, description="A plan hash; by default the current one.")
]
RequestWait = Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for answers.")]
Window = Annotated[
    str, Query(max_length=20, description="How far back: `1h`, `24h`, `30d`; a minute at least and 30 days at most.")
]
Days = Annotated[int, Query(ge=1, le=MOST_DAYS, description="How many days back, in UTC; 1 is today alone.")]
QueueName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Name of the queue.")]


@router.get("/info", dependencies=[VIEW], response_model=ServerInfo)
async def read_info(request: Request) -> Response:
    """The deployment's name, its Redis, and how many blueprints and workers it has."""
    return answer(request, await client_of(request).ping())


@router.get("/stats", dependencies=[VIEW], response_model=Stats, responses=documented(422))
async def read_stats(request: Request, window: Window = "1h") -> Response:
    """Runs that have ended lately, in parts and by blueprint; states of runs, queues, workers and memory as they are now."""
    return answer(request, await client_of(request).stats(window))


@router.get("/usage", dependencies=[VIEW], response_model=list[UsageOfDay], responses=documented(422))
async def read_usage(request: Request, days: Days = 1) -> Response:
    """What model calls have used, by day: sums of all calls, and of each blueprint, tag and model."""
    return answer(request, await client_of(request).usage(days))


@router.get("/workers", dependencies=[VIEW], response_model=list[WorkerInfo])
async def list_workers(request: Request) -> Response:
    """The workers that were seen recently."""
    return answer(request, await client_of(request).workers())


@router.get("/blueprints", dependencies=[VIEW], response_model=list[BlueprintInfo])
async def list_blueprints(request: Request) -> Response:
    """The published blueprints, each in its current version."""
    return answer(request, await client_of(request).blueprints())


@router.post("/blueprints/check", dependencies=[VIEW_BY_POST], response_model=Findings)
async def check_a_blueprint(request: Request, body: BlueprintText) -> Response:
    """Check a blueprint without publishing it: for editors. Handlers are those that workers have now."""
    return answer(request, await check_blueprint(client_of(request), body, request.app.state.checking))


@router.get(
    "/blueprints/{blueprint_id}", dependencies=[VIEW], response_model=BlueprintDetails, responses=documented(404)
)
async def read_blueprint(request: Request, blueprint_id: BlueprintId, version: Version = None) -> Response:
    """A blueprint in its plain form: all short forms and defaults are worked in."""
    return answer(request, await client_of(request).blueprint(blueprint_id, version=version))


@router.get(
    "/blueprints/{blueprint_id}/graph", dependencies=[VIEW], response_model=BlueprintGraph, responses=documented(404)
)
async def read_graph(request: Request, blueprint_id: BlueprintId, version: Version = None) -> Response:
    """The nodes and edges of a blueprint."""
    found = await client_of(request).blueprint(blueprint_id, version=version)
    nodes, edges = found.document.get("nodes", []), found.document.get("edges", [])
    return answer(request, BlueprintGraph(id=found.id, version=found.version, nodes=nodes, edges=edges))


@router.get("/waiting", dependencies=[VIEW], response_model=WaitingPage)
async def list_waiting(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="About how many.")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=LONGEST_PATH + 40, description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """The nodes that wait for a signal, in all runs: what each asks, with the schema and the actions of its answer."""
    return answer(request, await client_of(request).waiting(limit=limit, cursor=cursor))


@router.get("/servers", dependencies=[VIEW], response_model=list[ServerProcess])
async def list_servers(request: Request) -> Response:
    """The `flowcraft-server` processes that were seen lately, with what is wrong with their files."""
    return answer(request, await client_of(request).admin.servers())


@router.post("/servers/reload", dependencies=[ADMIN], response_model=list[ServerAnswer], responses=documented(409))
async def reload_servers(request: Request, body: Reload | None = None, wait: RequestWait = 10.0) -> Response:
    """Have server processes read their blueprints again, and replace worker processes whose code has changed."""
    body = body or Reload()
    return answer(
        request,
        await client_of(request).admin.reload(restart_workers=body.restart_workers, host=body.host, timeout=wait),
    )


@router.post("/servers/drain", dependencies=[ADMIN], response_model=list[ServerAnswer], responses=documented(409))
async def drain_servers(request: Request, body: Drain, wait: RequestWait = 10.0) -> Response:
    """Have server processes, or the process of one worker, take no more work, finish what runs, and end."""
    answers = await client_of(request).admin.drain(body.worker, host=body.host, timeout=wait)
    return answer(request, answers)


@router.get("/queues", dependencies=[VIEW], response_model=list[QueueInfo])
async def list_queues(request: Request) -> Response:
    """The queues: how many nodes are ready in each, since when, and how many workers serve it."""
    return answer(request, await client_of(request).admin.queues())


@router.get("/limits", dependencies=[VIEW], response_model=list[LimitInfo])
async def list_limits(request: Request) -> Response:
    """The limits of concurrency and rate, and how many nodes wait for each."""
    return answer(request, await client_of(request).admin.limits())


@router.post("/queues/{name}/pause", dependencies=[ADMIN], response_model=QueueInfo)
async def pause_queue(request: Request, name: QueueName) -> Response:
    """Have workers claim nothing more from a queue. What runs goes on."""
    return answer(request, await client_of(request).admin.pause_queue(name))


@router.post("/queues/{name}/resume", dependencies=[ADMIN], response_model=QueueInfo)
async def resume_queue(request: Request, name: QueueName) -> Response:
    """Have workers claim from a queue again."""
    return answer(request, await client_of(request).admin.resume_queue(name))


@router.get("/dead-letters", dependencies=[VIEW], response_model=list[DeadLetter])
async def list_dead_letters(
    request: Request, limit: Annotated[int, Query(ge=1, le=MOST_A_PAGE, description="How many at most.")] = 100
) -> Response:
    """The nodes that were given up because their worker was lost again and again, the newest first."""
    return answer(request, await client_of(request).admin.dead_letters(limit=limit))


@router.post(
    "/dead-letters/{run_id}/replay",
    dependencies=[OPERATE],
    response_model=Replayed,
    responses=documented(404, 409, 410),
)
async def replay_dead_letter(request: Request, run_id: RunId) -> Response:
    """Do the run of a dead letter again as a new run, and delete its dead letters. It may be repeated."""
    handle = await client_of(request).admin.replay(run_id)
    return answer(request, Replayed(run_id=handle.run_id, attached=handle.attached))


@router.delete("/dead-letters/{run_id}", dependencies=[ADMIN], response_model=Deleted, responses=documented(404))
async def delete_dead_letters(
    request: Request,
    run_id: RunId,
    node: Annotated[str | None, Query(max_length=LONGEST_PATH, description="Only that of this node.")] = None,
) -> Response:
    """Delete the dead letters of a run. The run stays as it is."""
    return answer(request, Deleted(deleted=await client_of(request).admin.delete_dead_letters(run_id, node)))


@router.post("/doctor", dependencies=[ADMIN], response_model=list[Defect], responses=documented(404, 410))
async def examine(request: Request, body: Examination | None = None) -> Response:
    """Look for stuck runs and left-over entries, and repair with `fix` what is safe to repair."""
    body = body or Examination()
    return answer(request, await client_of(request).admin.examine(body.run_id, fix=body.fix))
