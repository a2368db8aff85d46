"""Runs held nodes, from the attempt to the call that records its outcome."""

from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.worker.claimed_nodes import ClaimedNodes
from flowcraft_server.worker.coroutine_runner import CoroutineRunner
from flowcraft_server.worker.dispatcher import Dispatcher
from flowcraft_server.worker.outcome_calls import NextClaim, OutcomeCalls
from flowcraft_server.worker.outcome_recorder import OutcomeRecorder


class NodeRunner:
    """Shared by worker threads, the event loop and the commit batcher's thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        coroutines: CoroutineRunner,
        calls: OutcomeCalls,
        recorder: OutcomeRecorder,
        claimed_nodes: ClaimedNodes,
    ) -> None:
        self._dispatcher = dispatcher
        self._coroutines = coroutines
        self._calls = calls
        self._recorder = recorder
        self._claimed_nodes = claimed_nodes
        self._direct: dict[int, Attempt] = {}

    def run(self, attempt: Attempt, next_claim: NextClaim) -> ScriptCall | None:
        """Run a held node; None when a coroutine was handed to the event loop, which records its outcome by itself.

        Args:
            next_claim: asked once the node has run, for how the next claim is to be had.
        """
        try:
            outcome = self._dispatcher.dispatch(attempt)
            if outcome is None:
                self._coroutines.begin(attempt, self.run_and_record)
                return None
        except BaseException as error:  # SystemExit and the like, too: whatever leaves a handler ends its attempt
            attempt.leftovers = error
            return self._calls.for_failure(attempt, error, next_claim)
        attempt.leftovers = outcome
        return self._calls.for_outcome(attempt, outcome, next_claim)

    def run_and_record(self, attempt: Attempt) -> None:
        """Run a node that occupies no thread: a coroutine or a built-in kind, from whichever thread records outcomes."""
        self._direct[id(attempt)] = attempt
        try:
            call = self.run(attempt, self._claimed_nodes.request)
            if call is not None:
                self._recorder.record(attempt, lambda: call, self.run_and_record)
        finally:
            self._direct.pop(id(attempt), None)

    def direct(self) -> list[Attempt]:
        """What `run_and_record` runs right now."""
        return list(self._direct.values())
