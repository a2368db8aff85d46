"""The node kinds that the engine runs itself, and what handlers the other nodes need."""

from collections.abc import Mapping
from typing import Any

BUILTIN_USES = ("subflow", "loop-controller", "batch-scatter", "batch-gather", "wait", "sleep", "webhook", "map")
"""What nodes may `use` without a handler."""
PROVIDED_USES = ("agent",)
"""Handlers that each worker brings along; a deployment may have one of its own by such a name."""

WAITS_FOR: Mapping[str, str] = {
    "signal": "a signal",
    "webhook": "a webhook",
    "timer": "its time",
    "batch": "its items",
    "dynamic": "the nodes that it added",
    "fallback": "its fallback",
    "subflow": "its child run",
    "model": "room in the limits of a model",
}
"""What a parked node waits for, by the kind of its wait, in words."""

_ITEM_HANDLER = {"map": "uses", "batch-scatter": "workerUsesKey"}


def handler_of(node: Mapping[str, Any]) -> str | None:
    """The handler of its deployment that a node of a plan needs, for itself or for its items; None if it needs none."""
    uses = node.get("uses")
    if uses in BUILTIN_USES:
        uses = (node.get("params") or {}).get(_ITEM_HANDLER.get(uses, ""))
    return uses if isinstance(uses, str) and uses and uses not in (*BUILTIN_USES, *PROVIDED_USES) else None
