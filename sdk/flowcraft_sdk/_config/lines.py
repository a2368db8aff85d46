"""Lines and columns of places in a text."""

import math
import re
from bisect import bisect_right
from functools import cached_property
from typing import Any

from flowcraft_sdk._config.source_positions import SourcePosition

_new: Any = tuple.__new__  # what `SourcePosition` calls: many are made
_BREAK = re.compile(r"\r\n|\r|\n")


class Lines:
    """The lines of a text, counted as editors count them."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._text = text
        self._line, self._begin, self._end = 0, 0, 0.0  # those of the line that was asked for last

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in _BREAK.finditer(self._text))]

    def position(self, index: int) -> SourcePosition:
        """The place of a character."""
        if not self._begin <= index < self._end:
            starts = self._starts
            self._line = bisect_right(starts, index)
            self._begin = starts[self._line - 1]
            self._end = starts[self._line] if self._line < len(starts) else math.inf
        found: SourcePosition = _new(SourcePosition, (self.file, self._line, index - self._begin + 1))
        return found
