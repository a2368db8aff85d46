"""Text files that a user names: they are UTF-8, and one that is not is refused with the place of its first wrong byte."""

from pathlib import Path

from flowcraft_sdk._config.lines import Lines
from flowcraft_sdk._config.regular_file import read_regular_file
from flowcraft_sdk._config.source_positions import SourcePosition


class NotUtf8Error(ValueError):
    """A file is not UTF-8 text.

    Attributes:
        position: of the first byte that cannot be read.
        reason: what is wrong and what to do, one line.
    """

    def __init__(self, position: SourcePosition, reason: str) -> None:
        super().__init__(f"{position}: {reason}")
        self.position = position
        self.reason = reason


def read_utf8_file(path: str | Path, most: int, shown: str = "") -> str:
    """What a text file holds, without a byte order mark.

    Args:
        path: of the file.
        most: bytes that it may have.
        shown: what it is called in messages, if not by its path.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; `strerror` says which.
        NotUtf8Error: it is not UTF-8 text.
    """
    raw = read_regular_file(path, most)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        position = Lines(before, shown or str(path)).position(len(before))
        reason = f"not UTF-8 text: byte {raw[error.start]:#04x}; save it as UTF-8"
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            reason = "not UTF-8 text but UTF-16; save it as UTF-8"
        raise NotUtf8Error(position, reason) from None
