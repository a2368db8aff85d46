"""Routes of schedules. They are written in `flowcraft.yaml`; here they are paused, resumed and triggered."""

from typing import Annotated

from fastapi import Path, Request
from starlette.responses import Response

from flowcraft_sdk import ScheduleInfo
from flowcraft_sdk.protocol.bounds import LONGEST_NAME

from .access import ADMIN, OPERATE, VIEW
from .answers import answer
from .bodies import RunStarted
from .openapi import routes
from .problems import documented
from .runs import PREFIX, client_of, href_of

router = routes(f"{PREFIX}/schedules", tag="schedules")

ScheduleId = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, description="Id of the schedule.")]


@router.get("", dependencies=[VIEW], response_model=list[ScheduleInfo])
async def list_schedules(request: Request) -> Response:
    """The schedules, each with its state and its next times."""
    return answer(request, await client_of(request).schedules.list())


@router.get("/{schedule_id}", dependencies=[VIEW], response_model=ScheduleInfo, responses=documented(404))
async def read_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """A schedule."""
    return answer(request, await client_of(request).schedules.get(schedule_id))


@router.post("/{schedule_id}/pause", dependencies=[OPERATE], response_model=ScheduleInfo, responses=documented(404))
async def pause_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Have a schedule start nothing until it is resumed."""
    schedules = client_of(request).schedules
    await schedules.pause(schedule_id)
    return answer(request, await schedules.get(schedule_id))


@router.post("/{schedule_id}/resume", dependencies=[OPERATE], response_model=ScheduleInfo, responses=documented(404))
async def resume_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Have a paused schedule go on."""
    schedules = client_of(request).schedules
    await schedules.resume(schedule_id)
    return answer(request, await schedules.get(schedule_id))


@router.post(
    "/{schedule_id}/trigger",
    dependencies=[OPERATE],
    status_code=201,
    response_model=RunStarted,
    responses=documented(404),
)
async def trigger_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Start a run as a tick would, now."""
    handle = await client_of(request).schedules.trigger(schedule_id)
    href = href_of(handle.run_id)
    return answer(request, RunStarted(run_id=handle.run_id, attached=False, href=href), 201, {"location": href})


@router.delete("/{schedule_id}", dependencies=[ADMIN], status_code=204, responses=documented(404))
async def delete_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Remove a schedule that no file has any more."""
    await client_of(request).schedules.delete(schedule_id)
    return Response(status_code=204)
