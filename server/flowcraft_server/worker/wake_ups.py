"""What worker threads sleep on: wake-up messages in Redis, one list for each queue served."""

import threading
from collections.abc import Sequence

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.store.link import StoreLink, StoreUnavailable

TASK = "flowcraft.work"
AWAY_PAUSE = 0.2
"""Seconds between tries while Redis is away."""


class WakeUps:
    """Sleeps until a message comes, on the connection over which the thread claims.

    redis-py's `brpop` takes half as long again as being woken does. A message is a hint; a woken thread asks for work, whatever
    the message has.
    """

    def __init__(self, link: StoreLink, wake_keys: Sequence[str]) -> None:
        self._link = link
        self._wake_keys = list(wake_keys)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def wait(self, seconds: float) -> bytes | None:
        """The message that has woken the calling thread; None after `seconds`, once closed, or if Redis is away.

        Raises:
            redis.exceptions.ResponseError: Redis refuses it.
        """
        if self._closed.is_set():
            return None
        try:
            found = self._link.sleep(self._wake_keys, seconds)
        except StoreUnavailable as error:
            if not self._closed.is_set():
                self._log_outage(error)
            self._closed.wait(AWAY_PAUSE)
            return None
        if self._away_since is not None:
            self._log_return()
        return found

    def _log_outage(self, error: StoreUnavailable) -> None:
        """Once for an outage, and not for each thread and try."""
        with self._lock:
            if self._away_since is not None:
                return
            self._away_since = clock()
        logger.warning("Redis is away, no work can be waited for: {}", error)

    def _log_return(self) -> None:
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            logger.info("Redis is back after {:.1f} s", clock() - since)

    def close(self) -> None:
        """Wake all sleepers for good."""
        self._closed.set()
        self._link.wake_sleepers()


def warn_foreign(message: object) -> None:
    """Say that something in a list was dropped which is no wake-up."""
    logger.warning("dropped a message that is not ours: {}", message)
