"""The node kinds that the engine runs itself, and what handlers the other nodes need."""

from collections.abc import Mapping
from typing import Any

BUILTIN_USES = ("subflow", "loop-controller", "batch-scatter", "batch-gather", "wait", "sleep", "webhook", "map")
"""What nodes may `use` without a handler."""
_ITEM_HANDLER = {"map": "uses", "batch-scatter": "workerUsesKey"}


def handler_of(node: Mapping[str, Any]) -> str | None:
    """The handler that a node of a plan needs, for itself or for its items; None if it needs none."""
    uses = node.get("uses")
    if uses not in BUILTIN_USES:
        return uses if isinstance(uses, str) and uses else None
    handler = (node.get("params") or {}).get(_ITEM_HANDLER.get(uses, ""))
    return handler if isinstance(handler, str) and handler not in BUILTIN_USES else None
