"""What a node gets as its input (blueprint semantics 2.5, 2.6)."""

from collections.abc import Mapping
from typing import Any

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.paths import beginnings, walk
from flowcraft_sdk.protocol.sources import Source, is_expression, keys_of, value_of
from flowcraft_server.blueprints.compiling.compiler import OUTCOME
from flowcraft_server.blueprints.compiling.input_fields import input_fields, input_places
from flowcraft_server.blueprints.compiling.plan import Plan, PlanNode
from flowcraft_server.engine.values import CATCH_ERROR, MISSING, NodeValues, edge_values, input_sources

_INPUTS = "_inputs."


def resolve_input(values: NodeValues) -> Any:
    """The node's input: an item of its batch, a transformed value, its declared `inputs`, or what the taken edge brought."""
    claim, plan_node = values.claim, values.plan_node
    brought = None if claim.input_value is None else wire.loads(claim.input_value)
    if claim.item is not None:
        return brought
    declared = plan_node.node.inputs
    if declared is not None and not _transformed(values):
        if isinstance(declared, str):
            return _value(values, declared)
        return {name: _value(values, source) for name, source in declared.items()}
    if claim.input_value is None:
        raw = values.claimed(OUTCOME if plan_node.closing and not plan_node.incoming else f"c:_inputs.{claim.node_id}")
        return None if raw is None else wire.loads(raw)
    return brought


def context_inputs(values: NodeValues) -> list[str]:
    """The inputs of other nodes (`_inputs.ID`) that a node's `inputs` name: the claim does not bring what they are made of."""
    declared = values.plan_node.node.inputs
    if declared is None or values.claim.item is not None:
        return []
    sources = [declared] if isinstance(declared, str) else list(declared.values())
    named = (name for source in sources for name in keys_of(source) if name.startswith(_INPUTS))
    keys = (key for name in named for key in beginnings(name))
    return [key for key in keys if key.removeprefix(_INPUTS) in values.plan.nodes]


def stands_in_for(values: NodeValues) -> PlanNode | None:
    """The node whose input a fallback is to have although it was not stored: that of a node whose workers died."""
    claim = values.claim
    if claim.input_edge == 0 or claim.input_value is not None:
        return None
    source, kind, _ = values.plan_node.incoming[claim.input_edge - 1]
    return values.plan.nodes[source] if kind == "fallback" else None


def input_reads(plan: Plan, node: PlanNode) -> list[str]:
    """Run-hash fields that decide another node's input."""
    brought = [field for fields in input_sources(plan, node) for field in fields]
    return list(dict.fromkeys([f"j:{node.node.id}", *node.reads, *brought]))


def input_of(values: NodeValues, node: PlanNode, fields: Mapping[str, bytes | None]) -> Any:
    """The input that another node of the run has been given.

    Args:
        fields: value of each of `input_reads`.
    """
    brought = list(edge_values(values.plan, node, fields))
    if node.node.inputs is not None:  # see input_edge_of in claim.lua
        brought = [found for found in brought if _is_transform(values.plan, node, found[0])]
    position, raw = brought[0] if brought else (0, None)
    claim = values.claim._replace(
        instance_id=node.node.id, node_id=node.node.id, item=None, attached=None, input_edge=position, input_value=raw,
        values=tuple(fields.get(field) for field in node.reads),
    )  # fmt: skip
    return resolve_input(NodeValues(values.plan, node, claim))


def _transformed(values: NodeValues) -> bool:
    """A transform replaces declared inputs, for this iteration only."""
    position = values.claim.input_edge
    return position > 0 and _is_transform(values.plan, values.plan_node, position)


def _is_transform(plan: Plan, node: PlanNode, position: int) -> bool:
    source, kind, index = node.incoming[position - 1]
    return kind == "edge" and plan.nodes[source].edges[index].transform is not None


def _value(values: NodeValues, source: Source) -> Any:
    if isinstance(source, str) and not is_expression(source):
        return resolve_key(values, source)
    return value_of(source, lambda key: resolve_key(values, key))


def fields_of_key(values: NodeValues, name: str) -> list[str]:
    """Run-hash fields that decide what a path or a key stands for, to be read before `resolve_key` is asked."""
    if name.startswith(_INPUTS) and name.removeprefix(_INPUTS) in values.plan.nodes:
        return list(values.fields(name))
    return input_fields(values.plan.blueprint_nodes, name)


def resolve_key(values: NodeValues, name: str) -> Any:
    """What a path, or a key that an expression reads, stands for among the values that were claimed; None for nothing."""
    nodes = values.plan.blueprint_nodes
    key, _, rest = name.partition(".")
    if key == CATCH_ERROR and values.plan_node.fallback_of:
        caught = values.own(key)
        return walk(None if caught is MISSING else caught, rest)
    if name.startswith(_INPUTS):
        for key in beginnings(name):
            if key.removeprefix(_INPUTS) in values.plan.nodes:
                found = values.known(key)
                return walk(None if found is MISSING else found, name[len(key) + 1 :])
    for field, rest in input_places(nodes, name):
        raw = values.claimed(field)
        if raw is not None:
            return walk(wire.loads(raw), rest)
    return None
