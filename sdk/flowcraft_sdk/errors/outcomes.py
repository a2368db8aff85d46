"""What waiting for a run ends with, unless it is a result."""

from typing import Any

from flowcraft_sdk.errors.base import FlowcraftError
from flowcraft_sdk.records import NodeFailure, RunSnapshot


class WaitTimeoutError(FlowcraftError, TimeoutError):
    """The wait has ended, the run has not.

    Attributes:
        run_id: Id of the run.
        status: The state that the run was in.
        waited: Seconds that were waited.
        handle: A handle to the run; None once the error has crossed processes.
        live_workers: How many workers are alive, None if that is not known.
    """

    code = "wait_timeout"

    def __init__(
        self,
        run_id: str,
        status: str,
        waited: float,
        handle: Any = None,
        live_workers: int | None = None,
        hint: str = "",
    ) -> None:
        idle = "; no worker is alive" if live_workers == 0 else ""
        super().__init__(f"run {run_id} is {status} after {waited:.1f} s{idle}; it goes on{hint}")
        self.run_id = run_id
        self.status = status
        self.waited = waited
        self.handle = handle
        self.live_workers = live_workers


class RemoteError(Exception):
    """The cause of a failed run: the traceback text of the handler's exception."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


class RunUnsuccessfulError(FlowcraftError):
    """The run ended without a result.

    Attributes:
        snapshot: The final snapshot.
        run_id: Id of the run.
        blueprint_id: Id of its blueprint.
    """

    code = "run_unsuccessful"

    def __init__(self, message: str, snapshot: RunSnapshot) -> None:
        super().__init__(message)
        self.snapshot = snapshot
        self.run_id = snapshot.run_id
        self.blueprint_id = snapshot.blueprint_id


class RunFailedError(RunUnsuccessfulError):
    """A node failed for good.

    Attributes:
        failure: The first failure.
        failures: All failures.
    """

    code = "run_failed"

    def __init__(self, snapshot: RunSnapshot) -> None:
        first = snapshot.failures[0] if snapshot.failures else NodeFailure(node_id="", message="no failure is recorded")
        why = f"node '{first.node_id}': {first.summary}" if first.node_id else first.summary
        super().__init__(f"run {snapshot.run_id} failed: {why}", snapshot)
        self.failure = first
        self.failures = list(snapshot.failures)
        self.show_traceback()

    def show_traceback(self) -> None:
        """Make the handler's traceback the cause of this error, so that both are printed."""
        if self.failure.traceback:
            self.__cause__ = RemoteError(self.failure.traceback)

    def _has_been_rebuilt(self) -> None:
        self.show_traceback()


class RunCancelledError(RunUnsuccessfulError):
    """The run was cancelled.

    Attributes:
        reason: What the cancel request gave as its reason.
        requested_at: When it was requested.
        forced: Whether a node was still running when the grace period ended.
    """

    code = "run_cancelled"

    def __init__(self, snapshot: RunSnapshot) -> None:
        cancel = snapshot.cancel
        self.reason = cancel.reason if cancel else ""
        super().__init__(f"run {snapshot.run_id} was cancelled" + (f": {self.reason}" if self.reason else ""), snapshot)
        self.requested_at = cancel.requested_at if cancel else None
        self.forced = cancel.forced if cancel else False


class RunTimedOutError(RunUnsuccessfulError):
    """The run's own deadline passed. It is no `TimeoutError`: that one means the wait.

    Attributes:
        deadline: The deadline.
    """

    code = "run_timed_out"

    def __init__(self, snapshot: RunSnapshot) -> None:
        super().__init__(f"run {snapshot.run_id} passed its deadline", snapshot)
        self.deadline = snapshot.deadline
