"""What the sync and the async handle are alike: a reference that holds ids only."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

from flowcraft_sdk._client.connection import BaseConnection
from flowcraft_sdk._operations.over_redis import RedisOperations
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.bounds import shown
from flowcraft_sdk.protocol.clock import clock

T = TypeVar("T")
H = TypeVar("H")

JUST = 0.005
"""Seconds after its start for which a run's status is not read: the client waits for a notification first."""


class RunReference(Generic[T]):
    """A reference to one run of one deployment; equal to every other one of its kind to the same run.

    Attributes:
        run_id: Id of the run.
        namespace: The deployment's name.
        attached: Whether `start` found this run there already.
        notification_token: Token of the `start` that recorded the run (see `CompletionInbox.reserve`); None in other handles.
    """

    __slots__ = ("_client", "_result_type", "_started", "attached", "namespace", "notification_token", "run_id")

    def __init__(
        self,
        client: BaseConnection,
        run_id: str,
        result_type: Any = None,
        *,
        attached: bool = False,
        notification_token: str | None = None,
    ) -> None:
        self._client: Any = client
        self._result_type = result_type
        self.run_id = run_id
        self.namespace = client.namespace
        self.attached = attached
        self.notification_token = notification_token
        self._started = None if notification_token is None else clock()

    @property
    def just_started(self) -> bool:
        """Whether `start` has just recorded the run: it is there, and can hardly have ended."""
        return self._started is not None and clock() - self._started < JUST

    @property
    def _operations(self) -> RedisOperations:
        operations: RedisOperations = self._client.operations
        return operations

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, RunReference)
        return (self.namespace, self.run_id) == (other.namespace, other.run_id)

    def __hash__(self) -> int:
        return hash((self.namespace, self.run_id))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run_id} of {self.namespace}>"


MOST_HANDLES = 1_000_000


def check_handles(handles: Any, kind: type[H]) -> list[H]:
    """The handles of an iterable.

    Raises:
        ConfigurationError: it is none, or holds something else.
    """
    if isinstance(handles, str | bytes) or not isinstance(handles, Iterable):
        raise ConfigurationError(f"expected handles of runs, got {shown(handles)}")
    found = list(islice(handles, MOST_HANDLES + 1))
    if len(found) > MOST_HANDLES:
        raise ConfigurationError(f"{MOST_HANDLES:,} handles can be waited for at most together")
    for handle in found:
        if not isinstance(handle, kind):
            raise ConfigurationError(
                f"expected a {kind.__name__}, got {shown(handle)}; `get_handle` makes one of a run id"
            )
    return found
