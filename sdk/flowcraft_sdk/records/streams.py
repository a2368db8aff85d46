"""What `handle.stream` yields: the items of a node's stream."""

from flowcraft_sdk.records.runs import NodeStatus, Record


class StreamStarted(Record):
    """An execution of the node streams its first text: what an earlier one has streamed counts no more.

    Attributes:
        id: For `after`.
        attempt: Number of the attempt; the same one again if the worker of the execution before was lost.
    """

    id: str
    attempt: int


class StreamText(Record):
    """The next piece of text.

    Attributes:
        id: For `after`.
        text: The piece.
        part: Which of several texts it belongs to, if the node streams several: the name that its handler gave.
    """

    id: str
    text: str
    part: str = ""


class StreamGap(Record):
    """Text is missing here: it is not kept any more, or was left out because there was too much of it.

    Attributes:
        id: For `after`.
    """

    id: str


class StreamEnded(Record):
    """The end; the last item.

    Attributes:
        id: For `after`.
        status: How the node ended: completed, failed (also where its fallback stands in for it), cancelled or skipped; pending if
            the run ended before the node's turn.
    """

    id: str
    status: NodeStatus


StreamItem = StreamStarted | StreamText | StreamGap | StreamEnded
"""What `handle.stream` yields."""
