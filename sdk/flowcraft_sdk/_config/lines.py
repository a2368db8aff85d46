"""Lines and columns of places in a text."""

import re
from bisect import bisect_right

from flowcraft_sdk._config.marks import Mark

_BREAK = re.compile(r"\r\n|\r|\n")


class Lines:
    """The lines of a text, counted as editors count them."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._starts = [0, *(found.end() for found in _BREAK.finditer(text))]

    def mark(self, index: int) -> Mark:
        """The place of a character."""
        line = bisect_right(self._starts, index)
        return Mark(self.file, line, index - self._starts[line - 1] + 1)
