"""Where the nodes of a graph are drawn, and which way its edges take: layers from left to right.

The layers and the order in them come from `fast-sugiyama`. That library ends the process when it meets an edge that closes a
cycle, so it is given none: edges that lead back are turned round before, and their routes turned back after.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fast_sugiyama import from_edges

LAYER_DISTANCE = 250.0
"""From the centre of a layer to that of the next one, in pixels of the drawing."""

ROW_DISTANCE = 66.0
"""From the centre of a node to that of the next one in its layer."""

MARGIN = 40.0

_ROUTE_SPACE = 0.45
"""How much of a row an edge needs that passes a layer."""

Point = tuple[float, float]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """Places of nodes and ways of edges.

    Attributes:
        width: Width of the drawing.
        height: Height of the drawing.
        nodes: Centre of each node.
        routes: For each pair of source and target the points that the edge passes, both centres included; a node's edge to
            itself has one point.
        leads: For each edge that leaves a layer with an opened node how far it goes on level.
        frames: Width and height of each opened node; it reaches to the right and downwards.
        floors: For each edge that leads back the lower side of what it goes round.
    """

    width: float
    height: float
    nodes: Mapping[str, Point]
    routes: Mapping[Pair, tuple[Point, ...]]
    leads: Mapping[Pair, float] = field(default_factory=dict)
    frames: Mapping[str, Point] = field(default_factory=dict)
    floors: Mapping[Pair, float] = field(default_factory=dict)


def lay_out(nodes: Sequence[str], edges: Iterable[Pair], labels: Mapping[Pair, float] | None = None) -> Layout:
    """Lay a graph out.

    Args:
        nodes: The ids of its nodes; what stands first is drawn first where nothing else decides.
        edges: Source and target of each edge. Edges to or from an unknown node are left out, doubled ones drawn once.
        labels: Space that the label of an edge needs between its source and the next layer, beyond what is there.
    """
    numbers = {node_id: number for number, node_id in enumerate(nodes)}
    wanted = dict.fromkeys(pair for pair in edges if pair[0] in numbers and pair[1] in numbers)
    forward = _forward(len(nodes), [(numbers[source], numbers[target]) for source, target in wanted])
    places, passed, bottom = _places(len(nodes), forward)

    right = max((x for x, _ in places.values()), default=0.0)
    routes: dict[Pair, tuple[Point, ...]] = {}
    for source, target in wanted:
        start, end = numbers[source], numbers[target]
        if start == end:
            routes[source, target] = (places[start],)
        elif (start, end) in passed:
            routes[source, target] = passed[start, end]
        else:
            routes[source, target] = passed[end, start][::-1]
    shift = _Spread(places, numbers, labels or {})
    return Layout(
        width=shift.of(right) + LAYER_DISTANCE / 2 + MARGIN + 60,
        height=bottom + ROW_DISTANCE / 2 + MARGIN,
        nodes={node_id: shift.moved(places[number]) for node_id, number in numbers.items()},
        routes={pair: tuple(shift.moved(point) for point in points) for pair, points in routes.items()},
    )


class _Spread:
    """Moves layers apart where the labels of edges need more space between them.

    Args:
        places: Centres of the nodes by number.
        numbers: The nodes.
        labels: Space by edge.
    """

    def __init__(self, places: Mapping[int, Point], numbers: Mapping[str, int], labels: Mapping[Pair, float]) -> None:
        between: dict[int, float] = defaultdict(float)
        for (source, target), space in labels.items():
            if source in numbers and target in numbers:
                first, last = (_layer(places[numbers[node_id]][0]) for node_id in (source, target))
                if last > first:  # the label of an edge that leads back stands below all
                    between[first] = max(between[first], space)
        self._before = [0.0]
        for layer in range(max(between, default=-1) + 1):
            self._before.append(self._before[-1] + between[layer])

    def of(self, x: float) -> float:
        """Where a layer is moved to."""
        return x + self._before[min(_layer(x), len(self._before) - 1)]

    def moved(self, point: Point) -> Point:
        """Where a point is moved to."""
        return self.of(point[0]), point[1]


def _layer(x: float) -> int:
    return max(0, round((x - MARGIN - LAYER_DISTANCE / 2) / LAYER_DISTANCE))


def _forward(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The edges without any to itself, those that lead back turned round, each once: a graph without cycles.

    An edge leads back if it closes a cycle in a depth-first search that begins at the nodes in their order.
    """
    outgoing: dict[int, list[int]] = defaultdict(list)
    reached = set()
    for source, target in edges:
        if source != target:
            outgoing[source].append(target)
            reached.add(target)
    turned: dict[tuple[int, int], None] = {}
    state = [0] * count  # 0 unseen, 1 on the path, 2 done
    for first in [*(number for number in range(count) if number not in reached), *range(count)]:
        if state[first]:
            continue
        state[first] = 1
        path = [(first, iter(outgoing[first]))]
        while path:
            node, targets = path[-1]
            target = next(targets, -1)
            if target < 0:
                state[node] = 2
                path.pop()
            elif state[target] == 1:
                turned[target, node] = None
            else:
                turned[node, target] = None
                if not state[target]:
                    state[target] = 1
                    path.append((target, iter(outgoing[target])))
    return list(turned)


