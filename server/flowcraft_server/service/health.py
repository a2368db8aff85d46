"""Whether a deployment is alive: Redis answers, and a worker was seen lately."""

from typing import Any

import redis

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.config.model import Settings
from flowcraft_server.store.embedded import running_url
from flowcraft_server.store.publish import text

from .redis_checks import shown_url, wait_for_redis

BEATS_MISSED = 4
SHORTEST_SILENCE = 5.0
MOST_LOOKED_AT = 100


class Unhealthy(Exception):
    """Something that must run does not; the message says what."""


def check_health(settings: Settings, url: str | None) -> str:
    """Check that Redis answers and that some worker renewed its leases lately; returns a line that says so.

    Args:
        url: of Redis; None when the embedded store does not run.

    Raises:
        Unhealthy: not so.
        RedisUnusable: Redis does not answer.
    """
    if url is None:
        raise Unhealthy("the embedded store does not run")
    client = wait_for_redis(url, 0.0)
    keys = Partitions(settings.name, settings.redis.partitions).home  # each worker is listed in all
    limit = max(SHORTEST_SILENCE, BEATS_MISSED * settings.executor.heartbeat)
    try:
        newest: Any = client.zrange(keys.workers, 0, MOST_LOOKED_AT - 1, desc=True, withscores=True)
        exhausted = [client.hget(keys.worker(text(worker)), "exhausted") for worker, _ in newest]
        seconds, micros = client.time()
        offset = float(client.get(keys.clock) or 0)
    except redis.exceptions.RedisError as error:
        raise Unhealthy(f"{shown_url(url)} refuses to answer: {error}") from None
    if not newest:
        raise Unhealthy(f"{shown_url(url)} answers, but no worker serves '{settings.name}'")
    worker, seen = text(newest[0][0]), newest[0][1]
    silent = (seconds * 1000 + micros / 1000 + offset - float(seen)) / 1000
    if silent > limit:
        raise Unhealthy(f"{shown_url(url)} answers, but no worker was seen for {silent:.0f} s (the last: {worker})")
    fresh = [
        why
        for (_, score), why in zip(newest, exhausted, strict=True)
        if (seconds * 1000 + micros / 1000 + offset - float(score)) / 1000 <= limit
    ]
    if all(fresh):
        raise Unhealthy(f"no worker of '{settings.name}' runs functions any more: {text(fresh[0])}; start it again")
    return f"healthy: worker {worker} was seen {max(0.0, silent):.1f} s ago"


def known_url(settings: Settings, data_dir: str) -> str | None:
    """The address of the deployment's Redis; None when it is an embedded store that does not run."""
    return running_url(data_dir) if settings.redis.embedded else settings.redis.url
