"""Which nodes and edges of blueprints the runs of tests went through."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.compiling.plan import PlanEdge
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.engine.attempt import Attempt


@dataclass(frozen=True, slots=True)
class BlueprintCoverage:
    """What was gone through of one blueprint.

    Attributes:
        nodes, edges: how many it has.
        nodes_missed, edges_missed: those that no test went through, as they are shown.
    """

    blueprint_id: str
    nodes: int
    edges: int
    nodes_missed: tuple[str, ...]
    edges_missed: tuple[str, ...]


class Coverage:
    """Collects nodes that ran and edges that were taken. Workers call `routed` from their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: set[tuple[str, str]] = set()
        self._edges: set[tuple[str, str, int]] = set()

    def routed(self, attempt: Attempt, decisions: str) -> None:
        """Take note of a node that completed, and of the edges that its completion takes."""
        blueprint_id, node_id = attempt.claim.blueprint_id, attempt.claim.node_id
        taken = [
            (blueprint_id, node_id, edge.index)
            for edge, decision in zip(attempt.node.edges, decisions, strict=False)
            if decision == "t"
        ]
        with self._lock:
            self._nodes.add((blueprint_id, node_id))
            self._edges.update(taken)

    def ran(self, blueprint_id: str, nodes: Iterable[str]) -> None:
        """Take note of nodes that ran, completed or not."""
        with self._lock:
            self._nodes.update((blueprint_id, node) for node in nodes)

    def of(self, blueprints: Iterable[Blueprint]) -> Iterator[BlueprintCoverage]:
        """What was gone through of each of these blueprints."""
        for blueprint in blueprints:
            edges = [edge for node in compile_blueprint(blueprint).nodes.values() for edge in node.edges]
            with self._lock:
                nodes_missed = [node.id for node in blueprint.nodes if (blueprint.id, node.id) not in self._nodes]
                edges_missed = [
                    _shown(edge) for edge in edges if (blueprint.id, edge.source, edge.index) not in self._edges
                ]
            yield BlueprintCoverage(
                blueprint.id, len(blueprint.nodes), len(edges), tuple(nodes_missed), tuple(edges_missed)
            )


def _shown(edge: PlanEdge) -> str:
    arrow = "->" if edge.action is None else f"-[{edge.action}]->"
    when = "" if edge.condition is None else f" if {edge.condition.source}"
    return f"{edge.source} {arrow} {edge.target}{when}"
