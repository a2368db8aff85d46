"""The `ctx` that handlers get in this worker, and what they emit through it."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flowcraft_sdk.node import NonRetryableError
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.contexts import AsyncRead, AwaitedNodeContext, BlockingNodeContext
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.step_sequences import runner_now
from flowcraft_server.engine.step_store import StepStore
from flowcraft_server.engine.steps import AttemptSteps
from flowcraft_server.engine.webhooks import key_of
from flowcraft_server.llm.absent import NO_MODEL
from flowcraft_server.llm.layers import CallLayer
from flowcraft_server.llm.traced_calls import TracedCalls
from flowcraft_server.observability.current_node import CurrentNode
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.worker.child_runs import ChildRuns
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.lifespan import EnteredLifespan
from flowcraft_server.worker.logged_lines import LineKeeper
from flowcraft_server.worker.memories import StoredMemories
from flowcraft_server.worker.messages import AttemptMessages
from flowcraft_server.worker.model_calls import ModelCalls
from flowcraft_server.worker.model_steps import CallDetails, RecordedCalls
from flowcraft_server.worker.text_streams import AttemptSink, StreamWriter

if TYPE_CHECKING:
    from flowcraft_server.observability.tracing import NodeSpan, Tracing

MOST_PROGRESS_WAITING = 1_000
"""Reports of progress of a node that wait to be sent; what it reports meanwhile is left out."""

MOST_EVENTS_WAITING = 50_000
MOST_EVENT_BYTES_WAITING = 16 * 1024 * 1024


class EventsNotSent(NonRetryableError):
    """A handler adds events faster than Redis takes them, and goes on."""


class HandlerContexts:
    """Makes the `ctx` of each attempt.

    Args:
        models: language models handed to handlers as `ctx.llm`, or None.
        redactor: masks secrets in events.
        lifespan: what the process has entered: handlers get what it has yielded.
        child_runs: starts runs for handlers.
        line_keeper: takes what they log.
        step_store: keeps the steps that they take.
        memories: what agents keep between runs.
        model_calls: makes what stands around their model calls.
        tracing: makes the spans of these; None for none.
    """

    def __init__(
        self,
        engine: Engine,
        commit_batcher: CommitBatcher,
        models: Any,
        redactor: Redactor,
        lifespan: EnteredLifespan,
        child_runs: ChildRuns,
        line_keeper: LineKeeper,
        step_store: StepStore,
        memories: StoredMemories,
        model_calls: ModelCalls | None = None,
        tracing: "Tracing | None" = None,
    ) -> None:
        self.memories = memories
        self._tracing = tracing
        self._model_calls = model_calls
        self._call_details = CallDetails(models, line_keeper.redactor)
        self.start_child = child_runs.start
        self.child_result = child_runs.result
        self._streams = StreamWriter(engine.partitions, commit_batcher, redactor)
        self.stream_text = self._streams.write
        self.end_stream = self._streams.finish
        self.resources_of = lifespan.resources_of
        self._lifespan = lifespan
        self._engine = engine
        self._commit_batcher = commit_batcher
        self._models = models
        self._redactor = redactor
        self._line_keeper = line_keeper
        self._step_store = step_store
        # Looked up for each node: a method that is taken from its object is made anew each time.
        self._logger_of, self._emit = line_keeper.logger_of, self.emit
        self.find_node = self.current_node

    def for_function(self, attempt: Attempt) -> BlockingNodeContext:
        """The `ctx` of a plain function."""
        model: Any = NO_MODEL
        if self._models is not None:
            model = self._model(attempt, awaited=False, deadline=attempt.deadline)
        return BlockingNodeContext(
            self._engine, attempt, self._logger_of, self._emit, model, self._lifespan.value, services=self
        )

    def for_coroutine(self, attempt: Attempt, read: AsyncRead) -> AwaitedNodeContext:
        """The `ctx` of a coroutine.

        Args:
            read: reads fields of a hash on the coroutine's event loop.
        """
        key = self._engine.run_key(attempt.claim.run_id)
        model, resources = self._model(attempt, awaited=True), self._lifespan.value
        return AwaitedNodeContext(key, attempt, self._logger_of, self._emit, model, read, resources, services=self)

    def current_node(self, attempt: Attempt) -> CurrentNode:
        """What lines that are logged while an attempt's handler runs are marked with, and kept by."""
        trace_id = "" if attempt.span is None else attempt.span.trace_id
        return CurrentNode(*attempt.key, partial(self._line_keeper.keep, attempt), trace_id)

    def messages_of(self, attempt: Attempt) -> AttemptMessages:
        """What takes the messages of an attempt: made when its handler asks for the first one."""
        if attempt.messages is None:
            attempt.messages = AttemptMessages(self._engine, attempt)
        assert isinstance(attempt.messages, AttemptMessages)
        return attempt.messages

    def steps_of(self, attempt: Attempt, runner: Any) -> AttemptSteps:
        """The steps of an attempt, made when its handler takes the first one.

        Args:
            runner: the task, or the number of the thread, in which its handler runs.
        """
        if attempt.steps is None:
            attempt.steps = AttemptSteps(attempt, self._step_store, runner, self._engine.max_value)
        return attempt.steps

    def webhook_key(self, attempt: Attempt, node_id: str) -> str:
        """The key of a `webhook` node of the run.

        Raises:
            ValueError: there is no such node, or the round that is meant is not known here.
        """
        return key_of(self._engine, attempt, node_id)

    def emit(self, attempt: Attempt, kind: str, rest: bytes) -> None:
        """Queue a progress or custom event of a running node; it goes out before the node's outcome.

        Raises:
            EventsNotSent: too many of its events wait already.
        """
        if attempt.has_ended:
            return
        waiting = attempt.events_queued - attempt.events_sent
        if kind == "g" and waiting >= MOST_PROGRESS_WAITING:
            return
        if waiting >= MOST_EVENTS_WAITING or attempt.bytes_queued - attempt.bytes_sent >= MOST_EVENT_BYTES_WAITING:
            raise EventsNotSent(
                f"{waiting:,} events of the node wait to be sent, and it adds more: add fewer, or put them into one"
            )
        claim, size = attempt.claim, len(rest)
        attempt.events_queued += 1
        attempt.bytes_queued += size
        attempt.has_emitted = True
        call = scripts.emit(
            self._engine.partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            events=[(kind, self._redactor.clean_bytes(rest))],
        )
        self._commit_batcher.put(call, lambda _reply: _note_sent(attempt, size))

    def emit_event(self, attempt: Attempt, name: str, data: Any) -> None:
        """Add an event of the worker's own to the history of a running node."""
        self.emit(attempt, "e", name.encode() + b"|" + wire.dumps(data))

    def _model(self, attempt: Attempt, *, awaited: bool, deadline: float | None = None) -> Any:
        """The language model for a handler; one that says so when the deployment configures none."""
        if self._models is None:
            return NO_MODEL
        # A recorded reply costs nothing, so no budget holds for it, and it is not counted again.
        recorded = RecordedCalls(partial(self.steps_of, attempt, runner_now()), self._call_details)
        layers: Sequence[CallLayer] = () if self._model_calls is None else self._model_calls.layers(attempt)
        if self._tracing is not None and attempt.span is not None:
            layers = (*layers, TracedCalls(self._tracing, cast("NodeSpan", attempt.span)))
        sink = AttemptSink(attempt, self._streams.write)
        return self._models.for_handler(awaited=awaited, deadline=deadline, layers=(recorded, *layers), sink=sink)


def _note_sent(attempt: Attempt, size: int) -> None:
    attempt.events_sent += 1
    attempt.bytes_sent += size
