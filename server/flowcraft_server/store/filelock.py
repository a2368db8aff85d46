"""A lock on a file that the kernel gives back when its holder dies, however it dies."""

import fcntl
import os
import time
from pathlib import Path

from flowcraft_sdk.protocol.clock import clock


class FileLock:
    """An advisory lock (flock) on a file, shared or exclusive.

    The file is made when it is missing and never removed: two processes could otherwise lock two files of one name.
    A process started with `fd` passed on holds the lock too, for as long as it lives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """Descriptor that carries the lock.

        Raises:
            RuntimeError: the lock is not held.
        """
        if self._fd is None:
            raise RuntimeError(f"{self.path} is not locked")
        return self._fd

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self, *, shared: bool = False, wait: float = 0.0) -> bool:
        """Take the lock, or change the kind of lock that is held.

        Args:
            shared: whether others may hold it shared at the same time.
            wait: seconds to try for.

        Returns:
            Whether the lock is held now. When it cannot be taken, a lock held before is lost.
        """
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = clock() + wait
        while True:
            try:
                fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if clock() >= deadline:
                    self.release()
                    return False
            time.sleep(0.005)

    def release(self) -> None:
        """Give the lock up; processes that were given `fd` keep it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
