"""Streams of events. One feed for each run that is watched feeds all of its listeners; the client has one subscription."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from flowcraft_sdk import AsyncHandle, FlowcraftError, RunEvent

from .answers import is_masked, is_tagged, presented
from .problems import Problem, encoded, problem_of
from .stopping import Stopping

MOST_LISTENERS = 2_000
MOST_BEHIND = 1_000
"""Events that wait for a listener to take them; with more it is too slow."""

BEAT_SECONDS = 15.0
"""Pause after which a stream sends a comment, so that both sides notice a broken connection."""

CHANGED = b"event: changed\ndata: {}\n\n"
RETRY = b"retry: 2000\n\n"
BEAT = b": \n\n"


class Frame:
    """An event as it is sent; it is encoded once for all listeners that see the same of it."""

    def __init__(self, event: RunEvent) -> None:
        self.position = int(event.id)
        self._event = event
        self._encoded: dict[tuple[bool, bool], bytes] = {}

    def seen_by(self, request: Request) -> bytes:
        """The event as the sender of a request may see it."""
        seen = is_masked(request), is_tagged(request)
        if seen not in self._encoded:
            event = self._event
            data = encoded(presented(request, event))
            self._encoded[seen] = b"id: %s\nevent: %s\ndata: %s\n\n" % (event.id.encode(), event.type.encode(), data)
        return self._encoded[seen]


class Listener:
    """One stream, and the events that wait for it."""

    def __init__(self) -> None:
        self.waiting: deque[Frame] = deque()
        self.overtaken = False
        self.end: tuple[str, Any] | None = None
        self.changed = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Add an event; with too many waiting all are dropped, as the listener has to read the history again."""
        if len(self.waiting) >= MOST_BEHIND:
            self.waiting.clear()
            self.overtaken = True
        if not self.overtaken:
            self.waiting.append(frame)
        self.changed.set()

    def start_over(self) -> None:
        """Drop what waits: the history is about to be read, which has it."""
        self.waiting.clear()
        self.overtaken = False

    def finish(self, kind: str, data: Any) -> None:
        """Have the stream end once it has sent what waits."""
        self.end = self.end or (kind, data)
        self.changed.set()


class _Feed:
    """Follows one run from a place in its history, for all listeners."""

    def __init__(self, handle: AsyncHandle[Any], seen: int) -> None:
        self.position = seen
        self.listeners: set[Listener] = set()
        self.task = asyncio.create_task(self._follow(handle), name="flowcraft-feed")

    async def _follow(self, handle: AsyncHandle[Any]) -> None:
        end: tuple[str, Any]
        try:
            async for event in handle.events(after=str(self.position)):
                self.position = int(event.id)
                frame = Frame(event)
                for listener in self.listeners:
                    listener.put(frame)
            end = "end", {"status": await handle.status()}
        except FlowcraftError as error:
            problem = problem_of(error)
            end = "problem", {"code": problem.code, "detail": problem.detail}
        for listener in self.listeners:
            listener.finish(*end)


