"""One asyncio event loop in a thread of its own that stays usable whatever coroutines do to it."""

import asyncio
import selectors
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, NamedTuple

import redis.asyncio as aioredis
from loguru import logger
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flowcraft_sdk._transport.connector import pool_of
from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.store.descriptors import VITAL
from flowcraft_server.store.link import SOCKET_TIMEOUT
from flowcraft_server.worker.forking import end_fork
from flowcraft_server.worker.liveness import thread_runs

CONTEXT_CONNECTIONS = 16
MOST_ERRORS = 20
"""Errors of the loop itself within a second after which it is given up."""

owner: ContextVar[Attempt | None] = ContextVar("owner", default=None)
"""The attempt for which the current task runs: its handler's coroutine, or a task that this one has created."""


class NodeTask(asyncio.Task[Any]):
    """A task that belongs to an attempt. Code of other attempts cannot cancel it, as `for task in all_tasks()` would.

    Attributes:
        attempt: whose code it runs; None for a task that no handler created.
        is_handler: it is the handler's own coroutine, which the worker alone stops.
    """

    attempt: Attempt | None = None
    is_handler = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it, if the caller is code of the same attempt."""
        caller = owner.get()
        if self.attempt is not None and caller is not self.attempt and (caller is not None or self.is_handler):
            key = ("", "") if caller is None else caller.key
            logger.bind(run=key[0], node=key[1]).warning(
                "a handler tried to cancel a task of another node (run {}, node {}); it was not cancelled",
                *self.attempt.key,
            )
            return False
        return super().cancel(msg)

    def stop(self) -> None:
        """Cancel it on behalf of the worker."""
        super().cancel()


class CountingSelector(selectors.DefaultSelector):
    """Watches from outside whether the loop advances.

    Attributes:
        turns: how many turns the loop has begun.
        asleep: the loop waits for something to happen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.asleep = False

    def select(self, timeout: float | None = None) -> Any:
        """Wait for events."""
        end_fork()  # of a coroutine: the loop's file descriptors are the worker's
        self.asleep = True
        self.turns += 1
        try:
            return super().select(timeout)
        finally:
            self.asleep = False


class _Loop(asyncio.SelectorEventLoop):
    def _write_to_self(self) -> None:
        """Wake the loop, through a socket whose number may have become another's."""
        if not VITAL.are_lost():
            super()._write_to_self()  # type: ignore[misc]

    def time(self) -> float:
        """Seconds by a clock that a handler which freezes time does not stop."""
        return clock()


Execute = Callable[["LoopThread", Attempt], Coroutine[Any, Any, None]]


class Submission(NamedTuple):
    """An attempt that a loop is to run, and what makes the coroutine that runs it, in the loop's thread."""

    attempt: Attempt
    execute: Execute


