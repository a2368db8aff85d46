"""Whether a deployment is alive: Redis answers, and a worker was seen lately."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import redis

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.config.model import Settings
from flowcraft_server.store.embedded import running_url
from flowcraft_server.store.publish import text

from .redis_checks import RedisUnusable, shown_url, wait_for_redis

BEATS_MISSED = 4
SHORTEST_SILENCE = 5.0
PAGE = 100
"""Workers whose records are read in one go."""


class Unhealthy(Exception):
    """Something that must run does not; the message says what."""


class RedisRefuses(Unhealthy):
    """Redis was reached, but does not answer what a health check asks."""


@dataclass(frozen=True)
class _Worker:
    name: str
    silent: float
    """Seconds since its last heartbeat."""
    host: str
    exhausted: str
    """Why it runs functions no more; '' if it does."""


def check_health(settings: Settings, url: str | None, host: str | None = None) -> str:
    """Check that Redis answers and that some worker renewed its leases lately; returns a line that says so.

    Args:
        url: of Redis; None when the embedded store does not run.
        host: look at workers of the host with this name only; None looks at those of the whole deployment.

    Raises:
        Unhealthy: not so.
        RedisUnusable: Redis does not answer.
    """
    if url is None:
        raise Unhealthy("the embedded store does not run")
    client = wait_for_redis(url, 0.0)
    limit = max(SHORTEST_SILENCE, BEATS_MISSED * settings.executor.heartbeat)
    where = f"'{settings.name}'" if host is None else f"'{settings.name}' on host '{host}'"
    last: _Worker | None = None
    exhausted = ""
    home = Partitions(settings.name, settings.redis.partitions).home  # each worker is listed in all
    try:
        for worker in _newest_first(client, home, host):
            last = last or worker
            if worker.silent > limit:
                break
            if not worker.exhausted:
                return f"healthy: worker {worker.name} was seen {max(0.0, worker.silent):.1f} s ago"
            exhausted = exhausted or worker.exhausted
    except redis.exceptions.RedisError as error:
        raise RedisRefuses(f"{shown_url(url)} refuses to answer: {error}") from None
    if exhausted:
        raise Unhealthy(f"no worker of {where} runs functions any more: {exhausted}; start it again")
    if last is None:
        raise Unhealthy(f"{shown_url(url)} answers, but no worker serves {where}")
    raise Unhealthy(
        f"{shown_url(url)} answers, but no worker of {where} was seen for {last.silent:.0f} s (the last: {last.name})"
    )


def check_liveness(settings: Settings, url: str | None, host: str) -> str:
    """Check that a restart of the server on this host would not help; returns a line that says why.

    A Redis that does not answer is no reason: a restarted worker would lose the results that it holds until Redis is back.

    Args:
        url: of Redis; None when the embedded store does not run.
        host: whose workers are looked at.

    Raises:
        Unhealthy: no worker of the host was seen lately, or none runs functions any more.
    """
    try:
        return check_health(settings, url, host)
    except (RedisUnusable, RedisRefuses) as error:
        return f"not known: {error}"


def _newest_first(client: redis.Redis, keys: Keys, host: str | None) -> Iterator[_Worker]:
    seconds, micros = client.time()
    now = seconds * 1000 + micros / 1000 + float(cast("bytes | None", client.get(keys.clock)) or 0)
    for start in count(0, PAGE):
        page: Any = client.zrange(keys.workers, start, start + PAGE - 1, desc=True, withscores=True)
        for name, seen in page:
            about: Any = client.hmget(keys.worker(text(name)), "host", "exhausted")
            worker = _Worker(text(name), (now - float(seen)) / 1000, *(text(value or b"") for value in about))
            if host is None or worker.host == host:
                yield worker
        if len(page) < PAGE:
            return


def known_url(settings: Settings, data_dir: str) -> str | None:
    """The address of the deployment's Redis; None when it is an embedded store that does not run."""
    return running_url(data_dir) if settings.redis.embedded else settings.redis.url
