"""The error of an expression that cannot be read."""

import unicodedata

_EXCERPT = 100


class ExpressionError(ValueError):
    """An expression that is not valid: what is wrong, and where.

    Its text is the message with the position, then the line of the expression, then a caret below the spot.

    Attributes:
        message: what is wrong, and where it is known, what to write instead; one line.
        source: the whole expression.
        offset: index of the spot in `source`, counted in characters from 0.
    """

    def __init__(self, message: str, source: str, offset: int) -> None:
        super().__init__(message, source, offset)
        self.message = message
        self.source = source
        self.offset = offset

    @property
    def line(self) -> int:
        """Line of the spot within the expression, from 1."""
        return self.source.count("\n", 0, self.offset) + 1

    @property
    def column(self) -> int:
        """Column of the spot within its line, in characters from 1."""
        return self.offset - (self.source.rfind("\n", 0, self.offset) + 1) + 1

    def __str__(self) -> str:
        excerpt, caret = self._excerpt()
        return f"line {self.line}, column {self.column}: {self.message}\n    {excerpt}\n    {caret}"

    def _excerpt(self) -> tuple[str, str]:
        line = self.source.split("\n")[self.line - 1]
        spot = self.column - 1
        start = max(0, spot - _EXCERPT // 2) if len(line) > _EXCERPT else 0
        end = min(len(line), start + _EXCERPT)
        before = ("…" if start else "") + _printable(line[start:spot])
        after = _printable(line[spot:end]) + ("…" if end < len(line) else "")
        return before + after, "".join(" " * _width(char) for char in before) + "^"


def _printable(text: str) -> str:
    # A control character in an error line could move the cursor of the terminal that shows it.
    return "".join(char if char.isprintable() else " " if char in "\t\r" else "\ufffd" for char in text)


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
