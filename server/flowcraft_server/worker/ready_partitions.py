"""Which partitions have ready nodes, as far as a worker knows: it asks these for work, and sleeps when there are none."""

import threading
from typing import NamedTuple

from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys

MOST_ASKED_AT_ONCE = 8
"""Partitions that are asked for nodes in one pipeline."""

LEAST_SHARE = 32
"""Nodes that one of them is asked for, where many are wanted: the calls that finish them are joined by partition."""

TURN_SECONDS = 0.04
"""For which the nodes that a partition has given bring others of it, before partitions that wait get their turn."""


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
        self._turns: dict[Keys, float] = {}
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

    def turn_is_over(self, keys: Keys) -> bool:
        """Whether other partitions are to be asked before this one gives more."""
        return self.has_others(keys) and clock() > self._turns.get(keys, 0.0)

    def shares(self, wanted: int, *, together: bool = False) -> list[Share]:
        """What to ask which partitions for, so that each gets its turn; empty if none is believed to have nodes.

        Args:
            together: nodes are quick, and few partitions are asked for many each, the same ones for `TURN_SECONDS`: so
                outcomes share calls. Else many are asked for few each.
        """
        with self._lock:
            order = list(self._noted)
            if together:
                now = clock()
                order.sort(key=lambda keys: self._turns.get(keys, 0.0) < now)  # those whose turn it is come first
                del order[max(1, min(wanted // LEAST_SHARE, MOST_ASKED_AT_ONCE)) :]
                for keys in order:
                    if self._turns.get(keys, 0.0) < now:
                        self._turns[keys] = now + TURN_SECONDS
            else:
                del order[min(wanted, MOST_ASKED_AT_ONCE) :]
            chosen = [(keys, self._noted.pop(keys)) for keys in order]
            self._noted.update(chosen)  # the others come first next time
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
