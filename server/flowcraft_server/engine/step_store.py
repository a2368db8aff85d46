"""Where the steps of attempts are kept, as the engine sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from flowcraft_sdk.protocol.step_script import StepEntry
from flowcraft_server.engine.attempt import Attempt

Details = Mapping[str, Any] | Callable[[Any], Mapping[str, Any] | None] | None
"""What else is to be known of a step, or what makes it of the value."""


@dataclass(frozen=True, slots=True)
class StepWrite:
    """What is recorded of a step.

    Attributes:
        entry: The record.
        large: What it has given, if that is not in the record.
        within: Places of steps recorded within it, which go as it has failed.
        within_bytes: Of these.
    """

    entry: StepEntry
    large: bytes = b""
    within: tuple[str, ...] = ()
    within_bytes: int = 0


class StepStore(Protocol):
    """Where the steps of attempts are kept."""

    def read(self, attempt: Attempt) -> Mapping[bytes, bytes]:
        """The records of an attempt's node, by place."""

    def read_value(self, attempt: Attempt, place: str) -> bytes | None:
        """What a step has given whose record does not hold it."""

    def record(self, attempt: Attempt, write: StepWrite) -> bytes:
        """Record a step that has given something, and wait until it is; returns the script's code: ok, already, stale or full."""

    async def arecord(self, attempt: Attempt, write: StepWrite) -> bytes:
        """The same for a coroutine."""

    def warn(self, attempt: Attempt, what: str) -> None:
        """Log something about the steps of an attempt."""

    def note_failure(self, attempt: Attempt, write: StepWrite) -> None:
        """Record that a step has failed, before the outcome of the attempt. Does not wait."""
