"""Whether a way leads from one node to another, for many pairs of a large graph."""

from collections.abc import Iterable, Mapping, Sequence, Set

from flowcraft_server.blueprints.compiling.loops import strongly_connected

MOST_STEPS = 5_000_000
_LEAST_STEPS, _STEPS_A_NODE = 200_000, 500


def most_steps(nodes: int) -> int:
    """Steps of all searches in a graph, by its nodes; what would take more is skipped, so that no false finding is reported."""
    return min(MOST_STEPS, _LEAST_STEPS + _STEPS_A_NODE * nodes)


class Ways:
    """Answers whether a way of one edge at least leads from one node to another.

    Most answers come from two numberings, without a search: a node is reached from those above it in a tree of ways, and from
    none that comes behind it in an order along the edges. Cycles count as one vertex in both.

    Args:
        nodes: all of them.
        before: for each node, those that an edge leads to it from.
    """

    def __init__(self, nodes: Sequence[str], before: Mapping[str, Set[str]]) -> None:
        self._before = before
        self._left = most_steps(len(nodes))
        successors: dict[str, list[str]] = {node: [] for node in nodes}
        for node in nodes:
            for source in before[node]:
                successors[source].append(node)
        self._successors = successors
        # Tarjan's parts come with what they lead to before them: the rank falls along the edges.
        parts = strongly_connected(nodes, successors)
        self._rank = {node: rank for rank, part in enumerate(parts) for node in part}
        self._goes_round = {part[0] for part in parts if len(part) == 1 and part[0] in before[part[0]]} | {
            node for part in parts if len(part) > 1 for node in part
        }
        self._number(parts, successors)

    def _number(self, parts: list[list[str]], successors: Mapping[str, Sequence[str]]) -> None:
        """Number the parts by a depth-first walk: a part's span holds those of all that were found below it."""
        self._from: dict[int, int] = {}
        self._to: dict[int, int] = {}
        for root in reversed(range(len(parts))):
            if root in self._from:
                continue
            self._from[root] = len(self._from)
            pending = [(root, iter([target for node in parts[root] for target in successors[node]]))]
            while pending:
                part, targets = pending[-1]
                found = next((self._rank[target] for target in targets if self._rank[target] not in self._from), None)
                if found is None:
                    self._to[part] = len(self._from)
                    pending.pop()
                else:
                    self._from[found] = len(self._from)
                    pending.append((found, iter([target for node in parts[found] for target in successors[node]])))

    def __len__(self) -> int:
        return len(self._rank)

    def lead(self, source: str, target: str) -> bool:
        """Whether a way leads from one node to another; from a node to itself only around a cycle."""
        self._left -= 1
        if self._left <= 0:
            return True
        above, below = self._rank[source], self._rank[target]
        if above == below:
            return source in self._goes_round
        if above < below:
            return False
        if self._from[above] <= self._from[below] < self._to[above]:
            return True
        return self._search(source, target, above)

    def behind(self, sources: Iterable[str]) -> set[str] | None:
        """The nodes that a way leads to from any of these; None if there are too many ways to look at."""
        seen: set[str] = set()
        pending = list(sources)
        while pending and self._left > 0:
            targets = self._successors[pending.pop()]
            self._left -= 1 + len(targets)
            fresh = [target for target in targets if target not in seen]
            seen.update(fresh)
            pending += fresh
        return seen if self._left > 0 else None

    def _search(self, source: str, target: str, above: int) -> bool:
        seen = {target}
        pending = [target]
        while pending:
            if self._left <= 0:
                return True
            for earlier in self._before[pending.pop()]:
                self._left -= 1
                rank = self._rank[earlier]
                if earlier == source or self._from[above] <= self._from[rank] < self._to[above]:
                    return True
                if rank < above and earlier not in seen:
                    seen.add(earlier)
                    pending.append(earlier)
        return False
