"""What is wrong with a blueprint."""

from dataclasses import dataclass
from typing import Literal

from flowcraft_sdk._config.source_positions import SourcePosition

LONGEST_SHOWN = 4_000
"""Characters of a message, and of a path."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something wrong with a file, in words for its author.

    Attributes:
        severity: an error keeps the blueprint from being used; a warning does not.
        position: where; None when no file is at hand.
        path: what it is about, such as `nodes.a.uses`.
        message: what is wrong and what to do, one line.
        excerpt: lines to show below it, such as an expression with a caret.
    """

    severity: Literal["error", "warning"]
    position: SourcePosition | None
    path: str
    message: str
    excerpt: str = ""

    def __str__(self) -> str:
        where = f"{self.position}   " if self.position is not None else ""
        about = f"{_on_one_line(self.path)}: " if self.path else ""
        warning = "   [warning]" if self.severity == "warning" else ""
        below = f"\n{self.excerpt}" if self.excerpt else ""
        return f"{where}{about}{_on_one_line(self.message)}{warning}{below}"


def _on_one_line(text: str) -> str:
    """What a file holds is shown as it is, but never breaks a line, moves a terminal's cursor or goes on for ever."""
    text = text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)
