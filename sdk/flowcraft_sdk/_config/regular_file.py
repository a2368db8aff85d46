"""Reading a file that a user names: only regular files, and only as much as is expected of one."""

import errno
import os
import stat
from pathlib import Path


def read_regular_file(path: str | Path, most: int) -> bytes:
    """What a file holds.

    A FIFO would be waited at for ever, a device has no end: neither is opened for reading.

    Args:
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; `strerror` says which.
    """
    # Opening a FIFO without this flag waits for a writer. For regular files it makes no difference.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        parts: list[bytes] = []
        left = most + 1
        while left > 0 and (part := os.read(descriptor, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    if left <= 0:
        raise OSError(errno.EFBIG, f"it is larger than {_size(most)}", str(path))
    return b"".join(parts)


def _size(most: int) -> str:
    return f"{most // 2**20} MiB" if most >= 2**20 else f"{most // 1024} KiB"
