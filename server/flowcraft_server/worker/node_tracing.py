"""The spans of a worker's attempts, and of the runs that end with them."""

import threading
import time
from typing import TYPE_CHECKING

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.claims import Claim
from flowcraft_server.store.link import StoreLink, StoreUnavailable

if TYPE_CHECKING:
    from flowcraft_server.observability.tracing import RunTrace, Tracing

MOST_RUNS = 10_000
"""Runs whose traces are remembered."""


class NodeTracing:
    """Begins spans of attempts below those of their runs. Thread-safe.

    Args:
        tracing: makes the spans.
    """

    def __init__(self, tracing: "Tracing", link: StoreLink, partitions: Partitions) -> None:
        self.tracing = tracing
        self._link = link
        self._partitions = partitions
        self._runs: dict[tuple[str, int], RunTrace] = {}
        self._lock = threading.Lock()

    def begin(self, attempt: Attempt, kind: str) -> None:
        """Begin the span of an attempt.

        Args:
            kind: what runs the node: the name of a handler, or of a built-in kind.
        """
        claim = attempt.claim
        attributes = {
            **_of_run(claim),
            "flowcraft.node.id": claim.node_id,
            "flowcraft.node.instance": claim.instance_id,
            "flowcraft.node.handler": kind,
            "flowcraft.node.attempt": claim.attempt,
            "flowcraft.node.queue_delay_ms": claim.delay,
        }
        name = f"node {claim.blueprint_id}/{claim.node_id}"
        attempt.span = self.tracing.node_span(self._trace_of(claim), name, attributes)

    def run_ended(self, claim: Claim, status: str) -> None:
        """Make the span of a run that an attempt's outcome has ended."""
        attributes = {**_of_run(claim), "flowcraft.run.status": status}
        name = f"run {claim.blueprint_id}"
        began = claim.run_created or int(time.time() * 1000)
        self.tracing.run_span(self._trace_of(claim), name, began, status, attributes)
        with self._lock:
            self._runs.pop((claim.run_id, claim.run_created), None)

    def _trace_of(self, claim: Claim) -> "RunTrace":
        key = claim.run_id, claim.run_created
        with self._lock:
            found = self._runs.get(key)
        if found is not None:
            return found
        name = self._partitions.for_run(claim.run_id).run(claim.run_id)
        try:
            raw = self._link.call_once(lambda: self._link.redis.hget(name, "tp"))
        except StoreUnavailable:
            return self.tracing.run_trace(*key, "")  # of this attempt alone
        found = self.tracing.run_trace(*key, raw.decode() if raw else "")
        with self._lock:
            if len(self._runs) >= MOST_RUNS:
                self._runs.pop(next(iter(self._runs)))
            self._runs[key] = found
        return found


def _of_run(claim: Claim) -> dict[str, str]:
    return {"flowcraft.run.id": claim.run_id, "flowcraft.blueprint.id": claim.blueprint_id}
