"""Runs suspects of a lost worker apart from everything else: a group at a time, while this worker holds nothing else."""

import random
import threading
from collections.abc import Sequence

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.scripts import ClaimMode
from flowcraft_sdk.records.counts import counted
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.claimed_nodes import ClaimedNodes
from flowcraft_server.worker.in_flight import InFlightAttempts
from flowcraft_server.worker.node_runner import NodeRunner

IDLE_PAUSE = 0.1
"""Seconds between two looks for suspects."""

BUSY_PAUSE = 0.1


class SuspectRunner:
    """Claims a group of suspects when the worker holds nothing, and runs each on a thread of its own or on the event loop.

    Args:
        draining: set when nothing more is to be claimed.
    """

    def __init__(
        self,
        link: StoreLink,
        partitions: Partitions,
        queues: Sequence[str],
        runner: NodeRunner,
        claimed_nodes: ClaimedNodes,
        held: InFlightAttempts,
        draining: threading.Event,
    ) -> None:
        self._link = link
        self._partitions = partitions
        self._queues = tuple(queues)
        self._runner = runner
        self._claimed_nodes = claimed_nodes
        self._held = held
        self._draining = draining

    def step(self) -> float:
        """Claim a group if there is one and nothing else is held; returns the pause in seconds."""
        if self._draining.is_set():
            return IDLE_PAUSE
        if len(self._held):
            return BUSY_PAUSE
        keys = self._where()
        if keys is None:
            return IDLE_PAUSE
        reply = self._link.call(scripts.claim_suspects(keys, self._claimed_nodes.request(ClaimMode.QUEUE)))
        attempts = [attempt for claim in reply if (attempt := self._claimed_nodes.open(claim)) is not None]
        for attempt in attempts:
            logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning(
                "a worker was lost while it ran this node; it is run {}",
                "alone" if len(attempts) == 1 else f"with {counted(len(attempts) - 1, 'other suspect')}",
            )
        for attempt in attempts:
            self._run(attempt)
        return BUSY_PAUSE if attempts else IDLE_PAUSE

    def _where(self) -> Keys | None:
        """A partition to claim a group in; None if none has suspects."""
        partitions = self._partitions
        if partitions.count == 1:
            return partitions.home
        places = [(keys, queue) for keys in partitions.all for queue in self._queues]
        found = self._link.read_all([("EXISTS", keys.suspects(queue)) for keys, queue in places])
        some = [keys for (keys, _), there in zip(places, found, strict=True) if there]
        return random.choice(some) if some else None

    def _run(self, attempt: Attempt) -> None:
        if attempt.handler is None or attempt.handler.is_async:
            self._runner.run_and_record(attempt)
            return
        name = f"suspect-{attempt.claim.instance_id}"
        threading.Thread(target=self._runner.run_and_record, args=(attempt,), name=name, daemon=True).start()
