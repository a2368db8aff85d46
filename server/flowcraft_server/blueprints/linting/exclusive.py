"""Which edges can never both be taken, since one node chooses between them.

Works on dominators: the last node that every way to both edges passes through. When the ways part there by different
actions (or by different conditions), only one of the two edges is taken each time.
"""

from flowcraft_server.blueprints.graph import Arc, Graph

Label = tuple[str | None, str | None]
"""An action and a condition; the action of an edge without one, beside edges with one, is `*`."""

_ROOT = 0


class Choices:
    """Answers questions about pairs of edges of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._number: dict[object, int] = {None: _ROOT}
        self._label: dict[int, tuple[str, Label]] = {}
        self._successors: list[list[int]] = [[]]
        for node_id in graph.nodes:
            self._vertex(node_id)
        for start in graph.starts():
            self._successors[_ROOT].append(self._number[start])
        for arc in graph.all_arcs():
            via = self._via(arc)
            self._successors[via].append(self._number[arc.target])
        self._parent, self._depth = self._dominators()

    def between(self, one: Arc, other: Arc) -> tuple[str, Label, Label] | None:
        """The node that chooses between two edges and the labels of its two ways, None if both may be taken."""
        a, b = self._via(one), self._via(other)
        below_a = below_b = -1
        while a != b:
            if self._depth.get(a, 0) >= self._depth.get(b, 0):
                below_a, a = a, self._parent.get(a, _ROOT)
            else:
                below_b, b = b, self._parent.get(b, _ROOT)
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

    def _dominators(self) -> tuple[dict[int, int], dict[int, int]]:
        """Each vertex's immediate dominator and its depth (Cooper, Harvey and Kennedy's algorithm)."""
        order = self._postorder()
        rank = {vertex: index for index, vertex in enumerate(order)}
        predecessors: dict[int, list[int]] = {vertex: [] for vertex in order}
        for vertex in order:
            for successor in self._successors[vertex]:
                predecessors[successor].append(vertex)
        parent = {_ROOT: _ROOT}
        changed = True
        while changed:
            changed = False
            for vertex in reversed(order[:-1]):
                known = [p for p in predecessors[vertex] if p in parent]
                found = known[0]
                for other in known[1:]:
                    found = _common(found, other, parent, rank)
                if parent.get(vertex) != found:
                    parent[vertex] = found
                    changed = True
        depth = {_ROOT: 0}
        for vertex in reversed(order[:-1]):
            depth[vertex] = depth[parent[vertex]] + 1
        return parent, depth

    def _postorder(self) -> list[int]:
        order: list[int] = []
        seen = {_ROOT}
        pending = [(_ROOT, iter(self._successors[_ROOT]))]
        while pending:
            vertex, rest = pending[-1]
            following = next((item for item in rest if item not in seen), None)
            if following is None:
                order.append(vertex)
                pending.pop()
            else:
                seen.add(following)
                pending.append((following, iter(self._successors[following])))
        return order


def _common(a: int, b: int, parent: dict[int, int], rank: dict[int, int]) -> int:
    while a != b:
        while rank[a] < rank[b]:
            a = parent[a]
        while rank[b] < rank[a]:
            b = parent[b]
    return a
