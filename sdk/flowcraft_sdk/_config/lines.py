"""Lines and columns of places in a text."""

import re
from bisect import bisect_right
from functools import cached_property

from flowcraft_sdk._config.source_positions import SourcePosition

_BREAK = re.compile(r"\r\n|\r|\n")


class Lines:
    """The lines of a text, counted as editors count them."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._text = text

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in _BREAK.finditer(self._text))]

    def position(self, index: int) -> SourcePosition:
        """The place of a character."""
        line = bisect_right(self._starts, index)
        return SourcePosition(self.file, line, index - self._starts[line - 1] + 1)
