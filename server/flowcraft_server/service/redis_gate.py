"""What Redis must be like before anything is started on it."""

import time
from collections.abc import Callable
from typing import Any

import redis
from loguru import logger

from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.link import connect

NO_EVICTION = "noeviction"
LONGEST_PAUSE = 2.0


class RedisUnusable(Exception):
    """Redis does not answer or is not set up to keep data. The message is one line that says what to do."""


def shown_url(url: str) -> str:
    """An address without its password."""
    return Redactor().clean(url)


def wait_for_redis(url: str, timeout: float, pause: Callable[[float], bool] | None = None) -> "redis.Redis":
    """A client of a Redis that answers.

    Args:
        url: its address.
        timeout: seconds to try for, with growing pauses.
        pause: sleeps for some seconds and returns True to give up; plain sleep by default.

    Raises:
        RedisUnusable: it did not answer in time, or refused us, which waiting does not mend.
    """
    pause = _sleep if pause is None else pause
    try:
        client = connect(url, decode=True)
    except ValueError as error:
        raise RedisUnusable(f"{shown_url(url)} is no address of a Redis: {_first_line(error)}") from None
    deadline = time.monotonic() + timeout
    seconds = 0.1
    said = False
    while True:
        refusal = _refusal(client, url)
        if refusal is None:
            return client
        if time.monotonic() + seconds > deadline:
            raise RedisUnusable(
                f"{shown_url(url)} does not answer, {timeout:g} s were waited ({refusal}); "
                "is redis.url right, and Redis running?"
            )
        if not said:
            logger.warning("{} does not answer yet ({}), trying again", shown_url(url), refusal)
            said = True
        if pause(seconds):
            raise RedisUnusable("stopped while waiting for Redis")
        seconds = min(seconds * 2, LONGEST_PAUSE)


def complaints_about(client: "redis.Redis", url: str) -> list[str]:
    """What is wrong with a Redis for our purposes: it may evict keys, or it is a replica."""
    complaints = []
    policy = _info(client, "memory").get("maxmemory_policy")
    if policy is None:
        logger.warning("{} does not tell its maxmemory-policy; make sure that it is {}", shown_url(url), NO_EVICTION)
    elif policy != NO_EVICTION:
        complaints.append(
            f"{shown_url(url)} throws data away when its memory is full (maxmemory-policy {policy}); "
            f"set it to {NO_EVICTION}: redis-cli CONFIG SET maxmemory-policy {NO_EVICTION}"
        )
    if _info(client, "replication").get("role") == "slave":
        complaints.append(f"{shown_url(url)} is a read-only replica; name its primary in redis.url")
    return complaints


def _refusal(client: "redis.Redis", url: str) -> str | None:
    """Why there is no answer, None when there is one.

    Raises:
        RedisUnusable: it answers, and does not want us.
    """
    try:
        client.ping()
    except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise RedisUnusable(f"{shown_url(url)} refuses us ({_first_line(error)}); is the password right?") from None
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        return _first_line(error)
    except redis.exceptions.RedisError as error:
        raise RedisUnusable(f"{shown_url(url)} refuses us ({_first_line(error)})") from None
    return None


def _info(client: "redis.Redis", section: str) -> dict[str, Any]:
    # INFO and not CONFIG GET, which managed services forbid.
    try:
        return dict(client.info(section))
    except redis.exceptions.RedisError as error:
        logger.debug("INFO {} is refused: {}", section, error)
        return {}


def _first_line(error: Exception) -> str:
    return Redactor().clean(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
