"""The compiled form of a blueprint: what a worker knows of it, and what the scripts read from Redis."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flowcraft_sdk.protocol.expressions import Expression
from flowcraft_server.blueprints.model import Blueprint, Node


@dataclass(frozen=True, slots=True)
class PlanEdge:
    """An outgoing edge with its expressions parsed. `index` is its place among the source's edges."""

    index: int
    source: str
    target: str
    action: str | None
    condition: Expression | None
    transform: Expression | None


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node as a worker runs it.

    Attributes:
        node: the blueprint's node.
        edges: outgoing edges in plan order; decisions are sent in this order.
        reads: run-hash fields that a claim returns, in order.
        incoming: for each incoming edge, in position order, (source, kind, index); kind is edge, fallback, batch or compensation,
            index the edge's place among the source's edges.
        context_keys: keys of the context that its inputs and expressions read.
        whole_context: an expression reads the context as a whole.
        condition: a loop-controller's condition.
        loops: headers of the loops around it, outermost first.
        fallback_of: nodes whose fallback it is.
        gathers: the scatter node whose results it gathers.
        transform_sources: by edge index, the node whose output an edge's transform is given in place of this node's.
        closing: it runs when nothing else of the run does: a compensation, or a node of `finally`.
        always: the decisions for its edges, where they do not depend on the outcome; None where they do.
        successor: what a completion sends about the only node that follows, see `sole_successor`.
        direct_handoff: exactly one node follows, and it waits for nothing else.
    """

    node: Node
    edges: tuple[PlanEdge, ...]
    reads: tuple[str, ...]
    incoming: tuple[tuple[str, str, int], ...]
    context_keys: tuple[str, ...]
    whole_context: bool
    condition: Expression | None
    loops: tuple[str, ...]
    fallback_of: tuple[str, ...]
    gathers: str | None
    transform_sources: Mapping[int, str]
    terminal: bool
    closing: bool = False
    always: str | None = None
    successor: tuple[str | int, ...] = ("",)
    direct_handoff: bool = False


class LazyNodes(Mapping[str, PlanNode]):
    """The nodes of a plan, each made when it is asked for: publishing a plan, or running a few of its nodes, needs no others.

    Args:
        names: their ids, in the order of the blueprint.
        make: makes one; called once for each, or more often if threads ask at the same time.
    """

    def __init__(self, names: Collection[str], make: Callable[[str], PlanNode]) -> None:
        self._names = names
        self._make = make
        self._made: dict[str, PlanNode] = {}

    def __getitem__(self, node_id: str) -> PlanNode:
        node = self._made.get(node_id)
        if node is None:
            if node_id not in self._names:
                raise KeyError(node_id)
            node = self._made[node_id] = self._make(node_id)
        return node

    def get(self, node_id: str, default: Any = None) -> Any:
        """A node, or the default. Not the mix-in's, which is slow: a worker asks for each node that it runs."""
        return self._made.get(node_id) or super().get(node_id, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._names


@dataclass(frozen=True)
class Plan:
    """A compiled blueprint.

    Attributes:
        hash: content hash; runs are pinned to it.
        fields: the hash stored in Redis under `plan:<hash>`: `doc`, `meta`, `n:<node>`, `l:<loop>`.
    """

    hash: str
    blueprint: Blueprint
    nodes: Mapping[str, PlanNode]
    starts: tuple[str, ...]
    terminals: tuple[str, ...]
    fields: Mapping[str, str]

    @cached_property
    def blueprint_nodes(self) -> Mapping[str, Node]:
        """The blueprint's nodes by id."""
        return {node.id: node for node in self.blueprint.nodes}

    def value_fields(self, key: str) -> tuple[str, ...]:
        """Run-hash fields that may hold the context key, the first present one counts. `_inputs.*` is not among them."""
        return value_fields(self.nodes, key)


def value_fields(nodes: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """See `Plan.value_fields`."""
    # What is no node of the plan may be a dynamic one.
    node = key.removeprefix("_outputs.")
    return (f"c:{key}",) if key.startswith("_") and key not in nodes and node == key else (f"c:{key}", f"o:{node}")
