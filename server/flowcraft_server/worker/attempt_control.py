"""Ends attempts otherwise than by what their handlers return: time-outs, lost leases, shutdown, code that is gone."""

from loguru import logger

from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.failures import NodeTimeout
from flowcraft_server.worker.activity import Activity
from flowcraft_server.worker.claimed_nodes import ClaimedNodes
from flowcraft_server.worker.in_flight import InFlightAttempts
from flowcraft_server.worker.outcome_calls import OutcomeCalls
from flowcraft_server.worker.outcome_recorder import OutcomeRecorder


class AttemptControl:
    """What threads in the background, the event loop's watch and a shutdown do to attempts."""

    def __init__(
        self,
        held: InFlightAttempts,
        calls: OutcomeCalls,
        recorder: OutcomeRecorder,
        claimed_nodes: ClaimedNodes,
        activity: Activity | None = None,
    ) -> None:
        self.held = held
        self._calls = calls
        self._recorder = recorder
        self._claimed_nodes = claimed_nodes
        self._activity = activity or Activity()

    def give_up(self, attempt: Attempt, why: str) -> None:
        """Hand back a node that has no code behind it any more, so that it is run again without waiting for its lease."""
        self.held.try_finish(attempt)
        attempt.request_stop(why)
        logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning("attempt given up: {}", why)
        call = self._calls.release(attempt)
        self._recorder.record(attempt, lambda: call)

    def time_out(self, attempt: Attempt) -> None:
        """Fail a node that took too long, whatever its code still does."""
        error = NodeTimeout(f"node '{attempt.claim.instance_id}' took longer than its timeout of {attempt.timeout:g} s")
        # Before the handler is interrupted: the first outcome counts.
        call = self._calls.for_failure(attempt, error, self._claimed_nodes.request)
        attempt.request_stop("node-timeout")
        self._recorder.record(attempt, lambda: call)

    def lose_lease(self, attempt: Attempt, why: str) -> None:
        """The node is another worker's: what its handler still does is not waited for, and the store refuses it."""
        self.held.try_lose(attempt)
        self._activity.lost_lease()
        if attempt.span is not None:
            attempt.span.end("lost")
        attempt.request_stop(why)

    def lose_leases_of_run(self, run_id: str, created: int | None = None) -> None:
        """A run has ended with nodes that did not give up in time.

        Args:
            created: when the run was created, in ms: another one may have its id by now.
        """
        for attempt in self.held.all():
            ours = attempt.claim.run_id == run_id and created in (None, attempt.claim.run_created)
            if ours and not attempt.outlives_stop:
                self.lose_lease(attempt, "the grace is over")

    def hand_back(self, attempt: Attempt) -> None:
        """Give up the lease of a node that has not finished, so that another worker takes it without waiting."""
        self._recorder.hand_back(attempt)
