"""The `ctx` that handlers get in this worker, and what they emit through it."""

from typing import Any

from loguru import logger

from flowcraft_sdk.node import NonRetryableError
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.contexts import AsyncRead, AwaitedNodeContext, BlockingNodeContext
from flowcraft_server.engine.engine import Engine
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.worker.commit_batcher import CommitBatcher

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
    """

    def __init__(self, engine: Engine, commit_batcher: CommitBatcher, models: Any, redactor: Redactor) -> None:
        self._engine = engine
        self._commit_batcher = commit_batcher
        self._models = models
        self._redactor = redactor

    def for_function(self, attempt: Attempt) -> BlockingNodeContext:
        """The `ctx` of a plain function."""
        model = self._model(awaited=False, deadline=attempt.deadline)
        return BlockingNodeContext(self._engine, attempt, _logger_of, self.emit, model)

    def for_coroutine(self, attempt: Attempt, read: AsyncRead) -> AwaitedNodeContext:
        """The `ctx` of a coroutine.

        Args:
            read: reads fields of a hash on the coroutine's event loop.
        """
        key = self._engine.run_key(attempt.claim.run_id)
        return AwaitedNodeContext(key, attempt, _logger_of, self.emit, self._model(awaited=True), read)

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

    def _model(self, *, awaited: bool, deadline: float | None = None) -> Any:
        """The language model for a handler, or None when the deployment configures none."""
        return None if self._models is None else self._models.for_handler(awaited=awaited, deadline=deadline)


def _note_sent(attempt: Attempt, size: int) -> None:
    attempt.events_sent += 1
    attempt.bytes_sent += size


def _logger_of(attempt: Attempt) -> Any:
    """A logger that names the run and the node on each line."""
    return logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id)
