"""What a worker asks for, along with each call that may bring it the next node."""

from dataclasses import dataclass
from enum import StrEnum


class ClaimMode(StrEnum):
    """Where a worker's next claim comes from, as the scripts take it."""

    QUEUE = "q"
    """From the node's own successors, then from the queue."""

    SUCCESSOR = "n"
    """From the node's own successors alone."""

    NONE = "-"
    """No claim is asked for."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Which worker asks for work, and in which mode: sent along with every call that may bring the next claim.

    Attributes:
        worker: id of the worker process.
        lease_ms: how long a claim holds without renewal.
        queues: comma-separated queue names, served in this order.
        mode: where the next claim comes from.
    """

    worker: str
    lease_ms: int
    queues: str
    mode: ClaimMode = ClaimMode.QUEUE
