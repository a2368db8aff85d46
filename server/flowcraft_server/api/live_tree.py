"""The stream of the events of a run and of the runs below it. Each stream follows on its own: few look at whole trees."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from flowcraft_sdk import AsyncHandle, FlowcraftError, WaitTimeoutError

from .answers import presented
from .live import BEAT, BEAT_SECONDS, RETRY, LiveEvents, last_event
from .problems import encoded, problem_of
from .stopping import Stopping


async def stream_tree(request: Request, handle: AsyncHandle[Any], wait: float | None) -> Response:
    """The stream, from the beginning: several histories have no common position at which it could go on.

    Args:
        wait: seconds after which it ends.

    Raises:
        Problem: 503, there are too many streams.
        RunNotFoundError: there is no such run.
    """
    live: LiveEvents = request.app.state.live
    live.check_room()
    await handle.status()
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(live.counted(_events(request, handle, wait)), 200, headers, "text/event-stream")


async def _events(request: Request, handle: AsyncHandle[Any], wait: float | None) -> AsyncIterator[bytes]:
    stopping: Stopping = request.app.state.stopping
    events = aiter(handle.events(children=True, timeout=wait))
    stop = asyncio.ensure_future(stopping.wait())
    following: asyncio.Task[Any] | None = None
    try:
        yield RETRY
        while True:
            following = following or asyncio.ensure_future(anext(events))
            await asyncio.wait({following, stop}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                event, following = following.result(), None
                yield b"event: %s\ndata: %s\n\n" % (event.type.encode(), encoded(presented(request, event)))
            elif stop.done():
                yield last_event("closing", {"detail": "the server is about to stop: connect again"})
                return
            else:
                yield BEAT
    except StopAsyncIteration:
        yield last_event("end", {"status": await handle.status()})
    except WaitTimeoutError:
        yield last_event("timeout", {"detail": "the time that was asked for is over"})
    except FlowcraftError as error:
        problem = problem_of(error)
        yield last_event("problem", {"code": problem.code, "detail": problem.detail})
    finally:
        stop.cancel()
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        await events.aclose()  # type: ignore[attr-defined]
