"""What worker threads sleep on: wake-up messages in Redis, one list for each queue served.

With several partitions that is a queue in the process: one connection is notified of all partitions, see `stop_listener`.
"""

import threading
from collections.abc import Sequence

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.store.link import StoreLink, StoreUnavailable

TASK = "flowcraft.work"
ANY = b'["any","flowcraft.work",["","",0]]'
"""A message that names no node."""

MOST_KEPT = 64
"""Messages that wait for a thread, at most; as many as the lists in Redis hold."""

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

    def leave(self) -> None:
        """Leave a message for any thread of any worker, the caller included."""
        self._link.call_once(lambda: self._link.redis.lpush(self._wake_keys[0], ANY))

    def close(self) -> None:
        """Wake all sleepers for good."""
        self._closed.set()
        self._link.wake_sleepers()


class LocalWakeUps:
    """Sleeps until this process is notified of ready nodes in any partition. A message is a hint, here as well."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages = 0
        self._asleep = 0
        self._closed = False

    def wait(self, seconds: float) -> bytes | None:
        """A message; None after `seconds`, or once closed."""
        with self._changed:
            self._asleep += 1
            try:
                self._changed.wait_for(lambda: self._messages or self._closed, seconds)
            finally:
                self._asleep -= 1
            if not self._messages or self._closed:
                return None
            self._messages -= 1
            return ANY

    def notify(self, count: int) -> None:
        """There are so many ready nodes: as many threads are to look."""
        with self._changed:
            self._messages = min(MOST_KEPT, self._messages + count)
            self._changed.notify(count)

    def pass_on(self) -> None:
        """There is more than the caller took: wake another thread if one sleeps and none is about to wake."""
        if self._asleep and not self._messages:
            self.notify(1)

    def leave(self) -> None:
        """Leave a message for any thread of this worker, the caller included."""
        self.notify(1)

    def close(self) -> None:
        """Wake all sleepers for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def warn_foreign(message: object) -> None:
    """Say that something in a list was dropped which is no wake-up."""
    logger.warning("dropped a message that is not ours: {}", message)
