"""What a run failed with, read from its record."""

from collections.abc import Callable, Sequence
from typing import Any

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.records import NodeFailure

ReadFields = Callable[[str, Sequence[str]], Sequence[bytes | None]]
"""Reads fields of a hash, as `StoreLink.read_fields`."""


def first_failure(read: ReadFields, record: str) -> tuple[NodeFailure | None, Any]:
    """The failure of the node that failed first of a run, and as it is kept; None where there is none, or none is kept.

    Args:
        read: reads the record.
        record: the key of the run's record.
    """
    first = read(record, ["f1"])[0]
    if first is None:
        return None, None
    kept = read(record, [f"f:{first.decode()}"])[0]
    details = None if kept is None else wire.loads(kept)
    if not isinstance(details, dict):
        return None, details
    return NodeFailure(node_id=details["node"], type=details["type"], message=details["message"]), details
