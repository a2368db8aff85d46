"""A handle: a reference to one run. It holds ids only; keep `run_id` and it can be made again anywhere."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from flowcraft_sdk._client.reference import RunReference, T
from flowcraft_sdk._client.result_types import convert
from flowcraft_sdk._operations import list_runs, rerun
from flowcraft_sdk._operations.deployment import Seconds
from flowcraft_sdk._operations.rerun import FailedNodes
from flowcraft_sdk.errors import RunConflictError
from flowcraft_sdk.records import LogLine, NodeAttempt, RunEvent, RunSnapshot, RunStatus
from flowcraft_sdk.records.streams import StreamItem


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
        value = self._client.driver.run(self._operations.result(self.run_id, timeout, self))
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
        snapshot: RunSnapshot = self._client.driver.run(self._operations.wait(self.run_id, timeout, self))
        return snapshot

    def wait_for(self, *statuses: RunStatus, timeout: Seconds | None = None) -> RunStatus:
        """Wait until the run is in one of these states, or has ended; which of them, the returned state says.

        Args:
            *statuses: The states. Without any it waits for the end, as `wait` does.
            timeout: Seconds to wait; None for no limit.

        Returns:
            The state that the run is in.

        Raises:
            WaitTimeoutError: The run has reached none of them in time; it is not affected.
            RunNotFoundError: There is no such run.
        """
        wanted = list_runs.checked_statuses(statuses) or frozenset()
        operation = self._operations.wait_for(self.run_id, wanted, timeout, self)
        status: RunStatus = self._client.driver.run(operation)
        return status

    def status(self) -> RunStatus:
        """Read the run's state; one small read.

        Returns:
            The state.

        Raises:
            RunNotFoundError: There is no such run.
        """
        status: RunStatus = self._client.driver.run(self._operations.status(self.run_id))
        return status

    def done(self) -> bool:
        """Read whether the run has ended.

        Returns:
            True if it has.

        Raises:
            RunNotFoundError: There is no such run.
        """
        done: bool = self._client.driver.run(self._operations.done(self.run_id))
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
        operation = self._operations.describe(self.run_id, ctx, outputs)
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
        operation = self._operations.cancel(self.run_id, reason, grace)
        in_force: bool = self._client.driver.run(operation)
        return in_force

    def rerun(
        self,
        from_node: str | Iterable[str] | FailedNodes | None = None,
        *,
        ctx_patch: Any = None,
        version: Literal["same", "current"] = "same",
        run_id: str | None = None,
        on_conflict: Literal["attach", "raise"] = "attach",
    ) -> "Handle[T]":
        """Do this ended run again as a new run. This one stays as it is.

        The new run has this one's start context, tags, memo and time limit. Repeating a call with the same `run_id` gives a
        handle to the run that is already there.

        Args:
            from_node: A node or several, which run again with all behind them; or FAILED: only what failed, was cancelled or was
                never reached. All other nodes keep their outcomes and are not called. None for the whole run.
            ctx_patch: Context values that replace those of this run: a mapping, a dataclass or a pydantic model.
            version: "same" for the version of the blueprint that this run had, "current" for the one that is published now; then
                nodes that have changed run again, with all behind them.
            run_id: An id of your own; by default a new one is made.
            on_conflict: What to do when the id is taken: "attach" to the same rerun, or "raise".

        Returns:
            A handle to the new run, whose snapshot names this one in `forked_from`.

        Raises:
            RunStateError: This run has not ended, or it has nothing left to do.
            RerunRefusedError: It cannot be done again from there: the node is no longer in the blueprint, a context value that it
                needs is not known any more, or this is a child run.
            InvalidInputError: The context with the patch does not fit the blueprint's `inputs`.
            RunConflictError: The id is taken by another run.
            RunNotFoundError: There is no such run, or retention removed it.
            BlueprintNotFoundError: The version is gone.
        """
        operation = self._operations.rerun(self.run_id, from_node, ctx_patch, version, run_id, on_conflict)
        try:
            made: rerun.Rerun = self._client.driver.run(operation)
        except RunConflictError as error:
            error.existing = Handle(self._client, error.run_id, self._result_type)
            raise
        return Handle(self._client, made.run_id, self._result_type, attached=made.attached)

    def delete(self) -> bool:
        """Remove this ended run, with all its child runs, in place of waiting for retention. It leaves a tombstone as that does.

        Returns:
            True if it was removed, False if it had been removed before.

        Raises:
            RunStateError: It has not ended, a run below it has not, or it is a child run.
            RunNotFoundError: There is no such run.
        """
        removed: bool = self._client.driver.run(self._operations.delete(self.run_id))
        return removed

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
        operation = self._operations.signal(self.run_id, node_id, payload, action, signal_id, buffer)
        path: str = self._client.driver.run(operation)
        return path

    def send(self, node_id: str, message: Any = None, *, message_id: str | None = None) -> str:
        """Send a message to a node that runs or has yet to run: its handler takes it with `ctx.receive`.

        Messages are kept in the order of sending until they are taken, 100 for each node, of 64 KiB each.

        Args:
            node_id: Id of the node; of one in a child run, the path to it, `subflow/node`.
            message: A JSON value.
            message_id: An id of your own, so that an interrupted caller may repeat the call; by default a new one is made.

        Returns:
            The node, by the way to it from this run.

        Raises:
            NotReceivingError: There is no such node, it is a built-in one, it has ended, or it has not taken those before.
            RunStateError: The run has ended.
            RunNotFoundError: There is no such run.
            SerializationError: The message cannot be stored, or is too large.
        """
        operation = self._operations.send(self.run_id, node_id, message, message_id)
        path: str = self._client.driver.run(operation)
        return path

    def events(
        self,
        *,
        after: str | None = None,
        follow: bool = True,
        timeout: Seconds | None = None,
        children: bool = False,
    ) -> Iterator[RunEvent]:
        """Read the run's history from its start (or behind an id), then new events as they happen, until the run has ended.

        Args:
            after: Id of the last event already seen.
            follow: Whether to wait for new ones; otherwise the iterator ends with what is there.
            timeout: Seconds in all; None for no limit.
            children: Whether events of the runs below it come, too, each of which names its run; each run has ids of its own.

        Returns:
            An iterator over the events, each in the class of its type.

        Raises:
            WaitTimeoutError: The run has not ended in time; it is not affected.
            RunNotFoundError: There is no such run.
        """
        events: Iterator[RunEvent] = self._client.driver.stream(
            self._operations.events(self.run_id, after, follow, children, timeout, self)
        )
        return events

    def logs(
        self,
        node_id: str | None = None,
        *,
        after: str | None = None,
        follow: bool = False,
        timeout: Seconds | None = None,
    ) -> Iterator[LogLine]:
        """Read the lines that handlers of the run have logged, as far as `logging.capture` keeps them.

        Args:
            node_id: Only lines of this node, or of this item or round of it.
            after: Id of the last line already seen.
            follow: Whether to wait for new ones until the run has ended; otherwise the iterator ends with what is there.
            timeout: Seconds in all; None for no limit.

        Returns:
            An iterator over the lines.

        Raises:
            WaitTimeoutError: The run has not ended in time; it is not affected.
            RunNotFoundError: There is no such run.
        """
        lines: Iterator[LogLine] = self._client.driver.stream(
            self._operations.logs(self.run_id, node_id, after, follow, timeout, self)
        )
        return lines

    def stream(self, node_id: str, *, after: str | None = None, timeout: Seconds | None = None) -> Iterator[StreamItem]:
        """Follow the text that a node streams, from its start (or behind an id), until the node has ended.

        Args:
            node_id: Id of the node; `node[7]` for item 7 of a batch. A node of a child run is followed through that run's handle.
            after: Id of the last item already seen.
            timeout: Seconds in all; None for no limit.

        Returns:
            An iterator: `StreamStarted` as an execution of the node begins to stream, and for a further one, `StreamText`
            for each piece, `StreamGap` where some is missing, and `StreamEnded` as the last item.

        Raises:
            NodeNotFoundError: The run has no such node.
            WaitTimeoutError: The node has not ended in time; it is not affected.
            RunNotFoundError: There is no such run.
        """
        items: Iterator[StreamItem] = self._client.driver.stream(
            self._operations.stream(self.run_id, node_id, after, timeout, self)
        )
        return items

    def last_event_id(self) -> str:
        """Read the id of the run's latest event: `events(after=...)` with it yields what happens from now on.

        Returns:
            The id; `0` if nothing has happened, or nothing is kept of it.

        Raises:
            RunNotFoundError: There is no such run.
        """
        found: str = self._client.driver.run(self._operations.last_event_id(self.run_id))
        return found

    def attempts(self) -> list[NodeAttempt]:
        """Read every attempt at every node, round and item, as far as the history reaches back.

        Returns:
            The attempts with times, worker and error.

        Raises:
            RunNotFoundError: There is no such run.
        """
        found: list[NodeAttempt] = self._client.driver.run(self._operations.attempts(self.run_id))
        return found
