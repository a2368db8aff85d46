"""Retention: removes ended runs that are past what is kept. Every process has a cleaner; none is the leader."""

from dataclasses import dataclass
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
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

    def __init__(self, link: StoreLink, keys: Keys, retention: Retention) -> None:
        self._link = link
        self._keys = keys
        self._retention = retention
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
        count: Any = self._link.redis.hlen(self._keys.broken)
        if count > self._broken:
            logger.warning(
                "{} entries or records in Redis could not be read and were set aside; the runs beside them go on: "
                "see `flowcraft doctor`",
                count,
            )
        self._broken = count

    def remove_slice(self) -> tuple[int, int, bool]:
        """Remove a slice: how many runs, how many trees were kept as a run of theirs goes on, whether there may be more."""
        retention = self._retention
        call = scripts.expire(
            self._keys,
            keep=retention.keep,
            bytes=retention.bytes,
            tombstone_age_ms=retention.tombstone_age_ms,
            tombstone_count=retention.tombstone_count,
            limit=REMOVED_AT_ONCE,
        )
        removed, kept, more = (int(part) for part in self._link.call(call))
        return removed, kept, bool(more)

    def look(self) -> Due:
        """What there is to be removed now; removes nothing."""
        redis, keys = self._link.redis, self._keys
        seconds, micros = redis.time()
        now = seconds * 1000 + micros // 1000 + int(redis.get(keys.clock) or 0)
        roots: dict[str, int] = {}
        for rule in self._retention.keep:
            name = keys.ended(rule.name)
            total: Any = redis.zcard(name)
            old: Any = 0 if rule.age_ms is None else redis.zcount(name, "-inf", now - rule.age_ms)
            roots[rule.name] = max(old, 0 if rule.count is None else total - rule.count)
        taken = int(redis.hget(keys.stats, "bytes") or 0)
        budget = self._retention.bytes
        return Due(roots, taken, 0 if budget is None else max(0, taken - budget))
