"""From an attempt's outcome to the script call that records it. No I/O."""

from collections.abc import Callable

from loguru import logger

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine import dynamic
from flowcraft_server.engine.attempt import Attempt, AttemptState, ParkedFor
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.failures import Failure, describe
from flowcraft_server.engine.outcome import Outcome, Parked
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.link import StoreUnavailable
from flowcraft_server.worker.activity import Activity
from flowcraft_server.worker.in_flight import InFlightAttempts

MOST_REPORTED = 1000
"""Places of large values that are reported."""

STORE_AWAY_PAUSE = 0.5
"""Seconds for which a node is handed back whose handler could not reach Redis."""

NextClaim = Callable[[], ClaimRequest]
"""Asked once the outcome is encoded, for how the next claim is to be had."""


class OutcomeCalls:
    """Builds the call for each attempt's outcome. The first outcome of an attempt counts; for a later one there is no call.

    Args:
        inline_value: bytes of a value above which it is reported as large; None for no bound.
        redactor: masks secrets in what is kept of failures.
        activity: counts how attempts end.
    """

    def __init__(
        self, engine: Engine, held: InFlightAttempts, inline_value: int | None, redactor: Redactor, activity: Activity
    ) -> None:
        self._engine = engine
        self._held = held
        self._inline_value = inline_value
        self._redactor = redactor
        self._activity = activity
        self._reported_large: set[tuple[str, str]] = set()

    def for_outcome(self, attempt: Attempt, outcome: Outcome, next_claim: NextClaim) -> ScriptCall | None:
        """The call for what a node returned; None if the attempt's outcome was handed in before."""
        if isinstance(outcome, Parked):
            if attempt.span is not None:
                attempt.span.end("waiting")
            return outcome.make(next_claim) if self._held.try_finish(attempt) else None
        try:
            if outcome.added:
                call = dynamic.expand(
                    self._engine, attempt, outcome.output, outcome.action, outcome.added, suspended=outcome.suspended
                )
                return call if self._complete(attempt) else None
            encoded = outcome.encoded
            if encoded is None:
                encoded = self._engine.encode_output(attempt, outcome.output)
            # Only now is a next node asked for: what foreign values do while they are encoded may never return.
            call = self._engine.completed(attempt, next_claim(), encoded, outcome.action, caught=outcome.caught)
        except BaseException as error:  # foreign values have code of their own, which is called when they are encoded
            return self.for_failure(attempt, error, next_claim)
        if attempt.large:
            for what, size in attempt.large:
                self._report_large(attempt, what, size)
        return call if self._complete(attempt) or attempt.state is AttemptState.LOST else None

    def for_failure(self, attempt: Attempt, error: BaseException, next_claim: NextClaim) -> ScriptCall | None:
        """The call for an attempt that raised; None if its outcome was handed in before."""
        if attempt.parked is not None and not attempt.stopped:  # whatever the handler has made of it
            return self._park(attempt, attempt.parked)
        # Before the outcome counts as handed in: a foreign exception may have code of its own that never returns.
        failure = describe(error, self._redactor)
        if not self._held.try_finish(attempt):
            return None
        claim = attempt.claim
        if isinstance(error, StoreUnavailable) and not attempt.stopped:  # no fault of the node: it is run again
            logger.warning("run {} node {}: {}; handing it back", claim.run_id, claim.instance_id, error)
            attempt.due = STORE_AWAY_PAUSE
            self._count(attempt, "handed back")
            return self.release(attempt, STORE_AWAY_PAUSE)
        stopping = attempt.stopped and attempt.stop_reason != "node-timeout"
        if stopping and isinstance(error, NodeCancelled):
            self._count(attempt, "cancelled")
            return self._engine.cancelled(attempt, next_claim())
        steps = attempt.steps if not attempt.stopped else None
        if steps is not None and steps.last is not None:
            attempt.has_emitted = True  # what becomes of its last step is recorded first, on the same lane
        for give_up in attempt.on_failure:
            give_up()
        request = next_claim()
        try:
            call = self._engine.failed(attempt, request, failure)
        except (
            Exception
        ):  # a bug, or a setting that nothing checked: the node must fail all the same, and not run for ever
            logger.exception("run {} node {}: whether it is tried again cannot be decided", *attempt.key)
            call = self._engine.failed(attempt, request, failure, final=True)
        self._count(attempt, "retried" if attempt.will_retry else "failed", failure)
        if steps is not None and attempt.will_retry:
            steps.give_up_last_reply(error)
        log = logger.bind(run=claim.run_id, node=claim.instance_id, blueprint=claim.blueprint_id)
        if attempt.will_retry or not failure.traceback:
            log.warning("attempt {} failed: {}: {}", claim.attempt, failure.type, failure.message)
        else:  # its last line has type and message
            log.warning("attempt {} failed, the last one: {}", claim.attempt, failure.traceback.rstrip())
        return call

    def _park(self, attempt: Attempt, what: ParkedFor) -> ScriptCall | None:
        """The call that parks a node until there is room for its model call: no attempt has failed."""
        if not self._held.try_finish(attempt):
            return None
        self._count(attempt, "parked")
        attempt.due = what.alarm
        claim = attempt.claim
        return scripts.park(
            self._engine.partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            kind="model",
            due_ms=round(what.alarm * 1000),
            details=wire.dumps(what.name),
        )

    def _complete(self, attempt: Attempt) -> bool:
        """Whether this outcome, of the node's own, is the attempt's first one, which counts."""
        if not self._held.try_finish(attempt):
            return False
        if attempt.span is not None:
            attempt.span.end("completed")
        if attempt.began and attempt.handler is not None:
            self._activity.completed(attempt.handler.name, clock() - attempt.began)
            attempt.began = 0.0  # once
        return True

    def _count(self, attempt: Attempt, outcome: str, failure: Failure | None = None) -> None:
        """Count how an attempt has ended whose handler was called."""
        if attempt.span is not None:
            about = None if failure is None else (failure.type, failure.message, failure.traceback or "")
            attempt.span.end(outcome, about)
        if outcome in ("handed back", "parked"):
            return
        if attempt.began and attempt.handler is not None:
            self._activity.ended(attempt.handler.name, clock() - attempt.began, outcome)
            attempt.began = 0.0  # once

    def release(self, attempt: Attempt, pause: float = 0.0) -> ScriptCall:
        """The call that gives up the lease of a node.

        Args:
            pause: seconds before another worker can claim it.
        """
        claim = attempt.claim
        return scripts.release(
            self._engine.partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            delay_ms=round(pause * 1000),
        )

    def _report_large(self, attempt: Attempt, what: str, size: int) -> None:
        """Warn that values of a place are large, once for each place."""
        place = (attempt.claim.blueprint_id, what)
        if place not in self._reported_large and len(self._reported_large) < MOST_REPORTED:
            self._reported_large.add(place)
            logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning(
                "{} takes {} bytes, over limits.inlineValue of {}: keep large values elsewhere and pass on where",
                what, size, self._inline_value,
            )  # fmt: skip
