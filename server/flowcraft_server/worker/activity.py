"""What the nodes of a worker did: counted in memory, and added to the deployment's counts with each heartbeat."""

import threading
from collections import Counter
from collections.abc import Iterable
from itertools import repeat

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.work_counts import ATTEMPTS, DELAYS, DURATIONS, LEASES_LOST, SUM, bucket_of

TOGETHER = 1_000
"""Values that are counted at once."""

COMPLETED = "completed"


class HandlerCounts:
    """What was counted of one handler.

    Attributes:
        delays, took: ms that its nodes waited, and seconds that those took that completed, as far as they are not counted yet.
            Threads append to them without a lock.
        fields: what was counted, as `count_work` takes it.
    """

    __slots__ = ("_handler", "delays", "fields", "took")

    def __init__(self, handler: str) -> None:
        self._handler = handler
        self.delays: list[int] = []
        self.took: list[float] = []
        self.fields: Counter[str] = Counter()

    def count(self) -> None:
        """Count what threads have appended. Only one thread at a time."""
        # What is appended meanwhile goes behind what is taken, and stays.
        delays, took = self.delays[:], self.took[:]
        del self.delays[: len(delays)]
        del self.took[: len(took)]
        if delays:
            self.observe(DELAYS, map(int.__mul__, delays, repeat(1000)))
        if took:
            self.observe(DURATIONS, map(int, map(float.__mul__, took, repeat(1e6))))
            self.add(ATTEMPTS, COMPLETED, len(took))

    def observe(self, what: str, microseconds: Iterable[int]) -> None:
        """Add values to a histogram."""
        values = list(microseconds)
        self.add(what, SUM, sum(values))
        digits: Counter[int] = Counter(map(int.bit_length, values))  # few, whose buckets are looked up
        for number, count in digits.items():
            self.add(what, bucket_of((1 << number) - 1), count)

    def add(self, what: str, detail: int | str, count: int) -> None:
        """Add to a count."""
        self.fields[f"{what} {detail} {self._handler}"] += count


class Activity:
    """Counts what handlers do. Thread-safe, and quick: it is called for each node, and counts many of them together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: dict[str, HandlerCounts] = {}
        self._leases_lost = 0
        self._unconfirmed: tuple[int, Counter[str]] | None = None
        self._number = 0

    def delayed(self, handler: str, milliseconds: int) -> None:
        """A node was claimed, so long after it became ready."""
        counts = self._handlers.get(handler) or self._begin(handler)
        counts.delays.append(milliseconds)  # counted with what has ended

    def completed(self, handler: str, seconds: float) -> None:
        """An attempt has ended with an outcome of its own."""
        counts = self._handlers.get(handler) or self._begin(handler)
        counts.took.append(seconds)
        if len(counts.took) >= TOGETHER:
            with self._lock:
                counts.count()

    def ended(self, handler: str, seconds: float, outcome: str) -> None:
        """An attempt has ended.

        Args:
            outcome: completed, failed, retried or cancelled.
        """
        counts = self._handlers.get(handler) or self._begin(handler)
        with self._lock:
            if len(counts.delays) >= TOGETHER:
                counts.count()
            counts.observe(DURATIONS, [int(seconds * 1_000_000)])
            counts.add(ATTEMPTS, outcome, 1)

    def lost_lease(self) -> None:
        """The lease of a node was lost while it ran."""
        with self._lock:
            self._leases_lost += 1

    def flush(self, keys: Keys, worker_id: str) -> ScriptCall | None:
        """The call that adds what was counted; None if there is nothing. It is the same until `confirm` is called.

        Args:
            keys: of the first partition.
        """
        if self._unconfirmed is None:
            fields: Counter[str] = Counter()
            with self._lock:
                for counts in self._handlers.values():
                    counts.count()
                    fields.update(counts.fields)
                    counts.fields.clear()
                if self._leases_lost:
                    fields[f"{LEASES_LOST}  "] = self._leases_lost
                    self._leases_lost = 0
            if not fields:
                return None
            self._number += 1
            self._unconfirmed = self._number, fields
        number, fields = self._unconfirmed
        return scripts.count_work(keys, worker=worker_id, number=number, counts=fields)

    def confirm(self) -> None:
        """What `flush` returned has been recorded."""
        self._unconfirmed = None

    def _begin(self, handler: str) -> HandlerCounts:
        with self._lock:
            return self._handlers.setdefault(handler, HandlerCounts(handler))
