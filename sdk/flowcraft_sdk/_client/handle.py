"""A handle: a reference to one run. It holds ids only; keep `run_id` and it can be made again anywhere."""

from collections.abc import Iterator
from typing import Any

from flowcraft_sdk._client.reference import RunReference, T
from flowcraft_sdk._client.result_types import convert
from flowcraft_sdk._operations import describe, list_runs, runs, signals, wait
from flowcraft_sdk._operations.deployment import Seconds
from flowcraft_sdk.records import NodeAttempt, RunEvent, RunSnapshot, RunStatus


class Handle(RunReference[T]):
    """A reference to one run. It holds ids only: `client.get_handle(run_id)` makes it again in any process.

    Attributes:
        run_id: Id of the run.
        namespace: The deployment's name.
        attached: Whether `start` found this run there already.
    """

    __slots__ = ()

    def result(self, timeout: Seconds | None = None) -> T:
        """Wait for the run to end and return its output. It may be called again.

        Args:
            timeout: Seconds to wait; None for no limit, 0 to look once.

        Returns:
            The output of the run, validated as the handle's `result_type` if it has one.

        Raises:
            RunFailedError: A node failed for good.
            RunCancelledError: The run was cancelled.
            RunTimedOutError: The run passed its own deadline.
            WaitTimeoutError: The run has not ended in time; it is not affected.
            RunNotFoundError: There is no such run.
            SerializationError: The output does not fit `result_type`.
        """
        value = self._client.driver.run(wait.result(self._deployment, self.run_id, timeout, self))
        converted: T = convert(value, self._result_type)
        return converted

    def wait(self, timeout: Seconds | None = None) -> RunSnapshot:
        """Wait for the run to end, however it ends.

        Args:
            timeout: Seconds to wait; None for no limit, 0 to look once.

        Returns:
            The final snapshot.

        Raises:
            WaitTimeoutError: The run has not ended in time; it is not affected.
            RunNotFoundError: There is no such run.
        """
        snapshot: RunSnapshot = self._client.driver.run(wait.wait(self._deployment, self.run_id, timeout, self))
        return snapshot

    def wait_for(self, *statuses: RunStatus, timeout: Seconds | None = None) -> RunStatus:
        """Wait until the run is in one of these states, or has ended.

        Args:
            *statuses: The states.
            timeout: Seconds to wait; None for no limit.

        Returns:
            The state that the run is in.

        Raises:
            WaitTimeoutError: The run has reached none of them in time; it is not affected.
            RunNotFoundError: There is no such run.
        """
        wanted = list_runs.checked_statuses(statuses) or frozenset()
        operation = wait.wait_for(self._deployment, self.run_id, wanted, timeout, self)
        status: RunStatus = self._client.driver.run(operation)
        return status

    def status(self) -> RunStatus:
        """Read the run's state; one small read.

        Returns:
            The state.

        Raises:
            RunNotFoundError: There is no such run.
        """
        status: RunStatus = self._client.driver.run(runs.status(self._deployment, self.run_id))
        return status

    def done(self) -> bool:
        """Read whether the run has ended.

        Returns:
            True if it has.

        Raises:
            RunNotFoundError: There is no such run.
        """
        done: bool = self._client.driver.run(runs.done(self._deployment, self.run_id))
        return done

    def describe(self, *, ctx: bool = False, outputs: bool = False) -> RunSnapshot:
        """Read a consistent snapshot of the run, with payloads only on request.

        Args:
            ctx: Whether to read the whole context.
            outputs: Whether to read the output of each node, and the run's if it has completed.

        Returns:
            The snapshot.

        Raises:
            RunNotFoundError: There is no such run.
        """
        operation = describe.describe(self._deployment, self.run_id, ctx, outputs)
        snapshot: RunSnapshot = self._client.driver.run(operation)
        return snapshot

    def cancel(self, reason: str = "", *, grace: Seconds | None = None) -> bool:
        """Ask the run and its subflows to stop. Returns without waiting.

        Args:
            reason: Kept with the run; `RunCancelledError` has it.
            grace: Seconds that running handlers have to stop before they are fenced off; None for the server's default, 0 for at
                once.

        Returns:
            True if cancellation is in force, False if the run had already ended.

        Raises:
            RunNotFoundError: There is no such run.
        """
        operation = runs.cancel(self._deployment, self.run_id, reason, grace)
        in_force: bool = self._client.driver.run(operation)
        return in_force

    def signal(
        self,
        node_id: str | None = None,
        payload: Any = None,
        *,
        action: str | None = None,
        signal_id: str | None = None,
        buffer: bool = False,
    ) -> str:
        """Give a waiting node its answer. It is applied once for each `signal_id`, however often it is sent.

        Args:
            node_id: Id of the node; of one in a child run, the path to it, `subflow/wait`. None for the only node that waits, in
                this run or in its child runs.
            payload: The node's output; checked against the node's `schema`.
            action: The node's action; one of its `actions`, if it declares them.
            signal_id: An id of your own, so that an interrupted caller may repeat the call; by default a new one is made.
            buffer: Whether to keep the signal if the node does not wait yet, and give it to the node when it does; one is kept.

        Returns:
            The node that got it, by the way to it from this run.

        Raises:
            NotWaitingError: The node does not wait; `waiting` names those that do.
            RunStateError: The run has ended.
            RunNotFoundError: There is no such run.
            InvalidInputError: The node cannot take this action or payload; nothing was applied.
            SerializationError: The payload cannot be stored.
        """
        operation = signals.signal(self._deployment, self.run_id, node_id, payload, action, signal_id, buffer)
        path: str = self._client.driver.run(operation)
        return path

    def events(
        self, *, after: str | None = None, follow: bool = True, timeout: Seconds | None = None
    ) -> Iterator[RunEvent]:
        """Read the run's history from its start (or behind an id), then new events as they happen, until the run has ended.

        Args:
            after: Id of the last event already seen.
            follow: Whether to wait for new ones; otherwise the iterator ends with what is there.
            timeout: Seconds in all; None for no limit.

        Returns:
            An iterator over the events.

        Raises:
            WaitTimeoutError: The run has not ended in time; it is not affected.
            RunNotFoundError: There is no such run.
        """
        events: Iterator[RunEvent] = self._client.driver.stream(
            wait.events(self._deployment, self.run_id, after, follow, timeout, self)
        )
        return events

    def attempts(self) -> list[NodeAttempt]:
        """Read every attempt at every node, round and item, as far as the history reaches back.

        Returns:
            The attempts with times, worker and error.

        Raises:
            RunNotFoundError: There is no such run.
        """
        found: list[NodeAttempt] = self._client.driver.run(wait.attempts(self._deployment, self.run_id))
        return found
