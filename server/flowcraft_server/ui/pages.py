"""The routes of the pages."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from itertools import zip_longest
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request
from pydantic import Field
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from flowcraft_sdk import FlowcraftError, RunStatus, RunSummary
from flowcraft_sdk.protocol.bounds import LONGEST_EVENT_ID, LONGEST_PATH
from flowcraft_sdk.records import STATES
from flowcraft_server.api.access import PUBLIC, check_routes, principal_of
from flowcraft_server.api.live import LiveEvents
from flowcraft_server.api.problems import Problem, problem_of

from .access import PAGE, NoPage
from .assets import assets
from .changes import Changes
from .drawing import Layouts, draw
from .forms import fields_of_inputs
from .node_panel import panel_of
from .opened import MOST_OPENED
from .overview import WINDOWS, RecentStats, overview_values
from .published import blueprint_of
from .rendering import Renderer, url, with_query
from .run_page import run_values
from .version_page import comparison_of
from .waits import open_wait

PAGE_RUNS = 50
MOST_WAITS = 50
MOST_BLUEPRINTS = 200
MOST_LETTERS = 100
MOST_VERSIONS = 50
STRIP_RUNS = 12
"""Runs of each blueprint whose states the list of blueprints shows."""

SPANS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "2d": timedelta(days=2),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
ORDER = ("running", "waiting", "queued", "scheduled", "cancelling", "completed", "failed", "timed_out", "cancelled")

LONGEST_CURSOR = LONGEST_PATH + 40

router = APIRouter(include_in_schema=False)
RunId = Annotated[str, Path(min_length=1, max_length=LONGEST_PATH)]
Text = Annotated[str | None, Query(max_length=LONGEST_PATH)]
Ways = Annotated[tuple[Annotated[str, Field(max_length=LONGEST_PATH)], ...], Field(max_length=MOST_OPENED + 1)]


def add_pages(app: FastAPI) -> None:
    """Add the pages to an application of the API.

    Args:
        app: what `create_app` made.
    """
    renderer = Renderer(app)
    app.state.pages = renderer
    app.state.layouts = Layouts()
    app.state.changes = Changes(lambda: counts_of(renderer))
    app.state.recent_stats = RecentStats(lambda window: renderer.client.stats(window))
    app.include_router(router)
    app.add_exception_handler(NoPage, _no_page)
    check_routes(app)


async def counts_of(pages: Renderer) -> list[tuple[str, int]]:
    """How many runs there are in each state."""
    states = [state for state in ORDER if state in STATES]
    counts = await asyncio.gather(*(pages.client.count_runs(status=RunStatus(state)) for state in states))
    return list(zip(states, counts, strict=True))


async def _no_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, NoPage)
    pages = _pages(request)
    if error.problem.status == 401:
        return await pages.page(request, "login.html", "", "Log in", status=401)
    return await _problem_page(request, error.problem)


async def _problem_page(request: Request, problem: Problem) -> HTMLResponse:
    headings = {
        403: "That is not for you",
        404: "There is no such thing",
        410: "This run is no longer kept",
        503: "Redis does not answer",
    }
    return await _pages(request).page(
        request,
        "problem.html",
        "",
        headings.get(problem.status, "That did not work"),
        status=problem.status,
        heading=headings.get(problem.status, "That did not work"),
        detail=problem.detail,
        away=problem.status == 503,
        href=url("runs") if problem.status in (404, 410) else request.url.path,
        label="All runs" if problem.status in (404, 410) else "Try again",
    )


def _pages(request: Request) -> Renderer:
    pages: Renderer = request.app.state.pages
    return pages


@router.get("/ui/{digest}/{name}", dependencies=[PUBLIC])
async def asset(digest: str, name: str) -> Response:
    """A style sheet, a script or the icons."""
    files = assets()
    found = files.content.get(name)
    if found is None:
        return Response(status_code=404)
    kept = "public, max-age=31536000, immutable" if digest == files.digest else "no-store"
    return Response(found[0], media_type=found[1], headers={"cache-control": kept})


@router.get("/ui-changes", dependencies=[PAGE])
async def changes(request: Request) -> Response:
    """A stream that announces that lists have changed."""
    changed: Changes = request.app.state.changes
    if changed.is_full:
        return Response("this process has no room for a further stream", 503, {"retry-after": "5"}, "text/plain")
    stream = changed.stream(lambda: request.app.state.stopping.requested)
    return StreamingResponse(stream, 200, {"cache-control": "no-store", "x-accel-buffering": "no"}, "text/event-stream")


@router.get("/", dependencies=[PAGE])
async def overview(request: Request, window: Text = None) -> Response:
    """How the deployment does."""
    pages = _pages(request)
    chosen = window if window in WINDOWS else next(iter(WINDOWS))
    try:
        values = await overview_values(pages.client, request.app.state.recent_stats, chosen)
    except FlowcraftError as error:
        return await _problem_page(request, problem_of(error))
    return await pages.page(request, "overview.html", "overview", "Overview", live="/ui-changes", **values)


async def _runs(pages: Renderer, **wanted: Any) -> list[RunSummary]:
    return [run async for run in pages.client.list_runs(page_size=PAGE_RUNS, **wanted)]


@router.get("/runs", dependencies=[PAGE])
async def runs(
    request: Request,
    status: Text = None,
    blueprint: Text = None,
    tag: Text = None,
    since: Text = None,
    q: Text = None,
    cursor: Annotated[str | None, Query(max_length=LONGEST_CURSOR)] = None,
) -> Response:
    """The list of runs."""
    pages = _pages(request)
    wanted: dict[str, Any] = {"blueprint_id": blueprint or None, "tag": tag or None, "search": q or None}
    if status in STATES:
        wanted["status"] = RunStatus(status)
    if since in SPANS:
        wanted["started_after"] = pages.now() - SPANS[since]
    kept = {
        "status": status if status in STATES else None,
        "blueprint": blueprint,
        "tag": tag,
        "since": since if since in SPANS else None,
        "q": q or None,
    }
    try:
        found, counts, known = await asyncio.gather(
            pages.client.list_runs_page(limit=PAGE_RUNS, cursor=cursor, **wanted),
            counts_of(pages),
            pages.client.blueprints(),
        )
    except FlowcraftError as error:
        return await _problem_page(request, problem_of(error))

    def with_filter(**changed: str | None) -> str:
        return with_query(url("runs"), {**kept, **changed})

    return await pages.page(
        request, "runs.html", "runs", "Runs", live="" if cursor else "/ui-changes",
        runs=found.items, counts=[each for each in counts if each[1] or each[0] == status], filter=kept, with_filter=with_filter,
        filtered=any(kept.values()), blueprint_ids=[info.id for info in known], earlier=bool(cursor),
        next_href=with_filter(cursor=found.next_cursor) if found.next_cursor else "",
    )  # fmt: skip


@router.get("/find", dependencies=[PAGE])
async def find(request: Request, q: Text = None) -> Response:
    """Go to the run with an id; to a list where there is none."""
    text = (q or "").strip()
    if text:
        with suppress(FlowcraftError):
            await _pages(request).client.get_handle(text).status()
            return RedirectResponse(url("runs", text), 303)
    return RedirectResponse(with_query(url("runs"), {"q": text}), 303)


@router.get("/runs/{run_id}", dependencies=[PAGE])
async def run(
    request: Request,
    run_id: RunId,
    tab: Text = None,
    node: Text = None,
    items: Text = None,
    opened: Annotated[Ways, Query(alias="open")] = (),
) -> Response:
    """A run."""
    pages = _pages(request)
    try:
        values = await run_values(request, pages, run_id, tab or "", node or "", opened, items or "")
    except FlowcraftError as error:
        return await _problem_page(request, problem_of(error))
    return await pages.page(request, "run.html", "runs", run_id, **values)


@router.get("/runs/{run_id}/changes", dependencies=[PAGE])
async def run_changes(
    request: Request, run_id: RunId, child: Annotated[Ways, Query()] = (), after: Annotated[Ways, Query()] = ()
) -> Response:
    """A stream that announces that a run has changed, or one of the child runs that are opened in it."""
    live: LiveEvents = request.app.state.live
    seen = [int(each) if each.isdecimal() and len(each) <= LONGEST_EVENT_ID else 0 for each in after]
    places = zip_longest((run_id, *child), seen[: len(child) + 1], fillvalue=0)
    client = _pages(request).client
    try:
        return await live.respond_changes(request, [(client.get_handle(str(each)), at) for each, at in places])
    except FlowcraftError as error:
        problem = problem_of(error)
        return Response(problem.detail, problem.status, media_type="text/plain")
    except Problem as problem:
        return Response(problem.detail, problem.status, problem.headers, "text/plain")


@router.get("/waiting", dependencies=[PAGE])
async def waiting(request: Request) -> Response:
    """What waits for a person."""
    pages = _pages(request)
    try:
        found = await pages.client.waiting(limit=MOST_WAITS)
    except FlowcraftError as error:
        return await _problem_page(request, problem_of(error))
    return await pages.page(
        request, "waiting.html", "waiting", "Waiting", live="/ui-changes", more=found.next_cursor is not None,
        waits=[open_wait(node, node.run_id, node.blueprint_id) for node in found.items],
    )  # fmt: skip


@router.get("/blueprints", dependencies=[PAGE])
async def blueprints(request: Request) -> Response:
    """The published blueprints."""
    pages = _pages(request)
    client = pages.client
    try:
        published = await client.blueprints()
        known = published[:MOST_BLUEPRINTS]
        counts = await asyncio.gather(*(client.count_runs(blueprint_id=info.id) for info in known))
        strips = await asyncio.gather(*(_runs(pages, blueprint_id=info.id, limit=STRIP_RUNS) for info in known))
    except FlowcraftError as error:
        return await _problem_page(request, problem_of(error))
    rows = [
        {"info": info, "runs": count, "strip": strip[::-1]}
        for info, count, strip in zip(known, counts, strips, strict=True)
    ]
    return await pages.page(
        request,
        "blueprints.html",
        "blueprints",
        "Blueprints",
        live="/ui-changes",
        blueprints=rows,
        left_out=len(published) - len(known),
    )


@router.get("/blueprints/{blueprint_id}", dependencies=[PAGE])
async def blueprint(request: Request, blueprint_id: RunId, node: Text = None, compare: Text = None) -> Response:
    """A blueprint."""
    pages = _pages(request)
    try:
        known = {info.id: info for info in await pages.client.blueprints()}
        info = known.get(blueprint_id)
        if info is None:
            return await _problem_page(
                request, Problem(404, "not_found", f"no blueprint '{blueprint_id[:80]}' is published")
            )
        found, latest, versions = await asyncio.gather(
            blueprint_of(pages.client, info.id, info.version),
            _runs(pages, blueprint_id=info.id, limit=10),
            pages.client.blueprint_versions(info.id),
        )
        principal, layouts = principal_of(request), request.app.state.layouts
        compared = (
            await comparison_of(pages, principal, layouts, compare, versions[0])
            if compare and versions[0].current
            else None
        )
    except FlowcraftError as error:
        return await _problem_page(request, problem_of(error))
    here = url("blueprints", info.id)
    return await pages.page(
        request, "blueprint.html", "blueprints", info.id, live="/ui-changes", info=info, latest=latest, chosen=node or "",
        drawing=draw(layouts, info.version, found) if found is not None else None, versions=versions[:MOST_VERSIONS],
        more_versions=max(0, len(versions) - MOST_VERSIONS), compared=compared, here=here,
        version_href=lambda version: with_query(here, {"compare": version}),
        inputs=fields_of_inputs(info.inputs), node_href=lambda node_id: with_query(here, {"node": node_id}),
        tab="graph", tab_href=lambda _tab, node_id: with_query(here, {"node": node_id}),
        node=panel_of(pages, principal, found, node) if found is not None and node else None,
    )  # fmt: skip


@router.get("/operations", dependencies=[PAGE])
async def operations(request: Request, examine: bool = False) -> Response:
    """Workers, dead letters, and what the doctor finds."""
    pages = _pages(request)
    client = pages.client
    try:
        info, workers, letters, queues, limits, schedules = await asyncio.gather(
            client.ping(), client.workers(), client.admin.dead_letters(limit=MOST_LETTERS),
            client.admin.queues(), client.admin.limits(), client.schedules.list(),
        )  # fmt: skip
        defects = await client.admin.examine() if examine else None
    except FlowcraftError as error:
        return await _problem_page(request, problem_of(error))
    return await pages.page(
        request, "operations.html", "operations", "Operations", live="" if examine else "/ui-changes",
        redis=f"Redis {info.redis_version}", workers=workers, letters=letters,
        more_letters=len(letters) == MOST_LETTERS, defects=defects,
        queues=queues, limits=limits, schedules=schedules,
    )  # fmt: skip
