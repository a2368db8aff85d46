"""Where coroutines run: on an event loop in a thread of its own, so that they hold no worker thread while they wait."""

import asyncio
import inspect
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from types import CoroutineType
from typing import Any

import redis.asyncio as aioredis
from loguru import logger

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.builtins import BUILTINS
from flowcraft_server.engine.contexts import AwaitedNodeContext
from flowcraft_server.engine.outcome import Done, unpack_result
from flowcraft_server.observability.current_node import working_for
from flowcraft_server.store.link import RETRY_SECONDS, StoreUnavailable
from flowcraft_server.worker.code_location import describe_place
from flowcraft_server.worker.counters import Counters
from flowcraft_server.worker.execution_record import Stepwise, described, stepwise
from flowcraft_server.worker.forking import end_fork
from flowcraft_server.worker.loop_thread import LoopThread, NodeTask, owner
from flowcraft_server.worker.node_runner import NodeRunner

BLOCKED = 0.25
"""Seconds without progress after which the code that holds up the event loop is named."""

ABANDONED_AFTER = 1.0
"""Seconds that a coroutine gets to end after its node is over, before it stops counting as one of `async_concurrency`."""


class AsyncExecutor:
    """Takes on coroutines, `async_concurrency` at a time, and replaces the loop when it dies or stands still.

    A loop that stands still for longer than a lease is retired: what it runs is given up and runs elsewhere, but for the
    coroutine that holds it up, which still counts if it returns. New coroutines begin on another loop.
    """

    def __init__(self, runner: NodeRunner, url: str, stopping: threading.Event, counters: Counters) -> None:
        self._runner = runner
        self._url = url
        self._stopping = stopping
        self._counters = counters
        self._limit = runner.settings.async_concurrency
        self._room = threading.Condition()
        self._counted: set[int] = set()
        self._over_since: dict[int, float] = {}
        self._abandoned: set[int] = set()
        self._closed = False
        self._current = self._new_loop()
        self._retired: list[LoopThread] = []
        self._told: set[tuple[LoopThread, int]] = set()

    def start(self) -> None:
        """Start the loop and wait until it runs."""
        self._current.start()

    def has_room(self, timeout: float) -> bool:
        """Wait until another coroutine may be taken on; False when the time is up first."""
        if len(self._counted) < self._limit:
            return True
        with self._room:
            return self._room.wait_for(lambda: len(self._counted) < self._limit, timeout)

    def submit(self, attempt: Attempt) -> None:
        """Take on an attempt's coroutine. Never waits: before a claim there is room asked for."""
        with self._room:
            self._counted.add(id(attempt))
            self._current.submit(attempt)

    def attempts(self) -> Iterator[Attempt]:
        """What it runs, and what it has not begun, on loops that live."""
        for loop in (self._current, *self._retired):
            if loop.runs():
                yield from list(loop.submitted)
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
            self._tell_blocked(loop, blocked)
            if blocked >= self._runner.settings.lease:
                self._replace(loop, "the event loop stood still for longer than a lease")
        elif loop.unanswered_for(now) >= self._runner.settings.lease:
            self._replace(loop, "the event loop does not wake up when it is called")
        self._retired = [old for old in self._retired if old.runs() and old.tasks]
        self._look_for_abandoned(now)

    def _new_loop(self) -> LoopThread:
        return LoopThread(
            self._url,
            self._begin,
            self._ended,
            lambda loop: self._replace(loop, "the event loop died"),
            self._written_down,
        )

    def _written_down(self, coroutine: Coroutine[Any, Any, Any], attempt: Attempt | None) -> Coroutine[Any, Any, Any]:
        """The coroutine of a task that a handler creates."""
        record = self._runner.executing
        if record is None or attempt is None or not asyncio.iscoroutine(coroutine):
            return coroutine
        return stepwise(coroutine, record, described(attempt))

    def _begin(self, loop: LoopThread, attempt: Attempt) -> NodeTask:
        task = NodeTask(self._execute(loop, attempt), loop=loop.loop)
        task.attempt = attempt
        task.is_handler = True
        return task

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
            if loop is not self._current or self._closed:
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
            self._runner.give_up(attempt, why)
        if loop.runs():
            self._retired.append(loop)

    def _tell_blocked(self, loop: LoopThread, seconds: float) -> None:
        place = (loop, loop.selector.turns)
        if place in self._told:
            return
        attempt, frame = loop.current()
        if loop.selector.turns != place[1] or loop.selector.asleep:  # it has moved on while it was looked at
            return
        self._told = {place}
        self._counters.loop_blocked += 1
        where = describe_place(frame)
        key = ("", "") if attempt is None else attempt.key
        logger.bind(run=key[0], node=key[1]).warning(
            "the event loop has been held up for {:.0f} ms at {}; all coroutines of this process wait: make the handler a "
            "plain function (def), or call asyncio.to_thread", seconds * 1000, where,
        )  # fmt: skip
        if attempt is not None:
            self._runner.emit_event(attempt, "event_loop_blocked", {"at": where, "ms": round(seconds * 1000)})

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

    async def _execute(self, loop: LoopThread, attempt: Attempt) -> None:
        """Run an attempt's coroutine and hand in its outcome. Raises nothing: what left it would end the loop."""
        runner = self._runner
        handler = attempt.handler
        assert handler is not None
        task = asyncio.current_task()
        assert isinstance(task, NodeTask)
        timer: asyncio.TimerHandle | None = None
        context: AwaitedNodeContext | None = None
        owner.set(attempt)
        try:
            attempt.interrupt = lambda: loop.call(task.stop)  # not before: a task that never began has no outcome
            if attempt.stopped:
                raise NodeCancelled("the run was stopped before the coroutine began")
            context = self._context(loop, attempt)
            if attempt.timeout is not None:
                attempt.deadline = clock() + attempt.timeout  # the lease renewer watches it, too
                timer = loop.loop.call_later(attempt.timeout, runner.timed_out, attempt)
            with working_for(attempt.claim.run_id, attempt.claim.instance_id):
                coroutine = handler.function(context)
                if type(coroutine) is not CoroutineType:  # a decorator has made something of it: a task, or its result
                    coroutine = _awaited(coroutine)
                if runner.executing is not None:
                    coroutine = Stepwise(coroutine, runner.executing, described(attempt))
                returned = await coroutine
                context.context.check_awaited()
            done = Done(*unpack_result(returned))
            mode = self._handover(attempt)
            # Here, as foreign values have code of their own: it is watched, as that of the handler is, and the thread that
            # records the outcomes of all coroutines must not wait for it.
            if done.added:
                added = runner.build_outcome_call(attempt, done, lambda: runner.request(mode))
            else:
                done = replace(done, encoded=runner.engine.encode_output(attempt, done.output), output=None)
        except BaseException as raised:
            failed: BaseException = raised
            if isinstance(raised, Exception) and context is not None and (unawaited := context.context.unawaited()):
                unawaited.__cause__ = raised  # what came of using it as if it were the value
                failed = unawaited
            if isinstance(raised, asyncio.CancelledError) and attempt.stopped:
                failed = NodeCancelled("cancelled")
            call = runner.build_failure_call(attempt, failed, runner.request)
            runner.commit_later(attempt, lambda: call)
        else:
            if done.added:
                runner.commit_later(attempt, lambda: added)
            else:
                runner.commit_later(
                    attempt, lambda: runner.build_outcome_call(attempt, done, lambda: runner.request(mode))
                )
        finally:
            end_fork()
            runner.process_state.restore_now_and_then()
            if timer is not None:
                timer.cancel()
            # What the handler left behind goes here, where code that does not return is noticed, and not with the attempt.
            attempt.input = None

    def _context(self, loop: LoopThread, attempt: Attempt) -> AwaitedNodeContext:
        runner = self._runner
        key = runner.engine.keys.run(attempt.claim.run_id)

        async def read_fields(key: str, fields: list[str]) -> list[bytes | None]:
            return await _read_fields(loop, key, fields)

        return AwaitedNodeContext(key, attempt, runner.logger, runner.emit, runner.llm(awaited=True), read_fields)

    def _handover(self, attempt: Attempt) -> str:
        """Take the node's successor along with its commit if that is a coroutine as well: then it starts here at once."""
        if self._stopping.is_set() or attempt.claim.item is not None:
            return "-" if self._stopping.is_set() else "n"
        for edge in attempt.node.edges:
            uses = attempt.plan.nodes[edge.target].node.uses
            handler = self._runner.handlers.get(uses)
            if uses in BUILTINS or handler is None or not handler.is_async:
                return "-"
        return "n" if attempt.node.edges else "-"


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _read_fields(loop: LoopThread, key: str, fields: list[str]) -> list[bytes | None]:
    until, pause = clock() + RETRY_SECONDS, 0.02
    while True:
        try:
            return list(await loop.redis.hmget(key, fields))
        except (aioredis.ConnectionError, aioredis.TimeoutError) as error:
            if clock() > until:
                raise StoreUnavailable(f"Redis does not answer: {error}") from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)
