"""The lifespan of a worker process: entered before its first node, left after its last one."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

from loguru import logger

from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.config.handler import Handler
from flowcraft_server.config.lifespan import Lifespan, resource
from flowcraft_server.worker.code_location import raised_at

ENTER_SECONDS = 60.0
"""After which a lifespan that has not been entered is an error."""

LEAVE_SECONDS = 5.0
"""After which a lifespan that has not been left is given up: the process ends all the same."""

_MISSING = object()


class LifespanError(Exception):
    """The lifespan of a deployment cannot be entered, or does not yield what handlers take. One line."""


class MissingResource(NonRetryableError):
    """A handler takes a resource that the lifespan has not yielded."""


class EnteredLifespan:
    """A lifespan in a worker process, and what handlers get of it.

    A plain one is entered and left in a thread of its own, as what it holds may belong to the thread that made it; an
    asynchronous one in a task on the event loop of the coroutines.

    Args:
        lifespan: None for a deployment without one.
    """

    def __init__(self, lifespan: Lifespan | None) -> None:
        self._lifespan = lifespan
        self.value: Any = None
        self._entered = threading.Event()
        self._left = threading.Event()
        self._leave: Callable[[], None] = lambda: None
        self._error: BaseException | None = None
        self._loop: Any = None
        self._is_leaving = False

    def enter(self, loop: Any, handlers: Iterable[Handler]) -> None:
        """Enter it, and see that it yields what handlers take.

        Args:
            loop: the event loop on which coroutines run, by now.

        Raises:
            LifespanError: it raised, took too long, or does not yield what a handler takes.
        """
        lifespan = self._lifespan
        if lifespan is None:
            return
        try:
            manager = lifespan.enter()
        except BaseException as error:
            raise LifespanError(f"lifespan '{lifespan.path}' failed: {raised_at(error)}") from error
        if hasattr(manager, "__aenter__"):
            self._loop = loop
            loop.call_soon_threadsafe(self._begin, loop, manager)
        elif hasattr(manager, "__enter__"):
            leave = threading.Event()
            self._leave = leave.set
            threading.Thread(target=self._hold, args=(manager, leave), name="lifespan", daemon=True).start()
        else:
            raise LifespanError(
                f"lifespan '{lifespan.path}' gives a {type(manager).__name__}, which is no context manager: decorate it with "
                "contextlib.asynccontextmanager or contextlib.contextmanager"
            )
        if not self._entered.wait(ENTER_SECONDS):
            raise LifespanError(f"lifespan '{lifespan.path}' has not been entered within {ENTER_SECONDS:g} s")
        if self._error is not None:
            self._is_leaving = True  # there is nothing to leave
            raise LifespanError(f"lifespan '{lifespan.path}' failed: {raised_at(self._error)}") from self._error
        for handler in handlers:
            for name in handler.resources:
                if resource(self.value, name, _MISSING) is _MISSING:
                    self.leave()
                    raise LifespanError(
                        f"handler '{handler.name}' takes {name!r}, which lifespan '{lifespan.path}' has not yielded"
                    )

    def leave(self) -> None:
        """Leave it, if it was entered; no longer than `LEAVE_SECONDS`."""
        if self._lifespan is None or not self._entered.is_set() or self._is_leaving:
            return
        self._is_leaving = True
        self._leave()
        if not self._left.wait(LEAVE_SECONDS):
            logger.error(
                "lifespan '{}' has not been left within {:g} s, and is given up", self._lifespan.path, LEAVE_SECONDS
            )
        elif self._error is not None:
            logger.error("lifespan '{}' failed when it was left: {}", self._lifespan.path, raised_at(self._error))

    def lost(self, loop: Any) -> str:
        """Why what it has yielded cannot be used any more; '' if it can.

        Args:
            loop: on which coroutines run now.
        """
        if self._lifespan is None or self._is_leaving or not self._entered.is_set():
            return ""
        if self._left.is_set():
            return f"lifespan '{self._lifespan.path}' has ended before its worker"
        if self._loop is not None and loop is not self._loop:
            return f"the event loop on which lifespan '{self._lifespan.path}' was entered is gone"
        return ""

    def resources_of(self, handler: Handler) -> dict[str, Any]:
        """What a handler takes by keyword.

        Raises:
            MissingResource: something of it is not there.
        """
        found = {}
        for name in handler.resources:
            value = resource(self.value, name, _MISSING)
            if value is _MISSING:
                raise MissingResource(f"handler '{handler.name}' takes {name!r}, which no lifespan has yielded")
            found[name] = value
        for name in handler.optional_resources:
            value = resource(self.value, name, _MISSING)
            if value is not _MISSING:
                found[name] = value
        return found

    def _hold(self, manager: Any, leave: threading.Event) -> None:
        try:
            with manager as value:
                self.value = value
                self._entered.set()
                leave.wait()
        except BaseException as error:
            self._error = error
        finally:
            self._left.set()
            self._entered.set()

    def _begin(self, loop: asyncio.AbstractEventLoop, manager: Any) -> None:
        leave = asyncio.Event()
        self._leave = lambda: _call(loop, leave.set)
        self._task = loop.create_task(self._hold_on_loop(manager, leave))

    async def _hold_on_loop(self, manager: Any, leave: asyncio.Event) -> None:
        try:
            async with manager as value:
                self.value = value
                self._entered.set()
                await leave.wait()
        except BaseException as error:
            self._error = error
        finally:
            self._left.set()
            self._entered.set()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:  # it is closed
        return
