"""Notices open lists that something has changed: one look a second at the counts of runs, for all pages of a process together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from flowcraft_sdk import FlowcraftError

LOOK_SECONDS = 1.0
MOST_LISTENERS = 2_000
BEAT_SECONDS = 15.0
"""Pause after which a stream sends a comment, so that both sides notice a broken connection."""


class Changes:
    """Looks whether a deployment has changed, while anybody listens.

    Args:
        look: reads what is compared from one look to the next.
        pause: seconds between two looks.
    """

    def __init__(self, look: Callable[[], Awaitable[object]], pause: float = LOOK_SECONDS) -> None:
        self._look = look
        self._pause = pause
        self._listeners: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether there is no room for a further listener."""
        return len(self._listeners) >= MOST_LISTENERS

    async def stream(self, stopped: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Server-sent events, `changed` for each change.

        Args:
            stopped: whether the process is about to stop, which ends the stream.
        """
        changed = asyncio.Event()
        self._listeners.add(changed)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="flowcraft-changes")
        try:
            yield b"retry: 2000\n\n"
            quiet = 0.0
            while not stopped():
                try:
                    await asyncio.wait_for(changed.wait(), self._pause)
                except TimeoutError:
                    quiet += self._pause
                    if quiet < BEAT_SECONDS:
                        continue
                    yield b": \n\n"
                else:
                    changed.clear()
                    yield b"event: changed\ndata: {}\n\n"
                quiet = 0.0
        finally:
            self._listeners.discard(changed)

    async def _watch(self) -> None:
        seen: object = None
        begun = False
        while self._listeners:
            found: object = None  # Redis is away: the pages ask once, say so, and go on to ask by themselves
            with suppress(FlowcraftError):
                found = await self._look()
            if begun and found != seen:
                for listener in self._listeners:
                    listener.set()
            seen, begun = found, True
            await asyncio.sleep(self._pause)
