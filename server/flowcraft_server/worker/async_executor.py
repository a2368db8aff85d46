"""Keeps an event loop for coroutines, so that they hold no worker thread while they wait: replaces a loop that dies or blocks."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.store.descriptors import VITAL
from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.code_location import describe_place
from flowcraft_server.worker.counters import Counters
from flowcraft_server.worker.execution_record import ExecutionRecord, described, stepwise
from flowcraft_server.worker.handler_contexts import HandlerContexts
from flowcraft_server.worker.loop_thread import Execute, LoopThread, NodeTask, Submission
from flowcraft_server.worker.settings import WorkerSettings

BLOCKED = 0.25
"""Seconds without progress after which the code that holds up the event loop is named."""

ABANDONED_AFTER = 1.0
"""Seconds that a coroutine gets to end after its node is over, before it stops counting as one of `async_concurrency`."""


class AsyncExecutor:
    """Takes on coroutines, `async_concurrency` at a time, and replaces the loop when it dies or stands still.

    A loop that stands still for longer than a lease is retired: what it runs is given up and runs elsewhere, but for the
    coroutine that holds it up, which still counts if it returns. New coroutines begin on another loop.

    Args:
        url: of the Redis that coroutines read their context from.
        executing: where it is written down what is executed, for the process that has started this one; or None.
    """

    def __init__(
        self,
        control: AttemptControl,
        contexts: HandlerContexts,
        settings: WorkerSettings,
        url: str,
        counters: Counters,
        executing: ExecutionRecord | None,
    ) -> None:
        self._control = control
        self._contexts = contexts
        self._settings = settings
        self._url = url
        self._counters = counters
        self._executing = executing
        self._limit = settings.async_concurrency
        self._room = threading.Condition()
        self._counted: set[int] = set()
        self._over_since: dict[int, float] = {}
        self._abandoned: set[int] = set()
        self._closed = False
        self._current = self._new_loop()
        self._retired: list[LoopThread] = []
        self._reported: set[tuple[LoopThread, int]] = set()

    def start(self) -> None:
        """Start the loop and wait until it runs."""
        self._current.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which new coroutines begin."""
        return self._current.loop

    def has_room(self, timeout: float) -> bool:
        """Wait until another coroutine may be taken on; False when the time is up first."""
        if len(self._counted) < self._limit:
            return True
        with self._room:
            return self._room.wait_for(lambda: len(self._counted) < self._limit, timeout)

    def submit(self, attempt: Attempt, execute: Execute) -> None:
        """Take on an attempt's coroutine. Never waits: before a claim there is room asked for.

        Args:
            execute: makes the coroutine that runs the attempt and hands in its outcome; it must raise nothing.
        """
        with self._room:
            self._counted.add(id(attempt))
            self._current.submit(Submission(attempt, execute))

    def attempts(self) -> Iterator[Attempt]:
        """What it runs, and what it has not begun, on loops that live."""
        for loop in (self._current, *self._retired):
            if loop.runs():
                yield from [submission.attempt for submission in list(loop.submitted)]
                yield from list(loop.tasks.values())

    @property
    def retired(self) -> int:
        """How many loops stand still although others have taken their places."""
        return len(self._retired)

    def close(self, timeout: float) -> None:
        """Stop what still runs and end the loop."""
        self._closed = True
        self._current.close(timeout)

    def look(self) -> None:
        """Replace a loop that died; name the code that holds it up; retire it when it stands still for too long."""
        if self._closed:
            return
        now = clock()
        loop = self._current
        if not loop.runs():
            self._replace(loop, "the event loop died")
        elif (blocked := loop.blocked_for(now)) >= BLOCKED:
            self._report_blocked(loop, blocked)
            if blocked >= self._settings.lease:
                self._replace(loop, "the event loop stood still for longer than a lease")
        elif loop.unanswered_for(now) >= self._settings.lease:
            self._replace(loop, "the event loop does not wake up when it is called")
        self._retired = [old for old in self._retired if old.runs() and old.tasks]
        self._look_for_abandoned(now)

    def _new_loop(self) -> LoopThread:
        return LoopThread(
            self._url,
            self._ended,
            lambda loop: self._replace(loop, "the event loop died"),
            self._written_down,
        )

    def _written_down(self, coroutine: Coroutine[Any, Any, Any], attempt: Attempt | None) -> Coroutine[Any, Any, Any]:
        """The coroutine of a task that a handler creates."""
        record = self._executing
        if record is None or attempt is None or not asyncio.iscoroutine(coroutine):
            return coroutine
        return stepwise(coroutine, record, described(attempt))

    def _ended(self, _loop: LoopThread, task: NodeTask) -> None:
        assert task.attempt is not None
        self._free_room(task.attempt)
        if id(task.attempt) in self._over_since:
            self._forget_abandoned(task.attempt)

    def _forget_abandoned(self, attempt: Attempt) -> None:
        self._over_since.pop(id(attempt), None)
        self._abandoned.discard(id(attempt))
        self._counters.coroutines_abandoned = len(self._abandoned)

    def _free_room(self, attempt: Attempt) -> None:
        with self._room:
            self._counted.discard(id(attempt))
            self._room.notify()

    def _replace(self, loop: LoopThread, why: str) -> None:
        """Put another loop in the place of this one, and give up what it ran."""
        with self._room:
            if loop is not self._current or self._closed or VITAL.are_lost():
                return
            current, _ = loop.current()
            loop.retired = True
            fresh = self._new_loop()
            fresh.start()
            while loop.submitted:
                fresh.submit(loop.submitted.popleft())
            self._current = fresh
            self._counters.loops_replaced += 1
        left = [attempt for attempt in list(loop.tasks.values()) if attempt is not current or not loop.runs()]
        logger.error("{}; another one takes its place, and {} nodes are given up and run again", why, len(left))
        for attempt in left:
            self._free_room(attempt)
            self._forget_abandoned(attempt)
            self._control.give_up(attempt, why)
        if loop.runs():
            self._retired.append(loop)

    def _report_blocked(self, loop: LoopThread, seconds: float) -> None:
        place = (loop, loop.selector.turns)
        if place in self._reported:
            return
        attempt, frame = loop.current()
        if loop.selector.turns != place[1] or loop.selector.asleep:  # it has moved on while it was looked at
            return
        self._reported = {place}
        self._counters.loop_blocked += 1
        where = describe_place(frame)
        key = ("", "") if attempt is None else attempt.key
        logger.bind(run=key[0], node=key[1]).warning(
            "the event loop has been held up for {:.0f} ms at {}; all coroutines of this process wait: make the handler a "
            "plain function (def), or call asyncio.to_thread", seconds * 1000, where,
        )  # fmt: skip
        if attempt is not None:
            self._contexts.emit_event(attempt, "event_loop_blocked", {"at": where, "ms": round(seconds * 1000)})

    def _look_for_abandoned(self, now: float) -> None:
        """Free the room of coroutines that go on although their node is over; say so, once for each."""
        tasks = [item for loop in (self._current, *self._retired) for item in list(loop.tasks.items())]
        for task, attempt in tasks:
            if not attempt.has_ended or task.done():
                continue
            since = self._over_since.setdefault(id(attempt), now)
            if id(attempt) not in self._abandoned and now - since >= ABANDONED_AFTER:
                self._abandoned.add(id(attempt))
                self._counters.coroutines_abandoned = len(self._abandoned)
                self._free_room(attempt)
                logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning(
                    "the node is over ({}) and its coroutine is still running: it does not end when it is cancelled",
                    attempt.stop_reason or "its outcome is another's",
                )
