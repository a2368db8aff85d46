"""Attempts that wait for a thread, by partition: those of one come out together, so that their outcomes share a call."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.engine.attempt import Attempt


class GroupedAttempts:
    """A queue in which each partition has its turn: what it had when its turn began comes out, then the next one's. Thread-safe.

    It has what `PrefetchBuffer` uses of a deque.

    Args:
        partition_of: the partition in which a run lies, by the run's id.
    """

    def __init__(self, partition_of: Callable[[str], Keys]) -> None:
        self._partition_of = partition_of
        self._lock = threading.Lock()
        self._groups: OrderedDict[Keys, deque[Attempt]] = OrderedDict()
        self._count = 0
        self._left = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Attempt]:
        with self._lock:
            return iter([attempt for group in self._groups.values() for attempt in group])

    def extend(self, attempts: Iterable[Attempt]) -> None:
        """Add some, each behind the others of its partition."""
        with self._lock:
            for attempt in attempts:
                keys = self._partition_of(attempt.claim.run_id)
                group = self._groups.get(keys)
                if group is None:
                    group = self._groups[keys] = deque()
                group.append(attempt)
                self._count += 1

    def popleft(self) -> Attempt:
        """Take out the next one.

        Raises:
            IndexError: there is none.
        """
        with self._lock:
            if not self._groups:
                raise IndexError
            keys, group = next(iter(self._groups.items()))
            if self._left <= 0:
                self._left = len(group)
            attempt = group.popleft()
            self._left -= 1
            self._count -= 1
            if not group:
                del self._groups[keys]
                self._left = 0
            elif self._left <= 0:
                self._groups.move_to_end(keys)
            return attempt
