"""A connection for subscriptions: one thread waits for messages on it, while others may subscribe on it."""

import selectors
import socket
from contextlib import suppress
from typing import Any

import redis

from flowcraft_sdk.protocol.clock import clock

QUIET = 30.0
"""Seconds without a message after which the connection is checked with a PING."""

ANSWER = 10.0
"""Seconds in which that PING is to be answered."""

BROKEN = (redis.exceptions.RedisError, OSError, ValueError)


class SubscriberConnection:
    """A connected redis-py connection. `wait` needs no lock; all else is for one thread at a time, as TLS wants it.

    Args:
        connection: an unconnected redis-py connection, with protocol 2.

    Raises:
        redis.exceptions.RedisError: there is no connection to be had.
    """

    def __init__(self, connection: Any) -> None:
        connection.connect()
        self._connection = connection
        self._socket: socket.socket = connection._sock
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._last_reply_at = clock()
        self._pinged = False

    @property
    def is_stale(self) -> bool:
        """Whether it was not read for so long that it may be dead unnoticed."""
        return clock() - self._last_reply_at > QUIET

    def ask(self, new: list[str], gone: list[str]) -> None:
        """Subscribe and unsubscribe, in one message. The confirmations are among the replies.

        Raises:
            OSError: it cannot be sent. The connection is broken then, so that the waiting thread notices.
        """
        wanted = (("SUBSCRIBE", *new), ("UNSUBSCRIBE", *gone))
        self._send([command for command in wanted if len(command) > 1])

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read, within so many seconds or until it is time for `probe`."""
        quiet = clock() - self._last_reply_at
        left = QUIET + (ANSWER if self._pinged else 0.0) - quiet
        return bool(self._selector.select(max(0.0, min(seconds, left))))

    def replies(self) -> list[Any]:
        """What has arrived; to be called when `wait` says so.

        Raises:
            redis.exceptions.RedisError, OSError: the connection is broken.
        """
        found = [self._connection.read_response()]
        while self._connection.can_read(0):
            found.append(self._connection.read_response())
        self._last_reply_at, self._pinged = clock(), False
        return found

    def probe(self) -> None:
        """Send a PING if nothing was received for a while.

        Raises:
            redis.exceptions.ConnectionError: an earlier one was not answered.
        """
        quiet = clock() - self._last_reply_at
        if self._pinged and quiet >= QUIET + ANSWER:
            raise redis.exceptions.ConnectionError("the subscriber connection is silent")
        if not self._pinged and quiet >= QUIET:
            self._pinged = True
            self._send([("PING",)])

    def disconnect(self) -> None:
        """Shut the socket down; the waiting thread then closes the connection."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; not while a thread waits on it."""
        self._selector.close()
        with suppress(*BROKEN):
            self._connection.disconnect()

    def _send(self, commands: list[tuple[str, ...]]) -> None:
        # Not through redis-py, which would close the socket under the thread that waits for it.
        if commands:
            try:
                self._socket.sendall(b"".join(self._connection.pack_commands(commands)))
            except OSError:
                self.disconnect()
                raise
