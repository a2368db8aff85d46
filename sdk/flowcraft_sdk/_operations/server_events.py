"""Server-sent events, as they come in pieces of bytes. No I/O."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event of a stream.

    Attributes:
        kind: of the event.
        data: its JSON text.
        id: position in the stream; '' for none.
    """

    kind: str
    data: str
    id: str


class StreamTooLarge(ValueError):
    """An event is larger than what a client takes."""


LINE_OVERHEAD = 64
"""Bytes that a line takes in memory besides its own."""


class EventReader:
    """Takes events out of the bytes of a stream. What it does for a byte does not grow with what came before.

    Args:
        most: bytes that an event may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: list[bytes] = []
        self._size = 0
        self._line: list[bytes] = []
        self._line_size = 0

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that end in this piece.

        Raises:
            StreamTooLarge: one is too large.
        """
        *ends, rest = piece.split(b"\n")
        events = []
        for end in ends:
            line = b"".join([*self._line, end]).removesuffix(b"\r")
            self._line, self._line_size = [], 0
            if not line:
                events.append(_parsed(self._lines))
                self._lines, self._size = [], 0
            elif not line.startswith(b":"):  # a comment belongs to no event
                self._lines.append(line)
                self._size += len(line) + LINE_OVERHEAD
        if rest:
            self._line.append(rest)
            self._line_size += len(rest)
        if self._size + self._line_size > self._most:
            raise StreamTooLarge(f"an event has more than {self._most} bytes")
        return [event for event in events if event is not None]


def _parsed(lines: list[bytes]) -> ServerEvent | None:
    """An event; None for settings of the stream."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    if "data" not in fields:
        return None
    return ServerEvent(fields.get("event", ["message"])[-1], "\n".join(fields["data"]), fields.get("id", [""])[-1])
