"""What is known of a blueprint's shape without running it."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flowcraft_server.blueprints.graph import Graph
from flowcraft_server.blueprints.model import Blueprint


@dataclass(frozen=True, slots=True)
class Analysis:
    """The shape of a blueprint.

    Attributes:
        start_nodes: nodes that run first. A fallback is none; of a cycle that nothing leads into one node is.
        terminal_nodes: nodes that no edge leads from. A fallback is none: what it stands in for goes on.
        cycles: one cycle of each part of the graph that goes round, first node first.
        is_dag: whether there is no cycle.
    """

    start_nodes: tuple[str, ...]
    terminal_nodes: tuple[str, ...]
    cycles: tuple[tuple[str, ...], ...]
    node_count: int
    edge_count: int
    is_dag: bool

    def to_plain(self) -> dict[str, Any]:
        """As JSON values, in the words of the original."""
        return {
            "startNodeIds": list(self.start_nodes),
            "terminalNodeIds": list(self.terminal_nodes),
            "cycles": [list(cycle) for cycle in self.cycles],
            "nodeCount": self.node_count,
            "edgeCount": self.edge_count,
            "isDag": self.is_dag,
        }


def analyze(blueprint: Blueprint) -> Analysis:
    """The shape of a blueprint; edges that lead to or from nowhere do not count."""
    graph = Graph(blueprint)
    cycles = tuple(shortest_cycle(graph, part) for part in graph.components())
    return Analysis(
        start_nodes=graph.starts(),
        terminal_nodes=tuple(node_id for node_id in graph.nodes if is_terminal(graph, node_id)),
        cycles=cycles,
        node_count=len(blueprint.nodes),
        edge_count=len(blueprint.edges),
        is_dag=not cycles,
    )


def is_terminal(graph: Graph, node_id: str) -> bool:
    """Whether a run ends with this node."""
    if node_id in graph.blueprint.closing_nodes:
        return False  # nothing of the run itself
    follows = any(arc.kind != "fallback" for arc in graph.outgoing[node_id])
    stands_in = any(arc.kind == "fallback" for arc in graph.incoming[node_id])
    return not follows and not stands_in


def shortest_cycle(graph: Graph, part: Iterable[str]) -> tuple[str, ...]:
    """The shortest way from the first of these nodes back to it, within them."""
    members = list(part)
    inside, first = set(members), members[0]
    came_from: dict[str, str] = {}
    pending = deque([first])
    while pending:
        node = pending.popleft()
        for arc in graph.outgoing[node]:
            if arc.target == first:
                return _way(came_from, first, node)
            if arc.target in inside and arc.target not in came_from:
                came_from[arc.target] = node
                pending.append(arc.target)
    return (first,)


def _way(came_from: dict[str, str], first: str, last: str) -> tuple[str, ...]:
    way = [last]
    while way[-1] != first:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))
