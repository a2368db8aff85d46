"""Room in a layout for nodes that are opened in place. Pure.

A node that is opened grows to the right and downwards from its upper left corner. What stands in its layer below it moves
down, what stands in later layers moves to the right, and everything else stays where it is.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from .layout import Layout, Pair, Point

Size = tuple[float, float]


def make_room(layout: Layout, frames: Mapping[str, Size], node: Size) -> Layout:
    """A layout with room for opened nodes.

    Args:
        layout: The layout without them.
        frames: Width and height of each node that is opened.
        node: Width and height of every other one.
    """
    if not frames:
        return layout
    room = _Room(layout, frames, node)
    nodes = {node_id: room.moved(point) for node_id, point in layout.nodes.items()}
    routes = {pair: room.route(points) for pair, points in layout.routes.items()}
    lowest = max(room.bottom(node_id, at) for node_id, at in nodes.items())
    lowest = max(lowest, max((y + node[1] / 2 for points in routes.values() for _, y in points), default=0.0))
    below = layout.height - max(y for points in (layout.nodes.values(), *layout.routes.values()) for _, y in points)
    return Layout(
        width=layout.width + room.added,
        height=lowest - node[1] / 2 + below,
        nodes=nodes,
        routes=routes,
        leads={pair: lead for pair, points in layout.routes.items() if (lead := room.lead(points[0]))},
        frames=dict(frames),
        floors={
            pair: room.floor(pair, nodes) for pair, points in layout.routes.items() if points[-1][0] <= points[0][0]
        },
    )


def without_margins(layout: Layout, node: Size) -> tuple[Point, Size]:
    """Where what is drawn begins in a layout, and how wide and high it is."""
    boxes = [
        (x - node[0] / 2, y - node[1] / 2, *layout.frames.get(node_id, node))
        for node_id, (x, y) in layout.nodes.items()
    ]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    if any(points[-1][0] <= points[0][0] for points in layout.routes.values()):
        bottom = layout.height - 12  # edges that lead back pass below all nodes
    return (left, top), (right - left, bottom - top)


class _Room:
    def __init__(self, layout: Layout, frames: Mapping[str, Size], node: Size) -> None:
        self._node, self._frames = node, frames
        self._columns = sorted({_place(x) for x, _ in _points(layout)})
        self._wider = [0.0] * len(self._columns)
        self._taller: list[list[Point]] = [[] for _ in self._columns]
        for node_id, (width, height) in frames.items():
            x, y = layout.nodes[node_id]
            column = self._column(x)
            self._wider[column] = max(self._wider[column], width - node[0])
            self._taller[column].append((y, height - node[1]))
        self._before = [sum(self._wider[:column]) for column in range(len(self._columns))]
        self.added = sum(self._wider)

    def _column(self, x: float) -> int:
        return bisect_left(self._columns, _place(x))

    def moved(self, point: Point) -> Point:
        """Where a point is moved to."""
        column = self._column(point[0])
        down = sum(more for y, more in self._taller[column] if y < point[1])
        return point[0] + self._before[column], point[1] + down

    def lead(self, point: Point) -> float:
        """How far an edge goes on level from a node, until it has left the node's layer."""
        return self._wider[self._column(point[0])]

    def route(self, points: tuple[Point, ...]) -> tuple[Point, ...]:
        """The points of an edge: it goes level through a layer in which there is an opened node."""
        way = [self.moved(points[0])]
        for point in points[1:-1]:
            x, y = self.moved(point)
            wider = self.lead(point)
            half = self._node[0] / 2
            way += [(x - half, y), (x + half + wider, y)] if wider else [(x, y)]
        return (*way, self.moved(points[-1])) if len(points) > 1 else tuple(way)

    def bottom(self, node_id: str, at: Point) -> float:
        """The lower side of a node whose place is known."""
        return at[1] - self._node[1] / 2 + self._frames.get(node_id, self._node)[1]

    def floor(self, pair: Pair, nodes: Mapping[str, Point]) -> float:
        """The lower side of the lowest opened node that an edge which leads back has to go round."""
        right, left = (nodes[node_id][0] for node_id in pair)
        return max(
            (self.bottom(node_id, nodes[node_id]) for node_id in self._frames if left <= nodes[node_id][0] <= right),
            default=0.0,
        )


def _points(layout: Layout) -> Iterable[Point]:
    yield from layout.nodes.values()
    for points in layout.routes.values():
        yield from points


def _place(x: float) -> float:
    return round(x, 1)
