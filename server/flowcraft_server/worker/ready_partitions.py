"""Which partitions have ready nodes, as far as a worker knows: it asks these for work, and sleeps when there are none."""

import threading
from typing import NamedTuple

from flowcraft_sdk.protocol.keys import Keys

MOST_ASKED_AT_ONCE = 8
"""Partitions that are asked for nodes in one pipeline."""

LEAST_SHARE = 16
"""Nodes that one of them is asked for, where many are wanted: the calls that finish them are joined by partition."""


class Share(NamedTuple):
    """What one partition is asked for.

    Attributes:
        asked: how many nodes it is asked for.
        noted: how often the partition had been noted by then, for `claimed`.
    """

    keys: Keys
    asked: int
    noted: int


class ReadyPartitions:
    """Partitions that are believed to have ready nodes, in the order in which they are asked. Thread-safe.

    A belief is a hint: a partition that is wrongly in here costs a claim in vain, and one that is missing is noted by the
    next sweep that finds nodes waiting there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[Keys, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._noted)

    def __contains__(self, keys: object) -> bool:
        return keys in self._noted

    def note(self, *partitions: Keys) -> None:
        """Some partitions have ready nodes, from now on."""
        with self._lock:
            for keys in partitions:
                self._count += 1
                self._noted[keys] = self._count

    def has_others(self, keys: Keys) -> bool:
        """Whether any other partition is believed to have ready nodes."""
        return len(self._noted) > (keys in self._noted)

    def shares(self, wanted: int) -> list[Share]:
        """What to ask which partitions for, so that each gets its turn; empty if none is believed to have nodes."""
        with self._lock:
            most = wanted if wanted < LEAST_SHARE else wanted // LEAST_SHARE
            chosen = list(self._noted.items())[: min(most, MOST_ASKED_AT_ONCE)]
            for keys, noted in chosen:  # the others come first next time
                del self._noted[keys]
                self._noted[keys] = noted
        each, more = divmod(wanted, len(chosen)) if chosen else (0, 0)
        return [Share(keys, each + (place < more), noted) for place, (keys, noted) in enumerate(chosen)]

    def claimed(self, share: Share, found: int) -> None:
        """A partition has given `found` nodes; fewer than it was asked for mean that it has no more, unless noted since."""
        if found < share.asked:
            with self._lock:
                if self._noted.get(share.keys) == share.noted:
                    del self._noted[share.keys]

    def counted(self, keys: Keys, ready: int) -> None:
        """A reply says how many nodes a partition has left. That there are none a claim finds out: one may have come since."""
        if ready and keys not in self._noted:
            self.note(keys)