def _places(
    count: int, edges: Sequence[tuple[int, int]]
) -> tuple[dict[int, Point], dict[tuple[int, int], tuple[Point, ...]], float]:
    """Centres of nodes, points of edges, and the lowest centre. Parts that nothing connects stand below each other."""
    places: dict[int, Point] = {}
    passed: dict[tuple[int, int], tuple[Point, ...]] = {}
    left, top = MARGIN + LAYER_DISTANCE / 2, MARGIN + ROW_DISTANCE / 2
    bottom = top
    for part, links in _parts(count, edges):
        # The library's numbers for what it inserts begin above the highest of an edge, and mix with those of other parts.
        place_of = {number: place for place, number in enumerate(part)}
        ((found, _, highest, chains),) = _library_layout(
            [(place_of[source], place_of[target]) for source, target in links],
        )
        lowest = min(across for _, (across, _) in found)
        centres = {
            place: (left + (highest - along) * LAYER_DISTANCE, top + (across - lowest) * ROW_DISTANCE)
            for place, (across, along) in found
        }
        places.update({number: centres[place] for place, number in enumerate(part)})
        for (source, target), points in _routes(len(part), chains, centres).items():
            passed[part[source], part[target]] = points
        bottom = max(y for _, y in centres.values())
        top = bottom + ROW_DISTANCE
    for number in range(count):
        if number not in places:
            places[number] = (left, top)
            bottom, top = top, top + ROW_DISTANCE
    return places, passed, bottom


def _library_layout(edges: list[tuple[int, int]]) -> Any:
    """Places, width, height and edges in pieces, by `fast-sugiyama`, whose types allow for names as well as numbers."""
    return from_edges(edges, vertex_spacing=1, dummy_vertices=True, dummy_size=_ROUTE_SPACE, check_layout=False)


def _parts(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """The parts of the graph that edges connect, each with its nodes and edges; nodes without edges are in none."""
    leader = list(range(count))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    for source, target in edges:
        first, second = sorted((find(source), find(target)))
        leader[second] = first
    parts: dict[int, tuple[set[int], list[tuple[int, int]]]] = {}
    for source, target in edges:
        nodes, links = parts.setdefault(find(source), (set(), []))
        nodes.update((source, target))
        links.append((source, target))
    return [(sorted(nodes), links) for _, (nodes, links) in sorted(parts.items())]


def _routes(
    count: int, links: Iterable[tuple[int, int]], centres: Mapping[int, Point]
) -> dict[tuple[int, int], tuple[Point, ...]]:
    """The points of each edge: the library splits one that passes layers into a chain over numbers that stand for no node."""
    after: dict[int, int] = {}
    begins: list[tuple[int, int]] = []
    for source, target in links:
        if source < count:
            begins.append((source, target))
        else:
            after[source] = target
    routes = {}
    for source, target in begins:
        points = [centres[source], centres[target]]
        while target >= count:
            target = after[target]
            points.append(centres[target])
        routes[source, target] = tuple(points)
    return routes
