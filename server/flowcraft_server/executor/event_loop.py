"""The process's event loop: coroutines run here, and hold no worker thread while they wait."""

import asyncio
import threading
import time
from collections import deque
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flowcraft_sdk.node import NodeCancelled
from flowcraft_server.engine.attempts import Attempt, unpack_result
from flowcraft_server.engine.builtins import BUILTINS, Done
from flowcraft_server.engine.contexts import AwaitedNodeContext
from flowcraft_server.engine.failures import NodeTimeout
from flowcraft_server.executor.runner import NodeRunner
from flowcraft_server.observability.current_node import working_for
from flowcraft_server.store.link import PATIENCE, SOCKET_TIMEOUT, StoreUnavailable

CONTEXT_CONNECTIONS = 16


class EventLoop:
    """A thread with an asyncio loop, bounded by `async_concurrency`."""

    def __init__(self, runner: NodeRunner, url: str, stopping: threading.Event) -> None:
        self._runner = runner
        self._url = url
        self._stopping = stopping
        self._limit = runner.settings.async_concurrency
        self._count = 0
        self._submitted: deque[Attempt] = deque()
        self._called = False
        self._room = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._redis: Any = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-loop", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the loop and wait until it runs."""
        self._thread.start()
        self._started.wait()

    def has_room(self, timeout: float) -> bool:
        """Wait until another coroutine may be taken on; False when the time is up first."""
        if self._count < self._limit:
            return True
        with self._room:
            return self._room.wait_for(lambda: self._count < self._limit, timeout)

    def submit(self, attempt: Attempt) -> None:
        """Take on an attempt's coroutine. Never waits: who claims asks for room first."""
        with self._room:
            self._count += 1
        self._submitted.append(attempt)
        if not self._called:  # a call wakes the loop, which takes as long as a coroutine's beginning: one for all
            self._called = True
            self._loop.call_soon_threadsafe(self._begin)

    def close(self, timeout: float) -> None:
        """Cancel what still runs and end the loop."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
            self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        pool = aioredis.BlockingConnectionPool.from_url(
            self._url,
            max_connections=CONTEXT_CONNECTIONS,
            timeout=SOCKET_TIMEOUT,
            socket_timeout=SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = aioredis.Redis(connection_pool=pool)
        self._loop.call_soon(self._started.set)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _shut_down(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()
        self._loop.stop()

    def _begin(self) -> None:
        self._called = False  # before the last look, so that what comes after that is called for
        while self._submitted:
            task = self._loop.create_task(self._execute(self._submitted.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        with self._room:
            self._count -= 1
            self._room.notify()

    async def _execute(self, attempt: Attempt) -> None:
        runner = self._runner
        handler = attempt.handler
        assert handler is not None
        error: BaseException
        limit: asyncio.Timeout | None = None
        task = asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            self._loop.call_soon_threadsafe(task.cancel)

        attempt.interrupt = interrupt  # not set before: a task that is cancelled before its first step has no outcome
        try:
            if attempt.stopped:
                raise NodeCancelled("the run was stopped before the coroutine began")
            context = self._context(attempt)
            with working_for(attempt.claim.run_id, attempt.claim.inst):
                if attempt.timeout is None:
                    returned = await handler.function(context)
                else:
                    async with asyncio.timeout(attempt.timeout) as limit:
                        returned = await handler.function(context)
            done = Done(*unpack_result(returned))
        except TimeoutError as raised:
            error = raised
            if limit is not None and limit.expired():
                error = NodeTimeout(
                    f"node '{attempt.claim.inst}' took longer than its timeout of {attempt.timeout:g} s"
                )
        except asyncio.CancelledError as raised:
            error = NodeCancelled("cancelled") if attempt.stopped else raised
        except Exception as raised:
            error = raised
        else:
            how = self._handover(attempt)
            runner.commit_later(attempt, lambda: runner.conclude(attempt, done, lambda: runner.seat(how)))
            return
        failed = error
        runner.commit_later(attempt, lambda: runner.conclude_error(attempt, failed, runner.seat))

    def _context(self, attempt: Attempt) -> AwaitedNodeContext:
        runner = self._runner
        key = runner.engine.keys.run(attempt.claim.run_id)
        return AwaitedNodeContext(key, attempt, runner.logger, runner.emit, runner.llm(awaited=True), self._read_fields)

    async def _read_fields(self, key: str, fields: list[str]) -> list[bytes | None]:
        until, pause = time.monotonic() + PATIENCE, 0.02
        while True:
            try:
                return list(await self._redis.hmget(key, fields))
            except (aioredis.ConnectionError, aioredis.TimeoutError) as error:
                if time.monotonic() > until:
                    raise StoreUnavailable(f"Redis does not answer: {error}") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

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
