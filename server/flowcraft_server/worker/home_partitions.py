"""Which workers look after which partitions: rendezvous hashing over the workers that were seen lately, without a leader.

Each partition is home to a few workers, which are notified of its ready nodes and sweep it often. The others sweep it now and
then, and are notified of nodes that wait there for long: they help out.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import StoreLink

HOMES = 2
"""Workers that are at home in a partition, at least."""

MOST_WORKERS = 1000
HEARTBEATS_MISSED = 3
LEAST_SILENCE = 1.0
"""Seconds. A worker that was not seen for this long, or for three heartbeats, is at home nowhere."""


def weight(worker_id: str, number: int) -> bytes:
    """By what the workers of a partition are put into an order, which differs from partition to partition."""
    return hashlib.blake2b(f"{worker_id}|{number}".encode(), digest_size=8).digest()


def ranks_of(own: str, workers: Collection[str], partitions: int) -> list[int]:
    """The place of a worker in the order of each partition's workers, itself among them: 0 for the first."""
    others = [worker for worker in workers if worker != own]
    return [
        sum(weight(other, number) > weight(own, number) for other in others) if others else 0
        for number in range(partitions)
    ]


class HomePartitions:
    """The partitions that a worker is at home in. Until it knows of others it is at home in all.

    Args:
        queues: that it serves; only workers that serve one of them count.

    Attributes:
        version: grows with each change.
        home: the partitions that it is at home in.
    """

    def __init__(
        self, link: StoreLink, partitions: Partitions, worker_id: str, queues: Collection[str], heartbeat: float
    ) -> None:
        self._link = link
        self._partitions = partitions
        self._worker_id = worker_id
        self._queues = frozenset(queues)
        self._silence_ms = max(HEARTBEATS_MISSED * heartbeat, LEAST_SILENCE) * 1000
        self._served: dict[str, frozenset[str]] = {}
        self._peers: dict[str, frozenset[str]] = {}
        self._rank = dict.fromkeys(partitions.all, 0)
        self.version = 0
        self.home = frozenset(partitions.all)

    def rank(self, keys: Keys) -> int:
        """How many workers come before this one in a partition, in the queue where these are fewest."""
        return self._rank[keys]

    def look(self) -> None:
        """See which workers there are.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        home = self._partitions.home
        (seen,) = self._link.read_all([("ZREVRANGE", home.workers, 0, MOST_WORKERS - 1, "WITHSCORES")])
        scores = {worker.decode(): float(score) for worker, score in zip(seen[::2], seen[1::2], strict=True)}
        newest = max(scores.values(), default=0.0)
        alive = [worker for worker, score in scores.items() if newest - score <= self._silence_ms]
        unknown = [worker for worker in alive if worker not in self._served]
        found = self._link.read_all([("HMGET", home.worker(worker), "queues", "suspects") for worker in unknown])
        for worker, (queues, suspects) in zip(unknown, found, strict=True):
            if queues is not None:  # else it has not been listed yet
                served = () if suspects == b"only" else queues.decode().split(",")
                self._served[worker] = frozenset(served) & self._queues
        self._served = {worker: queues for worker, queues in self._served.items() if worker in scores}
        self._arrange({worker: self._served[worker] for worker in alive if self._served.get(worker)})

    def _arrange(self, peers: Mapping[str, frozenset[str]]) -> None:
        if peers == self._peers:
            return
        self._peers = dict(peers)
        count, homes = self._partitions.count, set[Any]()
        rank = dict.fromkeys(self._partitions.all, len(peers))
        for queue in self._queues:
            serving = [worker for worker, queues in peers.items() if queue in queues]
            most = max(HOMES, -(-HOMES * (len(serving) or 1) // count))  # so that each worker is at home somewhere
            for keys, place in zip(self._partitions.all, ranks_of(self._worker_id, serving, count), strict=True):
                rank[keys] = min(rank[keys], place)
                if place < most:
                    homes.add(keys)
        self._rank, self.home = rank, frozenset(homes)
        self.version += 1
