"""From a held attempt to its outcome: which code runs a node, and what it gets."""

from collections.abc import Mapping

from loguru import logger

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.node_kinds import PROVIDED_USES
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.builtins import BUILTINS, MADE_OF_OTHERS, check_iterations
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.failures import HandlerNotFound
from flowcraft_server.engine.outcome import Done, Outcome, Parked
from flowcraft_server.engine.plans import PlanCache
from flowcraft_server.engine.subflows import SUBFLOW
from flowcraft_server.observability.current_node import enter_node, leave_node
from flowcraft_server.worker.claimed_nodes import kind_of
from flowcraft_server.worker.execution_record import ExecutionRecord, described
from flowcraft_server.worker.forking import end_fork
from flowcraft_server.worker.handler_contexts import HandlerContexts
from flowcraft_server.worker.node_tracing import NodeTracing
from flowcraft_server.worker.outcome_calls import OutcomeCalls
from flowcraft_server.worker.settings import WorkerSettings

MOST_MISSING = 1000
"""Nodes without a handler that are remembered."""

SHORTEST_HAND_BACK, LONGEST_HAND_BACK = 0.5, 8.0
"""Seconds for which a node is handed back whose handler is not here: longer each time, as others look at it meanwhile."""


class Dispatcher:
    """Runs built-in kinds and functions in the calling thread; coroutines are left to the caller.

    Args:
        executing: where it is written down what a thread executes, for the process that has started this one; or None.
    """

    def __init__(
        self,
        engine: Engine,
        plans: PlanCache,
        handlers: Mapping[str, Handler],
        contexts: HandlerContexts,
        calls: OutcomeCalls,
        settings: WorkerSettings,
        executing: ExecutionRecord | None,
        tracing: NodeTracing | None = None,
    ) -> None:
        self._engine = engine
        self._plans = plans
        self._handlers = handlers
        self._contexts = contexts
        self._calls = calls
        self._settings = settings
        self._executing = executing
        self._tracing = tracing
        self._missing: dict[tuple[str, str], tuple[float, int]] = {}

    def dispatch(self, attempt: Attempt) -> Outcome | None:
        """Run a node; None for a coroutine, of which only the input was worked out.

        Raises:
            BaseException: whatever the node's code raises; it is the attempt's failure.
        """
        claim = attempt.claim
        if attempt.stopped:  # the run was stopped before the node began
            raise NodeCancelled(f"node '{claim.instance_id}' is to stop: {attempt.stop_reason}")
        if attempt.timeout is not None:
            attempt.deadline = clock() + attempt.timeout
        self._engine.prepare(attempt)
        if attempt.timeout is not None and attempt.node.node.config.timeout_from is not None:  # known only now
            attempt.deadline = clock() + attempt.timeout
        if claim.iterations:
            check_iterations(attempt)
        if claim.attached is not None and (made := MADE_OF_OTHERS.get(claim.attached[0])):
            return made(self._engine, attempt)
        kind = attempt.node.node.uses if claim.item is None else kind_of(attempt.node.node, claim)
        builtin = BUILTINS.get(kind) if claim.item is None or kind == SUBFLOW else None
        if self._tracing is not None and (attempt.handler or (kind == SUBFLOW and claim.attached is None)):
            self._tracing.begin(attempt, kind)
        if builtin is not None:
            return builtin(self._engine, attempt, self._plans)
        if attempt.handler is None:
            return self._hand_back_or_fail(attempt, kind)
        return None if attempt.handler.is_async else self._call(attempt, attempt.handler)

    def _call(self, attempt: Attempt, handler: Handler) -> Outcome:
        """Call a plain function."""
        context = self._contexts.for_function(attempt)
        attempt.began = clock()
        token = enter_node(self._contexts.find_node, attempt)
        entered = None if attempt.span is None else attempt.span.enter()
        if self._executing is not None:
            self._executing.begin(described(attempt))
        try:
            if handler.resources or handler.optional_resources:
                return Done.of(handler.function(context, **self._contexts.resources_of(handler)))
            return Done.of(handler.function(context))
        finally:
            end_fork()
            if attempt.text_stream is not None:
                self._contexts.end_stream(attempt)
            if self._executing is not None:
                self._executing.end()
            if attempt.span is not None:
                attempt.span.leave(entered)
            leave_node(token)

    def _hand_back_or_fail(self, attempt: Attempt, name: str) -> Outcome:
        """During a rolling deploy another worker may have the handler: hand the node back for a while, then fail it."""
        claim = attempt.claim
        now = self._engine.store_seconds()
        since, times = self._missing.get(attempt.key, (now, 0))
        if now - since < self._settings.missing_handler_timeout:
            if len(self._missing) >= MOST_MISSING:  # others took them meanwhile, without notice
                self._missing.pop(next(iter(self._missing)))
            self._missing[attempt.key] = since, times + 1
            pause = min(SHORTEST_HAND_BACK * 2**times, LONGEST_HAND_BACK)
            logger.bind(run=claim.run_id, node=claim.instance_id, blueprint=claim.blueprint_id).warning(
                "no handler '{}' here: handing the node back for {:g} s; renamed, or of another deployment?",
                name, pause,
            )  # fmt: skip
            attempt.due = pause
            return Parked(self._calls.release(attempt, pause))
        self._missing.pop(attempt.key, None)
        known = ", ".join(sorted({*self._handlers} - {*PROVIDED_USES})) or "none"
        raise HandlerNotFound(f"no worker has a handler '{name}'; known here: {known}")
