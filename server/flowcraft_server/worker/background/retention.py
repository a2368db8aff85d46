"""Retention: removes ended runs that are past what is kept. Every process has a cleaner; none is the leader."""

from dataclasses import dataclass, replace
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.scripts import Keep
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.settings import Retention

PAUSE = 60.0
"""Seconds between two looks while there is nothing to do."""

REMOVED_AT_ONCE = 50
BUSY_PAUSE = 0.02
"""Seconds between two slices: others get their turn."""


@dataclass(frozen=True)
class Due:
    """What a look at the retention finds.

    Attributes:
        roots: root runs that are past their age or their count, by class.
        bytes: about what all ended runs take, children included.
        over: bytes over the budget.
    """

    roots: dict[str, int]
    bytes: int
    over: int


class RetentionCleaner:
    """Removes what is past retention, a slice at a time."""

    def __init__(self, link: StoreLink, partitions: Partitions, retention: Retention) -> None:
        self._link = link
        self._partitions = partitions
        self._retention = retention_share(retention, partitions.count)
        self._more: tuple[Keys, ...] = ()
        self._removed = 0
        self._broken = 0

    def step(self) -> float:
        """Remove a slice; returns the pause in seconds."""
        removed, _, more = self.remove_slice()
        self._removed += removed
        if more:
            return BUSY_PAUSE
        if self._removed:
            logger.info("retention removed {} ended runs", self._removed)
            self._removed = 0
        self._report_broken()
        return PAUSE

    def _report_broken(self) -> None:
        """Warn when there is more that could not be read and was set aside."""
        pipe = self._link.redis.pipeline(transaction=False)
        for keys in self._partitions.all:
            pipe.hlen(keys.broken)
        count: Any = sum(pipe.execute())
        if count > self._broken:
            logger.warning(
                "{} entries or records in Redis could not be read and were set aside; the runs beside them go on: "
                "see `flowcraft doctor`",
                count,
            )
        self._broken = count

    def remove_slice(self) -> tuple[int, int, bool]:
        """Remove a slice: how many runs, how many trees were kept as a run of theirs goes on, whether there may be more.

        With several partitions a slice is shared out over those that may have more to remove.
        """
        retention = self._retention
        chosen = self._more or self._partitions.all
        calls = [
            scripts.expire(
                keys,
                keep=retention.keep,
                bytes=retention.bytes,
                tombstone_age_ms=retention.tombstone_age_ms,
                tombstone_count=retention.tombstone_count,
                limit=-(-REMOVED_AT_ONCE // len(chosen)),
            )
            for keys in chosen
        ]
        removed = kept = 0
        self._more, failure = (), None
        for keys, reply in zip(chosen, self._link.send(calls), strict=True):
            if isinstance(reply, Exception):
                failure = reply
                continue
            gone, passed, more = (int(part) for part in reply)
            removed, kept = removed + gone, kept + passed
            if more:
                self._more += (keys,)
        if failure is not None:
            raise failure
        return removed, kept, bool(self._more)

    def look(self) -> Due:
        """What there is to be removed now; removes nothing."""
        redis = self._link.redis
        seconds, micros = redis.time()
        roots: dict[str, int] = {rule.name: 0 for rule in self._retention.keep}
        taken = over = 0
        for keys in self._partitions.all:
            now = seconds * 1000 + micros // 1000 + int(redis.get(keys.clock) or 0)
            for rule in self._retention.keep:
                name = keys.ended(rule.name)
                total: Any = redis.zcard(name)
                old: Any = 0 if rule.age_ms is None else redis.zcount(name, "-inf", now - rule.age_ms)
                roots[rule.name] += max(old, 0 if rule.count is None else total - rule.count)
            here = int(redis.hget(keys.stats, "bytes") or 0)
            taken += here
            over += 0 if self._retention.bytes is None else max(0, here - self._retention.bytes)
        return Due(roots, taken, over)


def retention_share(retention: Retention, partitions: int) -> Retention:
    """What each of some partitions keeps: its share of counts and bytes, rounded up. Ages are the same in all."""

    def share(number: int | None) -> int | None:
        return None if number is None else -(-number // partitions)

    keep = tuple(Keep(rule.name, rule.age_ms, share(rule.count)) for rule in retention.keep)
    tombstones = -(-retention.tombstone_count // partitions)
    return replace(retention, keep=keep, bytes=share(retention.bytes), tombstone_count=tombstones)