class LoopThread:
    """The loop and its thread.

    Args:
        url: of the Redis that coroutines read their context from.
        ended: called when such a task has ended.
        died: called from the loop's thread when the loop cannot be used any more although it was not closed by `close`.
        wrap: what is to run in place of the coroutine of a task that code of an attempt creates.

    Attributes:
        tasks: the attempts that it runs.
        submitted: attempts that it has not begun.
        retired: another loop has taken its place.
    """

    def __init__(
        self,
        url: str,
        ended: Callable[["LoopThread", NodeTask], None],
        died: Callable[["LoopThread"], None],
        wrap: Callable[[Any, Attempt | None], Any],
    ) -> None:
        self._url = url
        self._attempt_ended = ended
        self._died = died
        self.selector = CountingSelector()
        self.loop: asyncio.AbstractEventLoop = _Loop(self.selector)
        for vital in (self.selector, self.loop._ssock, self.loop._csock):  # type: ignore[attr-defined]
            VITAL.add(vital)
        self._wrap = wrap
        self.loop.set_task_factory(self._create_task)
        self.loop.set_exception_handler(_log_loop_error)
        self.tasks: dict[NodeTask, Attempt] = {}
        self.submitted: deque[Submission] = deque()
        self.retired = False
        self.redis: Any = None
        self._called = False
        self._closing = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-loop", daemon=True)
        self._blocked: tuple[int, float] | None = None
        self._asked = self._answered = 0
        self._asked_at = 0.0

    def start(self) -> None:
        """Start the loop and wait until it runs."""
        self._thread.start()
        self._started.wait()

    def submit(self, submission: Submission) -> None:
        """Have an attempt begun. It stays in `submitted` if the loop is closed."""
        self.submitted.append(submission)
        if not self._called:  # a call wakes the loop, which takes as long as a coroutine's beginning: one for all
            self._called = True
            self.call(self._begin)

    def call(self, function: Callable[[], object]) -> None:
        """Have the loop call a function soon; nothing happens if it is closed."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return

    def runs(self) -> bool:
        """Whether its thread is alive and its loop can be used."""
        return thread_runs(self._thread) and not self.loop.is_closed()

    def close(self, timeout: float) -> None:
        """Stop what still runs and end the thread, within some seconds."""
        self._closing = True
        if self._thread.is_alive() and not self.loop.is_closed():
            self.call(lambda: self.loop.create_task(self._shut_down()))
            self._thread.join(timeout)

    def unanswered_for(self, now: float) -> float:
        """Seconds for which the loop has slept although it was called; 0.0 if it wakes up, or has nothing to do.

        A handler may have closed the descriptors by which other threads wake the loop.
        """
        if self._answered == self._asked:
            if self.tasks or self.submitted:
                self._asked += 1
                self._asked_at = now
                self.call(self._answer)
            return 0.0
        return now - self._asked_at if self.selector.asleep else 0.0

    def _answer(self) -> None:
        self._answered = self._asked

    def blocked_for(self, now: float) -> float:
        """Seconds for which the loop has not advanced, as far as has been observed; 0.0 if it advances or sleeps."""
        turns = self.selector.turns
        if self.selector.asleep or not self._thread.is_alive():
            self._blocked = None
            return 0.0
        if self._blocked is None or self._blocked[0] != turns:
            self._blocked = (turns, now)
        return now - self._blocked[1]

    def current(self) -> tuple[Attempt | None, Any]:
        """The attempt whose code runs right now, None if that is not known, and the thread's frame."""
        try:
            task = asyncio.current_task(self.loop)
        except RuntimeError:
            task = None
        frame = sys._current_frames().get(self._thread.ident or 0)
        return (task.attempt if isinstance(task, NodeTask) else None), frame

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        pool = pool_of(
            aioredis.BlockingConnectionPool,
            self._url,
            max_connections=CONTEXT_CONNECTIONS,
            timeout=SOCKET_TIMEOUT,
            socket_timeout=SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 1),
        )
        self.redis = aioredis.Redis(connection_pool=pool)
        self.loop.call_soon(self._started.set)
        try:
            self._run_for_good()
        finally:
            self._started.set()
            if self._closing and not self.loop.is_closed():
                self.loop.close()
            if not self._closing:
                self._died(self)

    def _run_for_good(self) -> None:
        errors: deque[float] = deque(maxlen=MOST_ERRORS)
        while not self._closing and not self.loop.is_closed():
            try:
                self.loop.run_forever()
                if not self._closing:
                    logger.warning("a handler stopped the event loop; it was started again")
            except (
                BaseException
            ) as error:  # SystemExit and KeyboardInterrupt of callbacks and of tasks of handlers' own
                logger.error(
                    "the event loop met {} outside of the handlers' own coroutines; it is still running",
                    type(error).__name__,
                )
            if VITAL.are_lost():  # the process is about to be replaced
                return
            errors.append(clock())
            if len(errors) == MOST_ERRORS and errors[-1] - errors[0] < 1.0:
                logger.error("the event loop cannot be used any more; another one takes its place")
                return

    def _begin(self) -> None:
        self._called = False  # before the last look, so that what comes after that is called for
        while self.submitted and not self.retired:
            attempt, execute = self.submitted.popleft()
            task = NodeTask(execute(self, attempt), loop=self.loop)
            task.attempt = attempt
            task.is_handler = True
            self.tasks[task] = attempt
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        assert isinstance(task, NodeTask)
        self.tasks.pop(task, None)
        self._attempt_ended(self, task)
        if self.retired and not self.tasks:
            self._closing = True
            self.loop.stop()

    def _create_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> NodeTask:
        attempt = owner.get()
        task = NodeTask(self._wrap(coroutine, attempt), loop=loop, **options)
        task.attempt = attempt
        return task

    async def _shut_down(self) -> None:
        tasks = list(self.tasks)
        for task in tasks:
            task.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()
        self.loop.stop()


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    what = "" if error is None else f": {type(error).__name__}"
    logger.warning("event loop: {}{}", context.get("message", "an error outside of the handlers' coroutines"), what)
