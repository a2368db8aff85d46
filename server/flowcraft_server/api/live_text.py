"""What nodes stream, as pages and as streams of server-sent events."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from flowcraft_sdk import (
    AsyncHandle,
    FlowcraftError,
    NodeStatus,
    StreamEnded,
    StreamGap,
    StreamItem,
    StreamStarted,
    StreamText,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, STREAM_ID

from .access import VIEW
from .answers import answer
from .live import BEAT, BEAT_SECONDS, MOST_LISTENERS, RETRY, last_event
from .openapi import routes
from .problems import Problem, documented, encoded, problem_of
from .runs import LONGEST_STREAM, PREFIX, RunId, handle_of
from .stopping import Stopping

router = routes(f"{PREFIX}/runs", tag="runs")

ItemId = Annotated[str | None, Query(pattern=rf"^{STREAM_ID}$", description="Id of the last item already seen.")]


class StreamedItem(BaseModel):
    """An item of what a node streams.

    Attributes:
        id: For `after`.
        type: `started` as an execution of the node begins to stream, `text`, `gap` where text is missing, or `end`.
        attempt: Of `started`: number of the attempt.
        text: Of `text`: the piece.
        part: Of `text`: which of several texts it belongs to.
        status: Of `end`: how the node has ended.
    """

    id: str
    type: Literal["started", "text", "gap", "end"]
    attempt: int | None = None
    text: str | None = None
    part: str | None = None
    status: NodeStatus | None = None


class StreamPage(BaseModel):
    """What a node has streamed so far.

    Attributes:
        items: The items; pieces that follow each other are one.
        next_after: What `after` is to be for what comes; None once the node has ended.
    """

    items: list[StreamedItem]
    next_after: str | None


@router.get(
    "/{run_id}/nodes/{node_id}/stream",
    dependencies=[VIEW],
    response_model=StreamPage,
    responses={
        200: {
            "description": "What there is, or the stream",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The node has ended, and the stream has no more: do not connect again"},
        **documented(404, 410, 503),
    },
)
async def read_stream(
    request: Request,
    run_id: RunId,
    node_id: Annotated[
        str, Path(max_length=LONGEST_PATH, description="The node's instance, such as `node` or `node[7]`.")
    ],
    after: ItemId = None,
    wait: Annotated[
        float | None, Query(ge=0, le=LONGEST_STREAM, description="Seconds after which a stream ends by itself.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(pattern=rf"^{STREAM_ID}$", description="As `after`; browsers send it.")
    ] = None,
) -> Response:
    """Text that a node streams: what there is as JSON, or, with `Accept: text/event-stream`, that and what comes."""
    handle, seen = handle_of(request, run_id), last_event_id or after
    items, ended = await _so_far(handle, node_id, seen)
    if "text/event-stream" not in request.headers.get("accept", ""):
        last = items[-1].id if items else seen or "0-0"
        return answer(
            request, StreamPage(items=[_streamed(item) for item in items], next_after=None if ended else last)
        )
    if ended and len(items) == 1 and items[0].id == seen:
        return Response(status_code=204)  # a browser that has seen the end does not connect again
    streams: NodeStreams = request.app.state.node_streams
    return streams.respond(handle, node_id, items[-1].id if items else seen, wait, items, ended=ended)


class NodeStreams:
    """The streams of text of this process.

    Args:
        stopping: ends all of them.
    """

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._count = 0

    def respond(
        self,
        handle: AsyncHandle[Any],
        node_id: str,
        after: str | None,
        wait: float | None = None,
        first: Sequence[StreamItem] = (),
        *,
        ended: bool = False,
    ) -> Response:
        """The stream of a node's items behind an id.

        Args:
            handle: The run.
            node_id: The node.
            after: The id.
            wait: Seconds after which it ends.
            first: Items that were read already, up to that id.
            ended: Whether these are the last ones.

        Raises:
            Problem: 503, there are too many streams.
        """
        if self._count >= MOST_LISTENERS or self._stopping.requested:
            raise Problem(
                503, "too_many_streams", "this process has no room for a further stream", headers={"retry-after": "5"}
            )
        until = None if wait is None else time.monotonic() + wait
        rest = None if ended else self._rest(handle, node_id, after, until)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_all(first, rest), 200, headers, "text/event-stream")

    async def _rest(
        self, handle: AsyncHandle[Any], node_id: str, after: str | None, until: float | None
    ) -> AsyncGenerator[bytes, None]:
        # What a client does not take in time waits in Redis and not here, and is a gap once it is not kept any more.
        self._count += 1
        items = handle.stream(node_id, after=after)
        stop = asyncio.ensure_future(self._stopping.wait())
        coming: asyncio.Task[StreamItem | None] | None = None
        try:
            while True:
                left = BEAT_SECONDS if until is None else until - time.monotonic()
                if left <= 0:
                    yield last_event("timeout", {"detail": "the time that was asked for is over"})
                    return
                coming = coming or asyncio.create_task(_next(items))
                done, _ = await asyncio.wait(
                    {coming, stop}, timeout=min(left, BEAT_SECONDS), return_when=asyncio.FIRST_COMPLETED
                )
                if coming in done:
                    item = coming.result()
                    coming = None
                    if item is None:
                        return
                    yield _frame(item)
                elif stop in done:
                    yield last_event("closing", {"detail": "the server is about to stop: connect again"})
                    return
                elif left > BEAT_SECONDS or until is None:
                    yield BEAT
        except FlowcraftError as error:
            problem = problem_of(error)
            yield last_event("problem", {"code": problem.code, "detail": problem.detail})
        finally:
            self._count -= 1
            stop.cancel()
            if coming is not None:
                coming.cancel()
                await asyncio.wait([coming])
            await items.aclose()  # type: ignore[attr-defined]


async def _all(first: Sequence[StreamItem], rest: AsyncGenerator[bytes, None] | None) -> AsyncIterator[bytes]:
    yield RETRY
    for item in first:
        yield _frame(item)
    if rest is not None:
        async with aclosing(rest):
            async for part in rest:
                yield part


async def _next(items: AsyncIterator[StreamItem]) -> StreamItem | None:
    return await anext(items, None)


async def _so_far(handle: AsyncHandle[Any], node_id: str, after: str | None) -> tuple[list[StreamItem], bool]:
    """What there is behind an id, and whether that is all."""
    items: list[StreamItem] = []
    try:
        async for item in handle.stream(node_id, after=after, timeout=0):
            items.append(item)  # noqa: PERF401  (what came before the error counts)
    except WaitTimeoutError:
        return items, False
    return items, True


def _streamed(item: StreamItem) -> StreamedItem:
    if isinstance(item, StreamStarted):
        return StreamedItem(id=item.id, type="started", attempt=item.attempt)
    if isinstance(item, StreamText):
        return StreamedItem(id=item.id, type="text", text=item.text, part=item.part)
    if isinstance(item, StreamGap):
        return StreamedItem(id=item.id, type="gap")
    assert isinstance(item, StreamEnded)
    return StreamedItem(id=item.id, type="end", status=item.status)


def _frame(item: StreamItem) -> bytes:
    found = _streamed(item)
    data = encoded(found.model_dump(exclude={"id", "type"}, exclude_none=True, mode="json"))
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (found.id.encode(), found.type.encode(), data)
