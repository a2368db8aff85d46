"""The async handle: a reference to one run, for asyncio."""

from collections.abc import AsyncIterator
from typing import Any

from flowcraft_sdk._client.reference import RunReference, T
from flowcraft_sdk._client.result_types import convert
from flowcraft_sdk._operations import describe, list_runs, runs, signals, wait
from flowcraft_sdk._operations.deployment import Seconds
from flowcraft_sdk.records import NodeAttempt, RunEvent, RunSnapshot, RunStatus


class AsyncHandle(RunReference[T]):
    """A reference to one run.

    Attributes:
        run_id: the run.
        namespace: the deployment.
        attached: whether `start` found this run there already.
    """

    __slots__ = ()

    async def result(self, timeout: Seconds | None = None) -> T:
        """Wait for the run to end and return its output. May be called again.

        Args:
            timeout: seconds to wait; None for ever, 0 to look once.

        Raises:
            RunFailedError, RunCancelledError, RunTimedOutError: by how the run ended.
            WaitTimeoutError: it has not ended in time; the run is not affected.
            RunNotFoundError: there is no such run.
        """
        value = await self._client.driver.run(wait.result(self._deployment, self.run_id, timeout, self))
        converted: T = convert(value, self._result_type)
        return converted

    async def wait(self, timeout: Seconds | None = None) -> RunSnapshot:
        """Wait like `result`, but return the final snapshot however the run ended."""
        operation = wait.wait(self._deployment, self.run_id, timeout, self)
        snapshot: RunSnapshot = await self._client.driver.run(operation)
        return snapshot

    async def wait_for(self, *statuses: RunStatus, timeout: Seconds | None = None) -> RunStatus:
        """Wait until the run is in one of these states, or has ended."""
        wanted = list_runs.checked_statuses(statuses) or frozenset()
        operation = wait.wait_for(self._deployment, self.run_id, wanted, timeout, self)
        status: RunStatus = await self._client.driver.run(operation)
        return status

    async def status(self) -> RunStatus:
        """The run's state now; one small read."""
        status: RunStatus = await self._client.driver.run(runs.status(self._deployment, self.run_id))
        return status

    async def done(self) -> bool:
        """Whether the run has ended."""
        done: bool = await self._client.driver.run(runs.done(self._deployment, self.run_id))
        return done

    async def describe(self, *, ctx: bool = False, outputs: bool = False) -> RunSnapshot:
        """A consistent picture of the run; payloads only when asked for.

        Args:
            ctx: with the whole context.
            outputs: with the output of each node, and the run's if it has completed.
        """
        operation = describe.describe(self._deployment, self.run_id, ctx, outputs)
        snapshot: RunSnapshot = await self._client.driver.run(operation)
        return snapshot

    async def cancel(self, reason: str = "", *, grace: Seconds | None = None) -> bool:
        """Ask the run and its subflows to stop; returns without waiting.

        Args:
            reason: kept with the run, and told by RunCancelledError.
            grace: seconds that running handlers have to give up before they are fenced off; None for the server's
                default, 0 for at once.

        Returns:
            True if cancellation is in force, False if the run had already ended.
        """
        operation = runs.cancel(self._deployment, self.run_id, reason, grace)
        in_force: bool = await self._client.driver.run(operation)
        return in_force

    async def signal(
        self,
        node_id: str | None = None,
        payload: Any = None,
        *,
        action: str | None = None,
        signal_id: str | None = None,
        buffer: bool = False,
    ) -> str:
        """Give a waiting node its answer. Applied once for each `signal_id`, however often it is sent.

        Args:
            node_id: the node; one in a child run by the way to it, `subflow/wait`. None for the only node that waits,
                in this run or in its child runs.
            payload: the node's output; checked against the node's `schema`.
            action: the node's action; one of its `actions`, if it declares them.
            signal_id: an id of your own, so that a caller that was interrupted may repeat the call; made up otherwise.
            buffer: keep the signal if the node does not wait yet, and give it to the node when it does; one is kept.

        Returns:
            The node that got it, by the way to it from this run.

        Raises:
            NotWaitingError: the node does not wait; `waiting` names those that do.
            RunStateError: the run has ended.
            RunNotFoundError: there is no such run.
            InvalidInputError: the node cannot take this action or payload; nothing was applied.
            SerializationError: the payload cannot be stored.
        """
        operation = signals.signal(self._deployment, self.run_id, node_id, payload, action, signal_id, buffer)
        path: str = await self._client.driver.run(operation)
        return path

    def events(
        self, *, after: str | None = None, follow: bool = True, timeout: Seconds | None = None
    ) -> AsyncIterator[RunEvent]:
        """The run's history from the start (or behind an id), then new events as they happen, until the run has ended.

        Args:
            after: id of the last event already seen.
            follow: whether to wait for new ones; otherwise the iterator ends with what is there.
            timeout: seconds in all.

        Raises:
            WaitTimeoutError: the run has not ended when they are over; the run is not affected.
        """
        events: AsyncIterator[RunEvent] = self._client.driver.stream(
            wait.events(self._deployment, self.run_id, after, follow, timeout, self)
        )
        return events

    async def attempts(self) -> list[NodeAttempt]:
        """Every attempt at every node, round and item, with times, worker and error, as far as the history reaches back."""
        found: list[NodeAttempt] = await self._client.driver.run(wait.attempts(self._deployment, self.run_id))
        return found
