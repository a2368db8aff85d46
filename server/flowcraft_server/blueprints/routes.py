"""Where the nodes of a handler wait: the queue, and the limit that they count against. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from flowcraft_server.blueprints.model import Node

DEFAULT_QUEUE = "default"
ITEM_HANDLERS = {"map": "uses", "batch-scatter": "workerUsesKey"}
"""Built-in nodes with items, and the param with the handler that each item calls."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a deployment says of a handler.

    Attributes:
        queue: queue of the nodes that use it and name none.
        limit: limit that the nodes which use it and name none count against.
    """

    queue: str | None = None
    limit: str | None = None


NOWHERE = Route()


def queue_of(node: Node, routes: Mapping[str, Route]) -> str:
    """The queue of a node as its plan entry has it: `QUEUE`, or `QUEUE@LIMIT`. Of one with items the limit is theirs."""
    route = routes.get(node.uses, NOWHERE)
    queue = node.config.queue or route.queue or DEFAULT_QUEUE
    limit = None if node.uses in ITEM_HANDLERS else node.config.limit or route.limit
    return f"{queue}@{limit}" if limit else queue


def queue_of_items(node: Node, routes: Mapping[str, Route]) -> str | None:
    """The queue of a node's items, if they have another one than the node: for the limit of the handler that they call."""
    if node.uses not in ITEM_HANDLERS:
        return None
    called = node.params.get(ITEM_HANDLERS[node.uses])
    limit = node.config.limit or (routes.get(called, NOWHERE).limit if isinstance(called, str) else None)
    return f"{queue_of(node, routes)}@{limit}" if limit else None
