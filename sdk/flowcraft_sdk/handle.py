"""A handle: a reference to one run. It holds ids only; keep `run_id` and it can be made again anywhere."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flowcraft_sdk import operations
from flowcraft_sdk.records import RunEvent, RunSnapshot, RunStatus
from flowcraft_sdk.steps import Operation, clock
from flowcraft_sdk.typed import convert

if TYPE_CHECKING:
    from flowcraft_sdk.client import Client

T = TypeVar("T")
V = TypeVar("V")
Seconds = float | timedelta


class Handle(Generic[T]):
    """A reference to one run.

    Attributes:
        run_id: the run.
        namespace: the deployment.
        attached: whether `start` found this run there already.
    """

    __slots__ = ("_client", "_result_type", "attached", "namespace", "run_id")

    def __init__(self, client: "Client", run_id: str, result_type: Any = None, *, attached: bool = False) -> None:
        self._client = client
        self._result_type = result_type
        self.run_id = run_id
        self.namespace = client.namespace
        self.attached = attached

    def result(self, timeout: Seconds | None = None) -> T:
        """Wait for the run to end and return its output. May be called again.

        Args:
            timeout: seconds to wait; None for ever, 0 to look once.

        Raises:
            RunFailedError, RunCancelledError, RunTimedOutError: by how the run ended.
            WaitTimeoutError: it has not ended in time; the run is not affected.
            RunNotFoundError: there is no such run.
        """
        wait = operations.seconds(timeout, "timeout")
        value = self._drive(operations.result(self._deployment, self.run_id, wait, self), listen=True)
        return convert(value, self._result_type)  # type: ignore[no-any-return]

    def wait(self, timeout: Seconds | None = None) -> RunSnapshot:
        """Wait like `result`, but return the final snapshot however the run ended."""
        wait = operations.seconds(timeout, "timeout")
        return self._drive(operations.wait(self._deployment, self.run_id, wait, self), listen=True)

    def wait_for(self, *statuses: RunStatus, timeout: Seconds | None = None) -> RunStatus:
        """Wait until the run is in one of these states, or has ended."""
        wait = operations.seconds(timeout, "timeout")
        wanted = frozenset(statuses)
        return self._drive(operations.wait_for(self._deployment, self.run_id, wanted, wait, self), listen=True)

    def status(self) -> RunStatus:
        """The run's state now; one small read."""
        return self._drive(operations.status(self._deployment, self.run_id))

    def done(self) -> bool:
        """Whether the run has ended."""
        return self.status().is_terminal

    def describe(self, *, ctx: bool = False, outputs: bool = False) -> RunSnapshot:
        """A consistent picture of the run; payloads only when asked for."""
        return self._drive(operations.describe(self._deployment, self.run_id, ctx, outputs))

    def cancel(self, reason: str = "", *, grace: Seconds | None = None) -> bool:
        """Ask the run and its subflows to stop; returns without waiting.

        Args:
            grace: seconds that running handlers have to give up before they are fenced off; None for the server's
                default, 0 for at once.

        Returns:
            True if cancellation is in force, False if the run had already ended.
        """
        span = operations.seconds(grace, "grace")
        return self._drive(operations.cancel(self._deployment, self.run_id, reason, span))

    def events(
        self, *, after: str | None = None, follow: bool = True, timeout: Seconds | None = None
    ) -> Iterator[RunEvent]:
        """The run's history from the start (or behind an id), then new events as they happen, until the run has ended.

        Args:
            after: id of the last event already seen.
            follow: whether to wait for new ones; otherwise the iterator ends with what is there.
            timeout: seconds in all; when they are over the iterator ends.
        """
        until = None if timeout is None else clock() + (operations.seconds(timeout, "timeout") or 0.0)
        seen = int(after or 0)
        driver = self._client.driver
        with driver.hub.listen(self._deployment.keys.channel(self.run_id)) as ear:
            while True:
                page, ended = driver.run(operations.event_page(self._deployment, self.run_id, seen))
                yield from page
                seen = int(page[-1].id) if page else seen
                if ended or (not follow and not page):
                    return
                left = operations.LOOK_AGAIN if until is None else until - clock()
                if left <= 0:
                    return
                if not page:
                    ear.doze(min(left, operations.LOOK_AGAIN))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and (self.namespace, self.run_id) == (other.namespace, other.run_id)

    def __hash__(self) -> int:
        return hash((self.namespace, self.run_id))

    def __repr__(self) -> str:
        return f"<Handle {self.run_id} of {self.namespace}>"

    @property
    def _deployment(self) -> operations.Deployment:
        return self._client.deployment

    def _drive(self, operation: Operation[V], *, listen: bool = False) -> V:
        channel = self._deployment.keys.channel(self.run_id) if listen else None
        return self._client.driver.run(operation, channel=channel)
