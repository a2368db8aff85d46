"""The end of the process, for what waits: long requests answer at once, streams say good-bye."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stopping:
    """Whether the process is about to stop."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()

    @property
    def requested(self) -> bool:
        """Whether it is."""
        return self._requested.is_set()

    def request(self) -> None:
        """Have all that waits end. Only on the event loop."""
        self._requested.set()

    async def wait(self) -> None:
        """Wait until it is."""
        await self._requested.wait()

    async def unless_stopping(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The value of a coroutine; None if the process is about to stop first, which cancels it."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._requested.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return await task if task.done() else None
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
