"""What a node gets as its input (blueprint semantics 2.5, 2.6)."""

from typing import Any

from flowcraft_sdk.protocol import wire
from flowcraft_server.blueprints.compiler import input_fields
from flowcraft_server.engine.values import NodeValues


def resolve_input(values: NodeValues) -> Any:
    """The node's input: an item of its batch, a transformed value, its declared `inputs`, or what the taken edge brought."""
    claim, plan_node = values.claim, values.plan_node
    brought = None if claim.brought is None else wire.loads(claim.brought)
    if claim.item is not None:
        return brought
    declared = plan_node.node.inputs
    if declared is not None and not _transformed(values):
        if isinstance(declared, str):
            return _resolve(values, declared)
        return {name: _resolve(values, source) for name, source in declared.items()}
    if claim.brought is None:
        raw = values.claimed(f"c:_inputs.{claim.node_id}")
        return None if raw is None else wire.loads(raw)
    return brought


def _transformed(values: NodeValues) -> bool:
    """A transform replaces declared inputs, for this iteration only."""
    if values.claim.position == 0:
        return False
    source, kind, index = values.plan_node.incoming[values.claim.position - 1]
    return kind == "edge" and values.plan.nodes[source].edges[index].transform is not None


def _resolve(values: NodeValues, name: str) -> Any:
    nodes = values.plan.blueprint_nodes
    for field in input_fields(nodes, name):
        raw = values.claimed(field)
        if raw is not None:
            value = wire.loads(raw)
            return value if name in nodes or name.startswith("_") else walk(value, name.partition(".")[2])
    return None


def walk(value: Any, path: str) -> Any:
    """Follow a dotted path through objects and lists; None where it leads nowhere."""
    for part in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
