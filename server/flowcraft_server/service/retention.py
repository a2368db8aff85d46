"""Retention on demand, for `flowcraft-server gc`."""

import time

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.records.counts import counted
from flowcraft_server.config.model import Settings
from flowcraft_server.config.quantities import format_size
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.background.retention import BUSY_PAUSE, RetentionCleaner
from flowcraft_server.worker.from_config import retention_of

from .redis_checks import wait_for_redis


def overdue(url: str, settings: Settings) -> str:
    """What would be removed now, in one line.

    Raises:
        RedisUnusable: Redis does not answer.
    """
    due = _cleaner(url, settings).look()
    parts = [f"{count} {name}" for name, count in due.roots.items() if count]
    what = (
        f"{', '.join(parts)} (with the runs below them)"
        if parts
        else "no run is past its age or the count of its class"
    )
    size = f"ended runs take about {format_size(due.bytes // 1024 * 1024)}"
    return f"would remove: {what}; {size}" + (f", {format_size(due.over)} over retention.bytes" if due.over else "")


def clean(url: str, settings: Settings) -> str:
    """Remove what is past retention; returns a line that says how much it was.

    Raises:
        RedisUnusable: Redis does not answer.
    """
    cleaner = _cleaner(url, settings)
    removed = kept = 0
    while True:
        gone, passed, more = cleaner.remove_slice()
        removed, kept = removed + gone, kept + passed
        if not more:
            break
        time.sleep(BUSY_PAUSE)
    left = f"; {kept} kept, as a run below them goes on" if kept else ""
    size = format_size(cleaner.look().bytes // 1024 * 1024)
    return f"removed {counted(removed, 'run')}{left}; ended runs take about {size} now"


def _cleaner(url: str, settings: Settings) -> RetentionCleaner:
    wait_for_redis(url, settings.redis.connect_timeout).close()
    return RetentionCleaner(
        StoreLink(url), Partitions(settings.name, settings.redis.partitions), retention_of(settings)
    )
