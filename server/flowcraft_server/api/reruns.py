"""Routes that do runs again, remove them, and act on many at once."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from flowcraft_sdk import FAILED, BulkOutcome, BulkPreview, FlowcraftError, RunStatus
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, LONGEST_PATH, LONGEST_REASON, LONGEST_TAG, MOST_LISTED

from .access import ADMIN, OPERATE, Role, principal_of
from .answers import answer, context_of
from .bodies import Deleted, RequestBody, RunStarted, Span
from .live import last_event
from .openapi import routes
from .problems import Problem, documented, encoded, problem_of
from .runs import PREFIX, IdempotencyKey, RunId, client_of, handle_of, href_of

router = routes(f"{PREFIX}/runs", tag="runs")

ALL_THAT_FAILED = "failed"
"""What `from` is for all nodes that failed, were cancelled or were never reached."""

NodeId = Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)]


class Rerun(RequestBody):
    """A run to do again.

    Attributes:
        from_node: A node or several, which run again with all behind them; `failed` for what failed, was cancelled or was never
            reached, unless a node has that name (then write it as a list). Without it the whole run is done again.
        patch: Context values that replace those of the run.
        blueprint_version: `same` for the version that the run had, `current` for the one that is published now.
        run_id: An id of your own for the new run; by default `Idempotency-Key`, or a new one.
        on_conflict: What to do when the id is taken: `attach` to the same rerun, or `raise`.
    """

    from_node: Annotated[NodeId | Annotated[list[NodeId], Field(max_length=1000)] | None, Field(alias="from")] = None
    patch: dict[str, Any] | None = None
    blueprint_version: Literal["same", "current"] = "same"
    run_id: Annotated[str, Field(max_length=LONGEST_PATH)] | None = None
    on_conflict: Literal["attach", "raise"] = "attach"


class RunAction(RequestBody):
    """Something to do to all runs that a filter names.

    Attributes:
        action: What to do; `delete` needs the role admin.
        dry_run: Whether only to count them.
        blueprint: Only runs of this blueprint.
        status: Only runs in one of these states; by default those that the action can be done to.
        tag: Only runs with this tag.
        since: Only runs recorded at or after this moment; with a time zone.
        until: Only runs recorded before this moment; with a time zone.
        limit: How many at most, the newest ones; 1,000 unless the answer is a stream.
        reason: Kept with each run, of `cancel`.
        grace: How long running handlers may take to stop, of `cancel`.
        from_node: As of a rerun.
        blueprint_version: As of a rerun.
    """

    action: Literal["cancel", "rerun", "delete"]
    dry_run: bool = False
    blueprint: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None
    status: list[RunStatus] | None = None
    tag: Annotated[str, Field(min_length=1, max_length=LONGEST_TAG)] | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    grace: Span | None = None
    from_node: Annotated[NodeId | Annotated[list[NodeId], Field(max_length=1000)] | None, Field(alias="from")] = None
    blueprint_version: Literal["same", "current"] = "same"

    @property
    def filters(self) -> dict[str, Any]:
        """The runs that are meant, as the SDK takes it."""
        return {
            "blueprint_id": self.blueprint, "status": self.status, "tag": self.tag,
            "started_after": self.since, "started_before": self.until,
        }  # fmt: skip


class ActionResult(BaseModel):
    """What came of an action.

    Attributes:
        done: To how many runs it was done.
        refused: To how many it could not be done.
        outcomes: What came of each run.
    """

    done: int
    refused: int
    outcomes: list[BulkOutcome]


@router.post(
    "/actions",
    dependencies=[OPERATE],
    response_model=ActionResult | BulkPreview,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **documented()},
)
async def act_on_runs(request: Request, body: RunAction) -> Response:
    """Cancel, rerun or delete all runs that a filter names. With `dry_run` they are counted; as a stream, each is reported."""
    if body.action == "delete" and Role.ADMIN not in principal_of(request).role.includes:
        raise Problem(403, "forbidden", "to delete runs needs the role admin")
    streamed = "text/event-stream" in request.headers.get("accept", "")
    admin = client_of(request).admin
    if body.dry_run:
        return answer(request, await admin.preview_runs(body.action, limit=body.limit, **body.filters))
    if not streamed and (body.limit or MOST_LISTED) > MOST_LISTED:
        raise Problem(422, "invalid_request", f"limit is {MOST_LISTED} at most; ask for a stream to act on more")
    limit = body.limit if streamed else body.limit or MOST_LISTED
    outcomes = _outcomes(request, body, limit)
    if streamed:
        await admin.preview_runs(
            body.action, limit=1, **body.filters
        )  # a filter that cannot be used is refused at once
        return StreamingResponse(_progress(request, outcomes), 200, {"cache-control": "no-store"}, "text/event-stream")
    found = [outcome async for outcome in outcomes]
    done = sum(outcome.done for outcome in found)
    return answer(request, ActionResult(done=done, refused=len(found) - done, outcomes=found))


def _outcomes(request: Request, body: RunAction, limit: int | None) -> AsyncIterator[BulkOutcome]:
    admin = client_of(request).admin
    if body.action == "cancel":
        return admin.cancel_runs(limit=limit, reason=body.reason, grace=body.grace, **body.filters)
    if body.action == "delete":
        return admin.delete_runs(limit=limit, **body.filters)
    return admin.rerun_runs(_from(body.from_node), limit=limit, version=body.blueprint_version, **body.filters)


async def _progress(request: Request, outcomes: AsyncIterator[BulkOutcome]) -> AsyncIterator[bytes]:
    """Each outcome as an event; what is not done when the process stops is left, and the last event says so."""
    done = refused = 0
    try:
        async with aclosing(outcomes) as each:  # type: ignore[type-var]
            async for outcome in each:
                done, refused = done + outcome.done, refused + (not outcome.done)
                yield b"event: outcome\ndata: %s\n\n" % encoded(outcome.model_dump(mode="json"))
                if request.app.state.stopping.requested:
                    yield last_event(
                        "closing", {"done": done, "refused": refused, "detail": "the server is about to stop"}
                    )
                    return
    except FlowcraftError as error:
        problem = problem_of(error)
        yield last_event("problem", {"done": done, "refused": refused, "code": problem.code, "detail": problem.detail})
        return
    yield last_event("end", {"done": done, "refused": refused})


@router.post(
    "/{run_id}/rerun",
    dependencies=[OPERATE],
    status_code=201,
    response_model=RunStarted,
    responses={200: {"model": RunStarted, "description": "The new run was there already"}, **documented(404, 409, 410)},
)
async def rerun(
    request: Request, run_id: RunId, body: Rerun | None = None, idempotency_key: IdempotencyKey = None
) -> Response:
    """Do an ended run again as a new run, from a node, from what failed, or as a whole. The old one stays as it is."""
    body = body or Rerun()
    if body.run_id is not None and idempotency_key is not None and body.run_id != idempotency_key:
        raise Problem(422, "invalid_request", "run_id and Idempotency-Key differ: send one of them")
    handle = await handle_of(request, run_id).rerun(
        _from(body.from_node),
        ctx_patch=context_of(request, body.patch),
        on_conflict=body.on_conflict,
        version=body.blueprint_version,
        run_id=body.run_id if body.run_id is not None else idempotency_key,
    )
    href = href_of(handle.run_id)
    started = RunStarted(run_id=handle.run_id, attached=handle.attached, href=href)
    return answer(request, started, 200 if handle.attached else 201, {"location": href})


@router.delete("/{run_id}", dependencies=[ADMIN], response_model=Deleted, responses=documented(404, 409, 410))
async def delete_run(request: Request, run_id: RunId) -> Response:
    """Remove an ended run with all its child runs, in place of waiting for retention. It may be repeated."""
    return answer(request, Deleted(deleted=int(await handle_of(request, run_id).delete())))


def _from(node: str | list[str] | None) -> Any:
    return FAILED if node == ALL_THAT_FAILED else node
