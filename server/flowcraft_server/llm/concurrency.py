"""A bound on concurrent calls that threads and event loops share."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager


class ConcurrencyLimit:
    """At most `limit` holders at a time, first come first served, across threads and event loops.

    Neither `threading.Semaphore` nor `asyncio.Semaphore` will do: the one blocks an event loop while it waits, the
    other belongs to a single loop, and plain and coroutine handlers of one process call the same provider.

    Args:
        limit: number of holders, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter] = deque()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold one place; waits in the calling thread for it."""
        granted = threading.Event()
        waiter = self._enter(granted.set)
        if waiter is not None:
            try:
                granted.wait()
            except BaseException:  # KeyboardInterrupt: the place must not be lost with the waiter
                self._give_up(waiter)
                raise
        try:
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def aheld(self) -> AsyncIterator[None]:
        """Hold one place; waits for it without blocking the event loop."""
        loop = asyncio.get_running_loop()
        granted = asyncio.Event()

        def grant() -> None:
            loop.call_soon_threadsafe(granted.set)

        waiter = self._enter(grant)
        if waiter is not None:
            try:
                await granted.wait()
            except BaseException:
                self._give_up(waiter)
                raise
        try:
            yield
        finally:
            self._leave()

    def _enter(self, grant: Callable[[], object]) -> "_Waiter | None":
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            waiter = _Waiter(grant)
            self._waiting.append(waiter)
            return waiter

    def _give_up(self, waiter: "_Waiter") -> None:
        with self._lock:
            if not waiter.granted:
                self._waiting.remove(waiter)
                return
        self._leave()

    def _leave(self) -> None:
        """Hand the place to the call that has waited longest, or free it."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                waiter = self._waiting.popleft()
                waiter.granted = True
            try:
                waiter.grant()
            except RuntimeError:  # its event loop was closed while it waited: the next one gets the place
                continue
            return


class _Waiter:
    __slots__ = ("grant", "granted")

    def __init__(self, grant: Callable[[], object]) -> None:
        self.grant = grant
        self.granted = False
