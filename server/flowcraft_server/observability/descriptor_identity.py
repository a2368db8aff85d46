"""Whether a descriptor is still what was opened under it: code of a handler may close a number that is not its own."""

import os
from typing import TextIO


def identity(descriptor: int) -> object:
    """What is open under a descriptor, None if nothing is."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class OwnStream:
    """A stream over a descriptor of its own, so that a handler that closes the other one does not end the log.

    Once that descriptor is another's, lines go to the stream it was made of; once that is another's, too, nowhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self._numbers = [os.dup(stream.fileno()), stream.fileno()]
        self._identity = identity(self._numbers[0])
        # Without `closefd` nothing closes what has become another's.
        self._streams = [
            open(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
            for number in self._numbers
        ]

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._streams[0].isatty()

    def write(self, text: str) -> int:
        """Write text that ends with a line's end."""
        for number, stream in zip(self._numbers, self._streams, strict=True):
            if identity(number) == self._identity:
                return stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Each line is written at once."""
