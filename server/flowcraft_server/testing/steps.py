"""The steps of a handler that is run without a server."""

import threading
from collections.abc import Mapping
from typing import Any

from flowcraft_sdk.protocol import wire
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.step import Step
from flowcraft_server.engine.step_store import StepWrite
from flowcraft_server.engine.steps import AttemptSteps
from flowcraft_server.engine.values import MISSING


class GivenSteps:
    """Notes what steps give.

    Args:
        given: What some have given in an earlier attempt, by their names.

    Attributes:
        recorded: What the others have given, by their names.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = {name: wire.dumps(value, path=f"steps.{name}") for name, value in given.items()}
        self.recorded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def read(self, attempt: Attempt) -> Mapping[bytes, bytes]:
        """Nothing: what is given is known by name, and not by place."""
        return {}

    def read_value(self, attempt: Attempt, place: str) -> bytes | None:
        """Nothing."""
        return None

    def record(self, attempt: Attempt, write: StepWrite) -> bytes:
        """Take note of what a step has given."""
        with self._lock:
            self.recorded[write.entry.name] = wire.loads(write.large or write.entry.value or b"null")
        return b"ok"

    async def arecord(self, attempt: Attempt, write: StepWrite) -> bytes:
        """The same for a coroutine."""
        return self.record(attempt, write)

    def warn(self, attempt: Attempt, what: str) -> None:
        """A trial has no log."""

    def note_failure(self, attempt: Attempt, write: StepWrite) -> None:
        """What a step raises the handler raises, or it deals with it."""


class TrialSteps(AttemptSteps):
    """Steps of which some are given by name."""

    store: GivenSteps

    def recorded_of(self, step: Step) -> Any:
        """What a step has given in an earlier attempt."""
        given = self.store.given.get(step.name)
        return MISSING if given is None else wire.loads(given)

    async def arecorded_of(self, step: Step) -> Any:
        """The same for a coroutine."""
        return self.recorded_of(step)
