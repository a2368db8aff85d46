"""Whether descriptors are still what was opened under them.

Code of a handler may close a number that is not its own, by `os.close` twice or `os.closerange`. The number is given to the next
file or socket that anything opens, and what still believes to own it would write into that, or close it.
"""

import os
import socket
import threading
from typing import Any, Protocol

import redis

from flowcraft_server.observability.descriptor_identity import identity

_SO_COOKIE = 57
"""Linux: a number that no other socket ever has."""


class HasDescriptor(Protocol):
    """A socket, a selector or a file."""

    def fileno(self) -> int:
        """Its descriptor; negative once it was closed."""


class DescriptorLostError(redis.exceptions.ConnectionError):
    """A descriptor of this process was closed by code that does not own it."""


def socket_identity(opened: Any) -> object:
    """The same for a socket, at a third of the cost where the kernel numbers them."""
    try:
        return opened.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
    except (OSError, AttributeError):
        return identity(opened.fileno())


class VitalDescriptors:
    """Those without which a process cannot go on: one that nothing uses, and those of event loops. Thread-safe.

    Once one of them was closed by foreign code, any number may be another's: nothing must be opened any more, or written to what
    was open, and the process is replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[HasDescriptor, tuple[int, object]] = {}
        self._pid = 0
        self._pipe: tuple[int, ...] = ()
        self._pipe_identity: list[object] = []
        self._lost = False

    def add(self, owner: HasDescriptor) -> None:
        """Watch the descriptor of something, until that closes it."""
        number = owner.fileno()
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._lost = os.getpid(), False
                self._pipe = os.pipe()
                self._pipe_identity = [identity(each) for each in self._pipe]
                self._known.clear()
            self._known[owner] = number, identity(number)

    def are_lost(self) -> bool:
        """Whether one of them was closed by code that does not own it."""
        if self._lost or os.getpid() != self._pid:  # a fork that closes what it inherited does no harm
            return self._lost and os.getpid() == self._pid
        if [identity(each) for each in self._pipe] != self._pipe_identity:
            self._lost = True
            return True
        with self._lock:
            known = list(self._known.items())
        for owner, (number, was) in known:
            if identity(number) != was:
                self._lost |= not _is_closed(owner)
                with self._lock:
                    self._known.pop(owner, None)
        return self._lost


def _is_closed(owner: HasDescriptor) -> bool:
    try:
        return owner.fileno() < 0
    except (ValueError, OSError):  # a closed selector has none
        return True


VITAL = VitalDescriptors()
"""Of this process."""


class GuardedConnection:
    """A base of redis-py's connections: neither sends, reads nor closes what has become another's descriptor."""

    _sock: Any
    _opened: object = None

    def _connect(self) -> Any:
        if VITAL.are_lost():
            raise DescriptorLostError("descriptors of this process were closed by code of a handler")
        opened = super()._connect()  # type: ignore[misc]
        self._opened = socket_identity(opened)
        return opened

    def check_descriptor(self) -> None:
        """Make sure that the socket is the one that was connected.

        Raises:
            DescriptorLostError: it is not; the connection is made anew next time.
        """
        if self._sock is not None and not self._owns_socket():
            self.disconnect()
            raise DescriptorLostError("the connection's descriptor was closed by code of a handler")

    def _owns_socket(self) -> bool:
        return socket_identity(self._sock) == self._opened

    def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
        """Send, if the socket is still its own."""
        self.check_descriptor()
        return super().send_packed_command(command, check_health)  # type: ignore[misc]

    def can_read(self, timeout: Any = 0) -> Any:
        """Whether there is something to read, if the socket is still its own."""
        self.check_descriptor()
        return super().can_read(timeout)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read, if the socket is still its own."""
        self.check_descriptor()
        return super().read_response(*args, **options)  # type: ignore[misc]

    def disconnect(self, *args: Any, **options: Any) -> None:
        """Close the socket, or let go of a descriptor that is another's."""
        if self._sock is not None and self._sock.fileno() >= 0 and not self._owns_socket():
            self._sock.detach()
        super().disconnect(*args, **options)  # type: ignore[misc]


def guarded(kind: type[Any]) -> type[Any]:
    """A class of redis-py's connections with this guard."""
    return type(f"Guarded{kind.__name__}", (GuardedConnection, kind), {})
