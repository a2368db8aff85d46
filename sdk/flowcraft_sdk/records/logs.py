"""What clients return of what nodes have logged."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowcraft_sdk.records.runs import Record


class LogLine(Record):
    """A line that a node has logged, as the run keeps it.

    Attributes:
        id: Its position; `logs(after=id)` begins behind it.
        at: When it was logged.
        node_id: The node's instance, with the iteration in loops (`node#2`).
        attempt: Number of the attempt.
        level: Its level, such as `info` or `error`.
        message: Its text, shortened if it is long.
        fields: Further values that it was given.
        traceback: Of the exception that it was logged with; empty without one.
        missing: How many lines before it are not kept any more.
    """

    id: str
    at: datetime
    node_id: str
    attempt: int
    level: str
    message: str
    fields: Mapping[str, Any] = {}
    traceback: str = ""
    missing: int = 0
