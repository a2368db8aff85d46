"""What a run failed with, read from its record."""

from typing import TYPE_CHECKING, Any

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.records import NodeFailure

if TYPE_CHECKING:
    from flowcraft_server.engine.engine import Engine


def first_failure(engine: "Engine", run_id: str) -> tuple[NodeFailure | None, Any]:
    """The failure of the node that failed first of a run, and as it is kept; None where there is none, or none is kept."""
    record = engine.run_key(run_id)
    first = engine.link.read_fields(record, ["f1"])[0]
    if first is None:
        return None, None
    kept = engine.link.read_fields(record, [f"f:{first.decode()}"])[0]
    details = None if kept is None else wire.loads(kept)
    if not isinstance(details, dict):
        return None, details
    return NodeFailure(node_id=details["node"], type=details["type"], message=details["message"]), details
