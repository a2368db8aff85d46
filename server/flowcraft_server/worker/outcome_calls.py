"""From an attempt's outcome to the script call that records it. No I/O."""

from collections.abc import Callable

from loguru import logger

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.engine import dynamic
from flowcraft_server.engine.attempt import Attempt, AttemptState
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.failures import describe
from flowcraft_server.engine.outcome import Outcome, Parked
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.link import StoreUnavailable
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
    """

    def __init__(self, engine: Engine, held: InFlightAttempts, inline_value: int | None, redactor: Redactor) -> None:
        self._engine = engine
        self._held = held
        self._inline_value = inline_value
        self._redactor = redactor
        self._reported_large: set[tuple[str, str]] = set()

    def for_outcome(self, attempt: Attempt, outcome: Outcome, next_claim: NextClaim) -> ScriptCall | None:
        """The call for what a node returned; None if the attempt's outcome was handed in before."""
        if isinstance(outcome, Parked):
            return outcome.call if self._held.try_finish(attempt) else None
        try:
            if outcome.added:
                call = dynamic.expand(self._engine, attempt, outcome.output, outcome.action, outcome.added)
                return call if self._held.try_finish(attempt) else None
            encoded = outcome.encoded
            if encoded is None:
                encoded = self._engine.encode_output(attempt, outcome.output)
            # Only now is a next node asked for: what foreign values do while they are encoded may never return.
            call = self._engine.completed(attempt, next_claim(), encoded, outcome.action, caught=outcome.caught)
        except BaseException as error:  # foreign values have code of their own, which is called when they are encoded
            return self.for_failure(attempt, error, next_claim)
        for what, size in attempt.large:
            self._report_large(attempt, what, size)
        return call if self._held.try_finish(attempt) or attempt.state is AttemptState.LOST else None

    def for_failure(self, attempt: Attempt, error: BaseException, next_claim: NextClaim) -> ScriptCall | None:
        """The call for an attempt that raised; None if its outcome was handed in before."""
        # Before the outcome counts as handed in: a foreign exception may have code of its own that never returns.
        failure = describe(error, self._redactor)
        if not self._held.try_finish(attempt):
            return None
        claim = attempt.claim
        if isinstance(error, StoreUnavailable) and not attempt.stopped:  # no fault of the node: it is run again
            logger.warning("run {} node {}: {}; handing it back", claim.run_id, claim.instance_id, error)
            attempt.due = STORE_AWAY_PAUSE
            return self.release(attempt, STORE_AWAY_PAUSE)
        stopping = attempt.stopped and attempt.stop_reason != "node-timeout"
        if stopping and isinstance(error, NodeCancelled):
            return self._engine.cancelled(attempt, next_claim())
        request = next_claim()
        try:
            call = self._engine.failed(attempt, request, failure)
        except (
            Exception
        ):  # a bug, or a setting that nothing checked: the node must fail all the same, and not run for ever
            logger.exception("run {} node {}: whether it is tried again cannot be decided", *attempt.key)
            call = self._engine.failed(attempt, request, failure, final=True)
        log = logger.bind(run=claim.run_id, node=claim.instance_id, blueprint=claim.blueprint_id)
        if attempt.will_retry or not failure.traceback:
            log.warning("attempt {} failed: {}: {}", claim.attempt, failure.type, failure.message)
        else:  # its last line has type and message
            log.warning("attempt {} failed, the last one: {}", claim.attempt, failure.traceback.rstrip())
        return call

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
