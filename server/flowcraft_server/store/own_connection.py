"""A connection that one thread has for itself: connected by redis-py, written to and read past it.

Redis-py's layers around a reply (retries, metrics, push messages, decoding) take as long as the reply itself where nothing of
them is in the processor's cache: on an idle machine a thread waits for each of them.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import hiredis
import redis

CHUNK = 65_536
_RECONNECT = (redis.exceptions.ConnectionError, redis.exceptions.ReadOnlyError)


class UnsendableError(ValueError):
    """A command has a word that Redis cannot be sent. Nothing was sent, and nothing ever can be."""


class OwnConnection:
    """Not thread-safe, but for `cut`.

    Args:
        connection: an unconnected redis-py connection with protocol 2, guarded as `descriptors` does it.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self._reader: Any = None
        self._is_replica = False

    def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands as one pipeline, in one write, and read their replies; an error that Redis answers is one of them.

        Raises:
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError: the connection broke, or Redis is
                loading its data. It is connected anew next time.
            UnsendableError: one of the commands cannot be sent, so none was.
        """
        try:
            packed = b"".join(map(hiredis.pack_command, commands))
        except (TypeError, ValueError) as error:
            raise UnsendableError(str(error)) from error
        try:
            self._connection.send_packed_command([packed])
            if self._connection._sock is not self._socket:  # it had to be connected
                self._socket = self._connection._sock
                self._reader = hiredis.Reader(
                    protocolError=redis.exceptions.InvalidResponse, replyError=self._connection._parser.parse_error
                )
            replies = [self._read() for _ in commands]
            if self._is_replica:  # after a failover: connected anew, it may reach the new primary
                self._is_replica = False
                self.close()
            return replies
        except BaseException:
            self.close()  # replies may still be under way
            raise

    def cut(self) -> None:
        """Break the connection under the thread that waits at it, which gets the error that Redis does not answer."""
        with suppress(OSError, AttributeError):  # it is not connected, or not any more
            if self._connection._owns_socket():
                self._connection._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, until it is used again."""
        self._connection.disconnect()
        self._socket = None

    def _read(self) -> Any:
        while (reply := self._reader.gets()) is False:
            assert self._socket is not None
            self._connection.check_descriptor()
            data = self._socket.recv(CHUNK)
            if not data:
                raise redis.exceptions.ConnectionError("the connection was closed")
            self._reader.feed(data)
        if isinstance(reply, _RECONNECT):
            if isinstance(reply, redis.exceptions.ConnectionError):  # it is loading its data, or wants a password
                raise reply
            self._is_replica = True
        return reply
