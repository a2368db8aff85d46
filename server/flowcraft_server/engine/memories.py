"""Conversations that agents keep between runs, as the engine knows them."""

from collections.abc import Sequence
from typing import Protocol

from flowcraft_sdk.protocol.memory_scripts import Bounds, Turn, Writer
from flowcraft_server.engine.attempt import Attempt


class Memories(Protocol):
    """Reads and writes memories. Both calls block."""

    def recall(self, memory_id: str) -> Sequence[Turn]:
        """The turns of a memory, the oldest first."""

    def remember(self, attempt: Attempt, memory_id: str, messages: int, bounds: Bounds, turn: bytes) -> None:
        """Lay a turn beside a memory: it joins it once the node has completed.

        Args:
            messages: how many it has.
            turn: them, as JSON.
        """


def writer_of(attempt: Attempt) -> Writer:
    """The execution of a node that an attempt is, as memories and the run's record name it."""
    claim = attempt.claim
    return Writer.of_claim(claim.run_id, claim.instance_id, claim.fencing_token, claim.iterations)
