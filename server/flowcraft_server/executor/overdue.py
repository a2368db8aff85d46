"""Functions that do not return although their node is over: timed out, fenced off, or cancelled when the grace was over.

A thread cannot be stopped from outside. A worker that is one of several processes under a supervisor ends itself for it
and is started again; one that shares its process with others can only say so.
"""

import os
import time
from collections.abc import Callable
from typing import Protocol

from loguru import logger

from flowcraft_server.engine.attempts import Attempt

PATIENCE = 1.0
"""Seconds that a function gets to return after its node is over."""

PAUSE = 0.25
REPLACED = 75
"""Exit code of a process that ended itself: EX_TEMPFAIL."""


class Place(Protocol):
    """Where a thread says what it runs.

    Attributes:
        attempt: None between two nodes.
    """

    attempt: Attempt | None


class RunningFunctions:
    """What the worker threads run now. Thread-safe."""

    def __init__(self) -> None:
        self._places: list[Place] = []

    def enter(self, place: Place) -> None:
        """A thread begins to run nodes."""
        self._places.append(place)

    def leave(self, place: Place) -> None:
        """It runs none any more."""
        self._places.remove(place)

    def over(self) -> list[Attempt]:
        """Nodes whose outcome is decided while their functions go on."""
        running = [place.attempt for place in list(self._places)]
        return [attempt for attempt in running if attempt is not None and attempt.over]


class OverdueWatch:
    """Looks for functions that go on without a node.

    Args:
        end_process: called for one that does not return, if the process may be ended for it; None if not.
    """

    def __init__(self, running: RunningFunctions, end_process: Callable[[], None] | None) -> None:
        self._running = running
        self._end_process = end_process
        self._since: dict[int, tuple[Attempt, float]] = {}
        self._said: set[int] = set()

    def step(self) -> float:
        """Look once; returns the pause in seconds."""
        now = time.monotonic()
        over = {id(attempt): attempt for attempt in self._running.over()}
        self._since = {key: self._since.get(key, (attempt, now)) for key, attempt in over.items()}
        self._said &= over.keys()
        for key, (attempt, since) in self._since.items():
            if now - since < PATIENCE or key in self._said:
                continue
            self._said.add(key)
            claim = attempt.claim
            if self._end_process is None:
                logger.warning(
                    "run {} node {}: the node is over ({}) and its function goes on, in a thread that cannot be stopped; "
                    "`executor.workerType: process` ends such functions",
                    claim.run_id, claim.inst, attempt.stop_reason or "its outcome is another's",
                )  # fmt: skip
            else:
                logger.error(
                    "run {} node {}: its function does not return; this process ends for it", claim.run_id, claim.inst
                )
                self._end_process()
        return PAUSE


def end_this_process() -> None:
    """End without waiting for any thread."""
    os._exit(REPLACED)
