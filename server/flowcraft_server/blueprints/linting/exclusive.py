"""Which edges can never both be taken, since one node chooses between them.

Works on dominators: the last node that every way to both edges passes through. When the ways part there by different
actions (or by different conditions), only one of the two edges is taken each time.
"""

from flowcraft_server.blueprints.graph import Arc, Graph
from flowcraft_server.blueprints.linting.dominators import ROOT, Tree, immediate_dominators

Label = tuple[str | None, str | None]
"""An action and a condition; the action of an edge without one, beside edges with one, is `*`."""


class Choices:
    """Answers questions about pairs of edges of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._any = bool(graph.by_action or graph.by_condition)
        if not self._any:
            return
        self._number: dict[object, int] = {None: ROOT}
        self._label: dict[int, tuple[str, Label]] = {}
        self._successors: list[list[int]] = [[]]
        for node_id in graph.nodes:
            self._vertex(node_id)
        for start in (*graph.starts(), *graph.closing_starts()):
            self._successors[ROOT].append(self._number[start])
        for arc in graph.all_arcs():
            via = self._via(arc)
            self._successors[via].append(self._number[arc.target])
        self._dominators = Tree(immediate_dominators(self._successors))

    def between(self, one: Arc, other: Arc) -> tuple[str, Label, Label] | None:
        """The node that chooses between two edges and the labels of its two ways, None if both may be taken."""
        if not self._any:
            return None
        below_a, below_b = self._dominators.below_meeting(self._via(one), self._via(other))
        if below_a not in self._label or below_b not in self._label:
            return None
        (node, first), (_, second) = self._label[below_a], self._label[below_b]
        parted = first[0] != second[0] or (first[1] is not None and second[1] is not None and first[1] != second[1])
        return (node, first, second) if parted else None

    def _vertex(self, key: object) -> int:
        if key not in self._number:
            self._number[key] = len(self._successors)
            self._successors.append([])
        return self._number[key]

    def _via(self, arc: Arc) -> int:
        """The vertex of the choice that an edge belongs to, or of its source if it is always taken."""
        label = self._labelled(arc)
        if label is None:
            return self._number[arc.source]
        key = (arc.source, label)
        if key not in self._number:
            choice = self._vertex(key)
            self._label[choice] = (arc.source, label)
            self._successors[self._number[arc.source]].append(choice)
        return self._number[key]

    def _labelled(self, arc: Arc) -> Label | None:
        if arc.kind != "edge":
            return None
        by_action = self.graph.chooses_by_action(arc.source)
        if not by_action and arc.edge.condition is None:
            return None
        return (arc.edge.action or "*") if by_action else None, arc.edge.condition
