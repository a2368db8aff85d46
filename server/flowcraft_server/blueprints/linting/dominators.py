"""Dominators of a graph: of each vertex, the last one that every way to it passes through. Takes n log n time."""

from collections.abc import Sequence

ROOT = 0


def immediate_dominators(successors: Sequence[Sequence[int]]) -> list[int]:
    """The immediate dominator of each vertex, by Lengauer's and Tarjan's algorithm with path compression.

    Args:
        successors: of each vertex; the ways begin at `ROOT`.

    Returns:
        One for each vertex; `ROOT` for those that no way leads to, and for itself.
    """
    vertices, above, before = _walked(successors)
    semi = list(range(len(vertices)))
    best = list(range(len(vertices)))
    linked = [-1] * len(vertices)
    waiting: list[list[int]] = [[] for _ in vertices]
    found = [0] * len(vertices)

    def lowest(vertex: int) -> int:
        """The vertex with the least semidominator on the way up to the root of its tree, as far as it is linked."""
        if linked[vertex] < 0:
            return vertex
        way = [vertex]
        while linked[linked[way[-1]]] >= 0:
            way.append(linked[way[-1]])
        for each in reversed(way[:-1]):
            upper = linked[each]
            if semi[best[upper]] < semi[best[each]]:
                best[each] = best[upper]
            linked[each] = linked[upper]
        return best[vertex]

    for vertex in range(len(vertices) - 1, 0, -1):
        semi[vertex] = min(semi[vertex], *(semi[lowest(source)] for source in before[vertex]))
        waiting[semi[vertex]].append(vertex)
        linked[vertex] = upper = above[vertex]
        for other in waiting[upper]:
            low = lowest(other)
            found[other] = low if semi[low] < upper else upper
        waiting[upper] = []
    result = [ROOT] * len(successors)
    for vertex in range(1, len(vertices)):
        if found[vertex] != semi[vertex]:
            found[vertex] = found[found[vertex]]
        result[vertices[vertex]] = vertices[found[vertex]]
    return result


def _walked(successors: Sequence[Sequence[int]]) -> tuple[list[int], list[int], list[list[int]]]:
    """The vertices in the order of a depth-first walk; by their places in it, those that they were found from, and all before."""
    place = {ROOT: 0}
    vertices, above = [ROOT], [-1]
    pending = [(ROOT, iter(successors[ROOT]))]
    while pending:
        vertex, rest = pending[-1]
        following = next((each for each in rest if each not in place), None)
        if following is None:
            pending.pop()
        else:
            place[following] = len(vertices)
            vertices.append(following)
            above.append(place[vertex])
            pending.append((following, iter(successors[following])))
    before: list[list[int]] = [[] for _ in vertices]
    for number, vertex in enumerate(vertices):
        for target in successors[vertex]:
            before[place[target]].append(number)
    return vertices, above, before


class Tree:
    """A rooted tree that says where the ways up from two of its vertices meet, in log n steps.

    Args:
        parents: of each vertex; that of `ROOT` is itself.
    """

    def __init__(self, parents: Sequence[int]) -> None:
        self._parents = parents
        children: list[list[int]] = [[] for _ in parents]
        for vertex, parent in enumerate(parents):
            if vertex != ROOT:
                children[parent].append(vertex)
        order = [ROOT]
        self._depth = [0] * len(parents)
        for vertex in order:  # which grows
            for child in children[vertex]:
                self._depth[child] = self._depth[vertex] + 1
            order += children[vertex]
        # Each vertex goes on with its largest child: the way up from any vertex changes between such paths log n times at most.
        sizes = [1] * len(parents)
        for vertex in reversed(order[1:]):
            sizes[parents[vertex]] += sizes[vertex]
        self._largest = [max(own, key=sizes.__getitem__, default=ROOT) for own in children]
        self._head = list(range(len(parents)))
        for vertex in order:
            if children[vertex]:
                self._head[self._largest[vertex]] = self._head[vertex]

    def below_meeting(self, one: int, other: int) -> tuple[int, int]:
        """The vertices on the two ways up that come right before they meet; -1 where a way begins at the meeting."""
        below_one = below_other = -1
        head, depth = self._head, self._depth
        while head[one] != head[other]:
            if depth[head[one]] >= depth[head[other]]:
                below_one = head[one]
                one = self._parents[below_one]
            else:
                below_other = head[other]
                other = self._parents[below_other]
        if depth[one] > depth[other]:
            below_one = self._largest[other]
        elif depth[other] > depth[one]:
            below_other = self._largest[one]
        return below_one, below_other
