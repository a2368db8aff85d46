"""A blueprint's nodes and edges with their look-ups, for analysis, drawing and checks.

Besides the edges that are written there are implied ones: from a node to its fallback, and from a batch-scatter to its
batch-gather. Edges that lead to or from nowhere are left out.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from flowcraft_server.blueprints.compiling.loops import (
    LOOP_CONTROLLER,
    LoopForest,
    cycles_of,
    find_loops,
    find_outermost,
)
from flowcraft_server.blueprints.compiling.loops import Link as LoopLink
from flowcraft_server.blueprints.model import Blueprint, Edge, Node


@dataclass(slots=True, eq=False)
class Arc:  # not frozen: those take three times as long to make, and there is one for each edge
    """An edge between two nodes that exist.

    Attributes:
        index: its place among the blueprint's edges, -1 for an implied one.
        kind: `edge`, `fallback` or `batch`.
        source: id of the node it leads from.
        target: id of the node it leads to.
    """

    index: int
    kind: str
    edge: Edge
    source: str
    target: str

    @property
    def decides(self) -> bool:
        """Whether it is taken only sometimes, by what is written on it."""
        return self.kind != "edge" or self.edge.action is not None or self.edge.condition is not None


class Graph:
    """Look-ups over a blueprint.

    Attributes:
        nodes: by id; of two nodes with one id the first.
        outgoing: arcs by the id of their source.
        incoming: arcs by the id of their target.
        astray: places of the edges that lead from or to nowhere.
        by_action: nodes one of whose edges has an action.
        by_condition: nodes one of whose edges has a condition.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self.nodes: dict[str, Node] = {}
        for node in blueprint.nodes:
            self.nodes.setdefault(node.id, node)
        self.outgoing: dict[str, list[Arc]] = {node_id: [] for node_id in self.nodes}
        self.incoming: dict[str, list[Arc]] = {node_id: [] for node_id in self.nodes}
        self.astray: list[int] = []
        self.by_action: set[str] = set()
        self.by_condition: set[str] = set()
        for index, edge in enumerate(blueprint.edges):
            source, target = edge.source, edge.target
            into, out_of = self.incoming.get(target), self.outgoing.get(source)
            if into is None or out_of is None:
                self.astray.append(index)
                continue
            arc = Arc(index, "edge", edge, source, target)
            out_of.append(arc)
            into.append(arc)
            if edge.action is not None:
                self.by_action.add(source)
            if edge.condition is not None:
                self.by_condition.add(source)
        self._forest: LoopForest | None = None
        self._written_from: dict[str, list[Arc]] = {}
        self._written_to: dict[str, list[Arc]] = {}
        for node in self.nodes.values():
            fallback = node.config.fallback
            if fallback is not None and fallback in self.nodes:
                self._imply(Arc(-1, "fallback", Edge(node.id, fallback), node.id, fallback))
        for node in self.nodes.values():
            gather = gather_of(node)
            if gather is not None and gather in self.nodes:
                self._imply(Arc(-1, "batch", Edge(node.id, gather), node.id, gather))

    def _imply(self, arc: Arc) -> None:
        """Put in an arc that is not written, and keep apart what is."""
        outgoing, incoming = self.outgoing[arc.source], self.incoming[arc.target]
        self._written_from.setdefault(arc.source, outgoing.copy())
        self._written_to.setdefault(arc.target, incoming.copy())
        outgoing.append(arc)
        incoming.append(arc)

    def edges_from(self, node_id: str) -> list[Arc]:
        """The written edges that lead from a node."""
        return self._written_from.get(node_id, self.outgoing[node_id])

    def edges_to(self, node_id: str) -> list[Arc]:
        """The written edges that lead to a node."""
        return self._written_to.get(node_id, self.incoming[node_id])

    def chooses_by_action(self, node_id: str) -> bool:
        """Whether one of a node's edges has an action."""
        return node_id in self.by_action

    def loops(self, among: Container[str] | None = None, deepest: int | None = None) -> LoopForest:
        """Its loops, over all arcs or over those from and to these nodes that are no fallbacks; see `find_loops`."""
        if among is None and self._forest is not None:
            return self._forest
        forest = find_loops(self._uses(), self._links(among), self.blueprint.cycle_entry_points, deepest=deepest)
        if among is None and (deepest is None or all(len(chain) < deepest for chain in forest.chain.values())):
            self._forest = forest  # all there are
        return forest

    def _uses(self) -> dict[str, str]:
        return {node_id: node.uses for node_id, node in self.nodes.items()}

    def _links(self, among: Container[str] | None = None) -> list[LoopLink]:
        return [
            LoopLink(arc.source, arc.target, arc.decides, arc.kind != "edge")
            for arcs in self.incoming.values()
            for arc in arcs
            if among is None or (arc.kind != "fallback" and arc.source in among and arc.target in among)
        ]

    def components(self, arcs: Iterable[Arc] | None = None) -> list[list[str]]:
        """The strongly connected parts that hold a cycle, of all arcs or of these."""
        if arcs is None:
            return self._parts
        if not self._parts:
            return []
        in_cycles = {node_id for part in self._parts for node_id in part}
        return self._components(arc for arc in arcs if arc.source in in_cycles and arc.target in in_cycles)

    @cached_property
    def _parts(self) -> list[list[str]]:
        successors = {node_id: [arc.target for arc in arcs] for node_id, arcs in self.outgoing.items()}
        return cycles_of(list(self.nodes), successors)

    def _components(self, arcs: Iterable[Arc]) -> list[list[str]]:
        successors: dict[str, list[str]] = {}
        for arc in arcs:
            successors.setdefault(arc.source, []).append(arc.target)
        return cycles_of([node_id for node_id in self.nodes if node_id in successors], successors)

    def all_arcs(self) -> Iterable[Arc]:
        """All arcs, by source."""
        return (arc for arcs in self.outgoing.values() for arc in arcs)

    def starts(self) -> tuple[str, ...]:
        """Nodes that run first: those that nothing leads to, and one of each cycle that nothing leads into."""
        starts = [node_id for node_id in self.nodes if not self.incoming[node_id]]
        closing = self.blueprint.closing_nodes
        return tuple(node_id for node_id in (*starts, *self.unentered_cycles) if node_id not in closing)

    def closing_starts(self) -> tuple[str, ...]:
        """Nodes that a run closes with: compensations, and those of `finally` that nothing leads to."""
        firsts = (*(node_id for node_id in self.nodes if not self.incoming[node_id]), *self.unentered_cycles)
        return tuple(node_id for node_id in firsts if node_id in self.blueprint.closing_nodes)

    @cached_property
    def unentered_cycles(self) -> Mapping[str, list[str]]:
        """Cycles that nothing leads into: by the node where each begins, its nodes."""
        closed = [part for part in self.components() if self._is_closed(part)]
        if not closed:
            return {}
        if self._forest is not None:
            length = {node: len(part) for part in closed for node in part}
            loops = self._forest.loops.items()  # of these, one that lies in no other has all of its part as its cycle
            outermost = {header for header, loop in loops if length.get(header) == len(loop.cycle)}
        else:
            outermost = set(find_outermost(self._uses(), self._links(), self.blueprint.cycle_entry_points))
        return {next((node for node in part if node in outermost), part[0]): part for part in closed}

    def _is_closed(self, part: list[str]) -> bool:
        inside = set(part)
        return all(arc.source in inside for node in part for arc in self.incoming[node])

    def always_taken(self, arc: Arc) -> bool:
        """Whether an edge is taken whenever its source completes."""
        if arc.decides or self.nodes[arc.source].uses == LOOP_CONTROLLER:
            return False
        return not self.chooses_by_action(arc.source)

    def reached(self, starts: Iterable[str], arcs: Mapping[str, Sequence[Arc]] | None = None) -> set[str]:
        """Nodes that can be reached from these, themselves included, over all arcs or over these by source."""
        arcs = self.outgoing if arcs is None else arcs
        seen = set(starts)
        pending = list(seen)
        while pending:
            for arc in arcs.get(pending.pop(), ()):
                if arc.target not in seen:
                    seen.add(arc.target)
                    pending.append(arc.target)
        return seen


def gather_of(node: Node) -> str | None:
    """The id of the node that gathers a batch-scatter's results."""
    target = node.params.get("gatherNodeId") if node.uses == "batch-scatter" else None
    return target if isinstance(target, str) else None