class LiveEvents:
    """The streams of this process.

    Args:
        stopping: ends all of them.
    """

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._feeds: dict[str, _Feed] = {}
        self._count = 0

    async def respond(
        self, request: Request, handle: AsyncHandle[Any], after: str | None, wait: float | None = None
    ) -> Response:
        """The stream of a run's events behind an id.

        Args:
            wait: seconds after which it ends.

        Raises:
            Problem: 503, there are too many streams.
            RunNotFoundError: there is no such run.
        """
        self.check_room()
        if await handle.done() and after is not None and not await _is_more(handle, after):
            return Response(status_code=204)  # a browser that has seen all does not connect again
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        until = None if wait is None else time.monotonic() + wait
        return StreamingResponse(self._stream(request, handle, after, until), 200, headers, "text/event-stream")

    async def respond_changes(self, request: Request, places: Sequence[tuple[AsyncHandle[Any], int]]) -> Response:
        """A stream that announces that something has happened in one of several runs, and ends as the first one does.

        Args:
            places: the runs, each with the number of the event behind which it is followed.

        Raises:
            Problem: 503, there are too many streams.
            RunNotFoundError: there is no such run.
        """
        self.check_room()
        handle, seen = places[0]
        if await handle.done() and not await _is_more(handle, str(seen)):
            return Response(status_code=204)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self.counted(self._changes(request, places)), 200, headers, "text/event-stream")

    async def _changes(self, request: Request, places: Sequence[tuple[AsyncHandle[Any], int]]) -> AsyncIterator[bytes]:
        changed = asyncio.Event()
        ends: list[bytes] = []

        async def follow(handle: AsyncHandle[Any], seen: int) -> None:
            listener, last = Listener(), b""
            try:
                async for part in self._events(request, handle, seen, listener, None):
                    if part is not BEAT:
                        last = part
                        changed.set()
                if handle is places[0][0] or not last.startswith(b"event: end\n"):
                    ends.append(last)
            finally:
                self._leave(handle.run_id, listener)
                changed.set()

        following = [asyncio.create_task(follow(*place), name="flowcraft-changes-of-run") for place in places]
        try:
            yield RETRY
            while not ends:
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    yield BEAT
                else:
                    changed.clear()
                    yield CHANGED
            yield ends[0]
        finally:
            for task in following:
                task.cancel()
            await asyncio.wait(following)

    def check_room(self) -> None:
        """See that there is room for a further stream.

        Raises:
            Problem: 503, there is none.
        """
        if self._count >= MOST_LISTENERS or self._stopping.requested:
            raise Problem(
                503, "too_many_streams", "this process has no room for a further stream", headers={"retry-after": "5"}
            )

    async def counted(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A stream of another kind, which counts like those here."""
        self._count += 1
        try:
            async with aclosing(parts) as each:  # type: ignore[type-var]
                async for part in each:
                    yield part
        finally:
            self._count -= 1

    async def close(self) -> None:
        """End what follows runs."""
        tasks = [feed.task for feed in self._feeds.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _stream(
        self, request: Request, handle: AsyncHandle[Any], after: str | None, until: float | None
    ) -> AsyncIterator[bytes]:
        self._count += 1
        listener = Listener()
        try:
            yield RETRY
            async for part in self._events(request, handle, int(after or 0), listener, until):
                yield part
        finally:
            self._count -= 1
            self._leave(handle.run_id, listener)

    async def _events(
        self, request: Request, handle: AsyncHandle[Any], seen: int, listener: Listener, until: float | None
    ) -> AsyncIterator[bytes]:
        """All of the history, then the events of the feed; none is left out between the two, and none comes twice."""
        try:
            joined = False
            while True:
                listener.start_over()
                async for event in handle.events(after=str(seen), follow=False):
                    seen = int(event.id)
                    yield Frame(event).seen_by(request)
                    if self._stopping.requested:
                        break
                if joined and not listener.overtaken:
                    break  # what came while the history was read waits for us
                if self._join(handle, seen, listener).position <= seen:
                    break  # what the feed has passed on lies behind us, what comes waits for us
                joined = True
            async for part in self._live(request, seen, listener, until):
                yield part
        except FlowcraftError as error:
            problem = problem_of(error)
            yield last_event("problem", {"code": problem.code, "detail": problem.detail})

    async def _live(self, request: Request, seen: int, listener: Listener, until: float | None) -> AsyncIterator[bytes]:
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            while True:
                listener.changed.clear()
                while listener.waiting:
                    frame = listener.waiting.popleft()
                    if frame.position > seen:
                        seen = frame.position
                        yield frame.seen_by(request)
                if listener.overtaken:
                    yield last_event(
                        "dropped", {"detail": "too slow: connect again behind the last id", "after": str(seen)}
                    )
                    return
                if listener.end is not None and not listener.waiting:
                    yield last_event(*listener.end)
                    return
                if self._stopping.requested:
                    yield last_event("closing", {"detail": "the server is about to stop: connect again"})
                    return
                left = BEAT_SECONDS if until is None else until - time.monotonic()
                if left <= 0:
                    yield last_event("timeout", {"detail": "the time that was asked for is over", "after": str(seen)})
                    return
                change = asyncio.ensure_future(listener.changed.wait())
                try:
                    done, _ = await asyncio.wait(
                        {change, stop}, timeout=min(left, BEAT_SECONDS), return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    change.cancel()
                if not done and left > BEAT_SECONDS:
                    yield BEAT
        finally:
            stop.cancel()

    def _join(self, handle: AsyncHandle[Any], seen: int, listener: Listener) -> _Feed:
        feed = self._feeds.get(handle.run_id)
        if feed is None or (feed.task.done() and listener not in feed.listeners):
            feed = self._feeds[handle.run_id] = _Feed(handle, seen)
        feed.listeners.add(listener)
        return feed

    def _leave(self, run_id: str, listener: Listener) -> None:
        feed = self._feeds.get(run_id)
        if feed is None:
            return
        feed.listeners.discard(listener)
        if not feed.listeners:
            del self._feeds[run_id]
            feed.task.cancel()


async def _is_more(handle: AsyncHandle[Any], after: str) -> bool:
    events = handle.events(after=after, follow=False)
    with suppress(StopAsyncIteration):
        await anext(events)
        return True
    return False


def last_event(kind: str, data: Any) -> bytes:
    """The event that says why a stream ends."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encoded(data))
