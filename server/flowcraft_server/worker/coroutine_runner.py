"""Runs the coroutine of an attempt on the event loop, from its `ctx` to its outcome."""

import asyncio
import inspect
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import CoroutineType
from typing import Any

import redis.asyncio as aioredis

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.scripts import ClaimMode
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.builtins import BUILTINS
from flowcraft_server.engine.context_calls import UnawaitedCall
from flowcraft_server.engine.contexts import AwaitedNodeContext
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.outcome import Done
from flowcraft_server.observability.current_node import working_for
from flowcraft_server.store.link import RETRY_SECONDS, StoreUnavailable
from flowcraft_server.worker.async_executor import AsyncExecutor
from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.claimed_nodes import ClaimedNodes
from flowcraft_server.worker.execution_record import ExecutionRecord, Stepwise, described
from flowcraft_server.worker.forking import end_fork
from flowcraft_server.worker.handler_contexts import HandlerContexts
from flowcraft_server.worker.loop_thread import LoopThread, NodeTask, owner
from flowcraft_server.worker.outcome_calls import OutcomeCalls
from flowcraft_server.worker.outcome_recorder import OutcomeRecorder, RunNext
from flowcraft_server.worker.process_state import ProcessState


class CoroutineRunner:
    """Hands coroutines to the event loop.

    Args:
        draining: set when no further node is to be claimed.
        executing: where it is written down what is executed, for the process that has started this one; or None.
    """

    def __init__(
        self,
        executor: AsyncExecutor,
        engine: Engine,
        handlers: Mapping[str, Handler],
        contexts: HandlerContexts,
        calls: OutcomeCalls,
        recorder: OutcomeRecorder,
        control: AttemptControl,
        claimed_nodes: ClaimedNodes,
        process_state: ProcessState,
        draining: threading.Event,
        executing: ExecutionRecord | None,
    ) -> None:
        self._executor = executor
        self._engine = engine
        self._handlers = handlers
        self._contexts = contexts
        self._calls = calls
        self._recorder = recorder
        self._control = control
        self._claimed_nodes = claimed_nodes
        self._process_state = process_state
        self._draining = draining
        self._executing = executing

    def begin(self, attempt: Attempt, run_next: RunNext) -> None:
        """Have an attempt's coroutine run; its outcome is recorded from there. Does not wait.

        Args:
            run_next: runs the node that recording the outcome brings.
        """
        self._executor.submit(attempt, lambda loop, attempt: self._execute(loop, attempt, run_next))

    async def _execute(self, loop: LoopThread, attempt: Attempt, run_next: RunNext) -> None:
        """Run an attempt's coroutine and hand in its outcome. Raises nothing: what left it would end the loop."""
        timer: asyncio.TimerHandle | None = None
        context: AwaitedNodeContext | None = None
        owner.set(attempt)
        try:
            task = asyncio.current_task()
            assert isinstance(task, NodeTask)
            attempt.interrupt = lambda: loop.call(task.stop)  # not before: a task that never began has no outcome
            if attempt.stopped:
                raise NodeCancelled("the run was stopped before the coroutine began")
            context = self._context(loop, attempt)
            if attempt.timeout is not None:
                attempt.deadline = clock() + attempt.timeout  # the lease renewer watches it, too
                timer = loop.loop.call_later(attempt.timeout, self._control.time_out, attempt)
            # Kept until the outcome is handed in: destructors of foreign values are code that may never return.
            returned = await self._call(attempt, context)
            done = Done.of(returned, is_async=True)
            request = self._claimed_nodes.request(self._claim_mode(attempt))
            # Here, as foreign values have code of their own: it is watched, as that of the handler is, and the thread that
            # records the outcomes of all coroutines must not wait for it.
            if done.added:
                added = self._calls.for_outcome(attempt, done, lambda: request)
            else:
                done = replace(done, encoded=self._engine.encode_output(attempt, done.output), output=None)
        except BaseException as raised:
            failure = _failure(raised, attempt, context)
            call = self._calls.for_failure(attempt, failure, self._claimed_nodes.request)
            self._recorder.record(attempt, lambda: call)
        else:
            make = (lambda: added) if done.added else lambda: self._calls.for_outcome(attempt, done, lambda: request)
            self._recorder.record(attempt, make, run_next)
        finally:
            end_fork()
            self._process_state.restore_now_and_then()
            if timer is not None:
                timer.cancel()
            # What the handler left behind goes here, where code that does not return is noticed, and not with the attempt.
            attempt.input = None

    async def _call(self, attempt: Attempt, context: AwaitedNodeContext) -> Any:
        """What the handler returns."""
        handler = attempt.handler
        assert handler is not None
        has_resources = handler.resources or handler.optional_resources
        resources = self._contexts.resources_of(handler) if has_resources else {}
        attempt.began = clock()
        with working_for(self._contexts.current_node, attempt):
            coroutine = handler.function(context, **resources)
            if type(coroutine) is not CoroutineType:  # a decorator has made something of it: a task, or its result
                coroutine = _awaited(coroutine)
            if self._executing is not None:
                coroutine = Stepwise(coroutine, self._executing, described(attempt))
            entered = None if attempt.span is None else attempt.span.enter()
            try:
                returned = await coroutine
            finally:
                if attempt.span is not None:
                    attempt.span.leave(entered)
                if attempt.text_stream is not None:
                    self._contexts.end_stream(attempt)
            context.context.check_awaited()
            return returned

    def _context(self, loop: LoopThread, attempt: Attempt) -> AwaitedNodeContext:
        async def read_fields(key: str, fields: list[str]) -> list[bytes | None]:
            return await _read_fields(loop, key, fields)

        return self._contexts.for_coroutine(attempt, read_fields)

    def _claim_mode(self, attempt: Attempt) -> ClaimMode:
        """Claim the node's successor along with its commit if that is a coroutine as well: then it starts here at once."""
        if self._draining.is_set():
            return ClaimMode.NONE
        if attempt.claim.item is not None:
            return ClaimMode.SUCCESSOR
        for edge in attempt.node.edges:
            uses = attempt.plan.nodes[edge.target].node.uses
            handler = self._handlers.get(uses)
            if uses in BUILTINS or handler is None or not handler.is_async:
                return ClaimMode.NONE
        return ClaimMode.SUCCESSOR if attempt.node.edges else ClaimMode.NONE


def _failure(raised: BaseException, attempt: Attempt, context: AwaitedNodeContext | None) -> BaseException:
    """The failure of an attempt whose coroutine raised."""
    if isinstance(raised, asyncio.CancelledError) and attempt.stopped:
        return NodeCancelled("cancelled")
    if isinstance(raised, UnawaitedCall):
        return raised
    if isinstance(raised, Exception) and context is not None and (unawaited := context.context.unawaited(raised)):
        unawaited.__cause__ = raised  # what came of using it as if it were the value
        return unawaited
    return raised


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
