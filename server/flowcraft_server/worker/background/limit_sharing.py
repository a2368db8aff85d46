"""Limits over several partitions: what a limit allows is shared out over those in which nodes wait for it."""

from collections.abc import Iterable
from typing import Any

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.home_partitions import HomePartitions

PAUSE = 0.05
"""Seconds between two looks while nodes that wait for a limit are admitted."""

IDLE_PAUSE = 0.2
ELSEWHERE_PAUSE = 2.0
"""Seconds between two looks of a worker that others come before, in case none of those lives."""

NAMES_SECONDS = 5.0
"""Seconds after which a limit that is new is noticed."""


class LimitSharing:
    """Shares limits out. Every process has one, the first two of them look often; doing it twice changes nothing.

    What a limit allows is kept in the first partition; each admits what it was granted. What a process has granted when it
    dies, the next one finds there.
    """

    def __init__(self, link: StoreLink, partitions: Partitions, homes: HomePartitions) -> None:
        self._link = link
        self._partitions = partitions
        self._homes = homes
        self._names: list[str] = []
        self._names_until = 0.0

    def step(self) -> float:
        """Share out once; returns the pause in seconds."""
        if clock() > self._names_until:
            (names,) = self._link.read_all([("HKEYS", self._partitions.home.limits)])
            self._names = [name.decode() for name in names]
            self._names_until = clock() + NAMES_SECONDS
        waited_for = self._waited_for()
        moved = [self._share(name) for name in waited_for]
        if self._homes.rank(self._partitions.home) > 1:
            return ELSEWHERE_PAUSE
        return PAUSE if any(moved) else IDLE_PAUSE

    def _waited_for(self) -> list[str]:
        """The limits that nodes wait for, in whichever partition."""
        if not self._names:
            return []
        found = self._link.read_each(
            [("EXISTS", *(keys.limited(name) for name in self._names)) for keys in self._partitions.all]
        )
        every = [keys for keys, count in zip(self._partitions.all, found, strict=True) if count]  # also what is refused
        if not every:
            return []
        counts = self._link.read_each([("ZCARD", keys.limited(name)) for name in self._names for keys in every])
        rows = [counts[at : at + len(every)] for at in range(0, len(counts), len(every))]
        return [
            name
            for name, row in zip(self._names, rows, strict=True)
            if any(isinstance(each, int) and each for each in row)
        ]

    def _share(self, name: str) -> bool:
        """Share one limit out; whether anything was granted or taken back."""
        every = self._partitions.all
        replies = self._link.send([scripts.admit(keys, limit=name) for keys in every])
        reports = [
            (number, [int(part) for part in reply]) for number, reply in enumerate(replies) if isinstance(reply, list)
        ]
        if not reports:
            return False
        granted = self._link.call(scripts.share_limit(self._partitions.home, limit=name, reports=reports))
        by_number, calls = dict(_numbered(granted)), []
        for number, (waiting, held, share, epoch, tokens, total) in reports:
            grant = by_number[number]
            if grant != (epoch, share, total) or (waiting and (tokens > 0 or held < share)):
                calls.append(scripts.admit(every[number], limit=name, granted=grant))
        if calls:
            self._link.send(calls)
        return bool(calls)


def _numbered(granted: Iterable[Any]) -> Iterable[tuple[int, tuple[int, int, int]]]:
    """What was granted to each partition, by its number."""
    parts = [int(part) for part in granted]
    for at in range(0, len(parts), 4):
        yield parts[at], (parts[at + 1], parts[at + 2], parts[at + 3])
