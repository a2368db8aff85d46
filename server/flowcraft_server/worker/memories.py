"""Conversations that agents keep between runs, in Redis."""

from collections.abc import Sequence
from typing import Any

from loguru import logger

from flowcraft_sdk._operations import memories
from flowcraft_sdk._operations.deployment import Deployment
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.memory_scripts import Bounds, Turn
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.memories import writer_of
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.operations import run_operation
from flowcraft_server.worker.commit_batcher import CommitBatcher


class StoredMemories:
    """The memories of a deployment. Thread-safe.

    A turn is laid beside its memory, then the node completes, and leaves a mark in its run in the same script; then the turn
    joins the memory. A worker that dies in between leaves the last step to the next reader: the mark says whether the
    node has completed.
    """

    def __init__(self, link: StoreLink, partitions: Partitions, commit_batcher: CommitBatcher, max_value: int) -> None:
        self._link = link
        self._partitions = partitions
        self._commit_batcher = commit_batcher
        self._deployment = Deployment(partitions.home, 0.0, max_value, partitions=partitions)

    def recall(self, memory_id: str) -> Sequence[Turn]:
        """The turns of a memory, the oldest first."""
        return run_operation(self._link, memories.recall(self._deployment, memory_id))

    def remember(self, attempt: Attempt, memory_id: str, messages: int, bounds: Bounds, turn: bytes) -> None:
        """Lay a turn beside a memory: it joins it once the node has completed."""
        keys = self._partitions.for_memory(memory_id)
        writer = writer_of(attempt)
        call = scripts.remember(
            keys, memory_id=memory_id, writer=str(writer), messages=messages, turn=turn, **bounds._asdict()
        )
        self._link.call(call)
        attempt.remembered += (memory_id,)

    def settle(self, attempt: Attempt, has_completed: bool) -> None:
        """Have an attempt's turns join their memories, or drop them: its outcome is recorded. Does not wait."""
        decisions = [(str(writer_of(attempt)), has_completed)]
        for memory_id in attempt.remembered:
            keys = self._partitions.for_memory(memory_id)
            call = scripts.settle_memory(keys, memory_id=memory_id, decisions=decisions)
            self._commit_batcher.put(call, _note)


def _note(reply: Any) -> None:
    if isinstance(reply, Exception):  # the next reader of the memory makes up for it
        logger.warning("a turn has not joined its memory yet: {}", reply)
