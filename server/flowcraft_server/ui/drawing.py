"""The picture of a blueprint, or of a run of it: what the template draws, with places, paths, labels and states."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from flowcraft_sdk.records import NodeSnapshot, NodeStatus, RunSnapshot
from flowcraft_server.blueprints.compiling.loops import LOOP_CONTROLLER
from flowcraft_server.blueprints.graph import Arc, Graph
from flowcraft_server.blueprints.model import Blueprint, Node

from .layout import LAYER_DISTANCE, Layout, Pair, Point, lay_out
from .opened import OpenedRun, openable
from .room import Size, make_room, without_margins

MOST_NODES = 2000
"""Larger graphs are not drawn: their picture cannot be read, and drawing it takes seconds."""

NODE_WIDTH = 196
NODE_HEIGHT = 46
LONGEST_LABEL = 18
LONGEST_EDGE_LABEL = 26

LABEL_CHARACTER = 6.2
"""Width of a character of an edge's label."""

LABEL_SPACE = LAYER_DISTANCE - NODE_WIDTH - 16
"""How wide a label may be between two layers."""

PADDING = 16
"""Between the frame of an opened node and what is drawn in it."""

BADGE = 10
"""How far a badge stands out of the top of its node."""

NARROWEST_FRAME = 420
"""So wide that the state of a child run fits in beside the name of its node."""

LONGEST_NOTE = 34
MOST_ADDED = 200
"""How many nodes that were added while a run went are drawn."""

Added = tuple[tuple[str, str], ...]
_CALLS = {"subflow": "blueprintId", "map": "call"}
_UNDECIDED = frozenset({NodeStatus.PENDING, NodeStatus.SKIPPED, NodeStatus.CANCELLED, NodeStatus.UNKNOWN})


@dataclass(frozen=True)
class DrawnNode:
    """A node in the picture.

    Attributes:
        id: Id of the node.
        x: Left side.
        y: Upper side.
        label: Its id, cut to what fits.
        under: What runs it, cut to what fits.
        state: `pending`, `running` and so on; `recovered` if its fallback stands in for it, `none` in a blueprint; its mark in a
            picture of two versions.
        badge: A short text in its corner, such as `x3` for three attempts or `4/20` for items.
        progress: Part that is done, from 0 to 1, if it is known.
        begun: Part that is done or under way, of items.
        title: What a pointer shows.
        way: The way to it from the run whose page this is: its id, after those of the nodes that it is in.
        opens: What is opened in place by its button; empty if there is nothing.
        frame: What it shows if it is opened.
    """

    id: str
    x: float
    y: float
    label: str
    under: str
    state: str = "none"
    badge: str = ""
    progress: float | None = None
    begun: float = 0.0
    title: str = ""
    way: str = ""
    opens: str = ""
    frame: "Frame | None" = None


@dataclass(frozen=True)
class Frame:
    """What an opened node shows.

    Attributes:
        width: Width of the node.
        height: Height of the node.
        run: The child run.
        note: Words about the run.
        drawing: The picture of the run; None if there is none.
        x: Where the picture stands.
        y: Where the picture stands.
        instead: Words in place of a picture.
    """

    width: float
    height: float
    run: RunSnapshot
    note: str
    drawing: "Drawing | None" = None
    x: float = 0.0
    y: float = 0.0
    instead: str = ""


@dataclass(frozen=True)
class DrawnEdge:
    """An edge in the picture.

    Attributes:
        path: The `d` of its SVG path.
        kind: `edge`, `fallback`, `batch`, or `made` to a node that was added while the run went.
        state: `taken`, `not-taken`, or empty where that is open or cannot be seen from the states of its ends; its mark in a
            picture of two versions.
        label: Its action or condition, cut to what fits.
        x: Where the label stands.
        y: Where the label stands.
        title: The whole label.
    """

    path: str
    kind: str
    state: str = ""
    label: str = ""
    x: float = 0.0
    y: float = 0.0
    title: str = ""


@dataclass(frozen=True)
class Drawing:
    """A picture.

    Attributes:
        width: Width.
        height: Height.
        nodes: Its nodes.
        edges: Its edges.
        too_large: How many nodes the graph has, if they are too many to draw.
        begins: Where what is drawn begins.
        size: Width and height of what is drawn, without margins.
    """

    width: float = 0.0
    height: float = 0.0
    nodes: tuple[DrawnNode, ...] = ()
    edges: tuple[DrawnEdge, ...] = ()
    too_large: int = 0
    begins: Point = (0.0, 0.0)
    size: Size = (0.0, 0.0)

    def dots(self, x: float = 0.0, y: float = 0.0) -> Iterable[tuple[DrawnNode, float, float]]:
        """Each node with the place where it is drawn, those in opened ones after these."""
        for node in self.nodes:
            yield node, round(x + node.x, 1), round(y + node.y, 1)
            if node.frame is not None and node.frame.drawing is not None:
                yield from node.frame.drawing.dots(x + node.x + node.frame.x, y + node.y + node.frame.y)


@dataclass
class Layouts:
    """Keeps the layouts of the graphs that were drawn last, by the hash of their plan."""

    most: int = 200
    _kept: dict[tuple[str, Added], tuple[Graph, Layout]] = field(default_factory=dict)

    def of(self, plan_hash: str, blueprint: Blueprint, added: Added = ()) -> tuple[Graph, Layout]:
        """The graph of a blueprint, and the layout of it together with nodes that were added.

        Args:
            plan_hash: Hash of the blueprint's plan.
            blueprint: The blueprint.
            added: Nodes that a run has besides, each with the node that has added it.
        """
        found = self._kept.pop((plan_hash, added), None)
        if found is None:
            graph = Graph(blueprint)
            arcs = list(graph.all_arcs())
            pairs = [*((arc.source, arc.target) for arc in arcs), *((owner, node_id) for node_id, owner in added)]
            labels: dict[tuple[str, str], float] = {}
            for arc in arcs:
                space = len(_short_label(arc)) * LABEL_CHARACTER - LABEL_SPACE
                labels[arc.source, arc.target] = max(labels.get((arc.source, arc.target), 0.0), space)
            found = graph, lay_out([*graph.nodes, *(node_id for node_id, _ in added)], pairs, labels)
        self._kept[plan_hash, added] = found
        while len(self._kept) > self.most:
            del self._kept[next(iter(self._kept))]
        return found


@dataclass(frozen=True)
class Marks:
    """What a picture of two versions marks: `added`, `removed` or `changed`.

    Attributes:
        nodes: By the id of the node.
        edges: By source, target and action of the edge.
    """

    nodes: Mapping[str, str] = field(default_factory=dict)
    edges: Mapping[tuple[str, str, str | None], str] = field(default_factory=dict)


def draw(
    layouts: Layouts,
    plan_hash: str,
    blueprint: Blueprint,
    run: RunSnapshot | None = None,
    marks: Marks | None = None,
    opened: Sequence[OpenedRun] = (),
    way: str = "",
    may_open: bool = True,
) -> Drawing:
    """The picture of a blueprint.

    Args:
        layouts: Keeps layouts from one drawing to the next.
        plan_hash: Hash of the blueprint's plan.
        blueprint: What is drawn.
        run: A run of it, whose states are drawn.
        marks: What is marked in it, in place of states.
        opened: The child runs that are drawn in their nodes.
        way: The way to this run from that whose page this is, with a `/` at its end.
        may_open: Whether nodes that are not opened get a button for it.
    """
    if len(blueprint.nodes) > MOST_NODES:
        return Drawing(too_large=len(blueprint.nodes))
    added = _added(blueprint, run) if run is not None else ()
    graph, layout = layouts.of(plan_hash, blueprint, added)
    frames = {each.node_id: _frame(layouts, each) for each in opened if each.node_id in layout.nodes}
    node_size = (NODE_WIDTH, NODE_HEIGHT)
    layout = make_room(layout, {node_id: (frame.width, frame.height) for node_id, frame in frames.items()}, node_size)
    begins, size = without_margins(layout, node_size) if layout.nodes else ((0.0, 0.0), (0.0, 0.0))
    opens = openable(run) if run is not None and may_open else {}
    opens |= {each.node_id: each.instance for each in opened}
    states = _states(graph, run) | (dict(marks.nodes) if marks else {})
    return Drawing(
        begins=begins,
        size=size,
        width=layout.width,
        height=layout.height,
        nodes=tuple(
            _drawn_node(
                node,
                layout.nodes[node.id],
                states[node.id],
                run.nodes.get(node.id) if run else None,
                marks.nodes.get(node.id, "") if marks else "",
                way,
                opens.get(node.id, ""),
                frames.get(node.id),
            )
            for node in graph.nodes.values()
        )
        + tuple(
            _drawn_node(
                Node(id=node_id, uses=f"added by {owner}"),
                layout.nodes[node_id],
                state_of(run.nodes[node_id]),
                run.nodes[node_id],
                "",
                way,
                opens.get(node_id, ""),
                frames.get(node_id),
            )
            for node_id, owner in added
            if run is not None
        ),
        edges=tuple(_drawn_edge(arc, layout, states, run, marks) for arc in graph.all_arcs())
        + tuple(
            DrawnEdge(path=_path(layout, (owner, node_id))[0], kind="made", state="taken") for node_id, owner in added
        ),
    )


def _added(blueprint: Blueprint, run: RunSnapshot) -> Added:
    """The nodes that were added while a run went, each with the node that has added it: those that can be drawn."""
    known = {node.id for node in blueprint.nodes}
    found = []
    for node_id, node in run.nodes.items():
        if node.added_by is not None and node.added_by in known and node_id not in known:
            known.add(node_id)
            found.append((node_id, node.added_by))
    return tuple(found[:MOST_ADDED])


def _frame(layouts: Layouts, opened: OpenedRun) -> Frame:
    run, blueprint = opened.run, opened.blueprint
    item = opened.instance[len(opened.node_id) :]
    state = str(run.status).replace("_", " ")
    note = f"{item} {run.blueprint_id}: {state}, {run.progress.done} of {run.progress.total}".strip()
    width, height = NARROWEST_FRAME, NODE_HEIGHT + 2 * PADDING + NODE_HEIGHT
    if blueprint is None or opened.too_large:
        nodes = f"{opened.too_large:,} nodes are too many to be drawn here" if opened.too_large else ""
        instead = nodes or "The version of this run is no longer kept"
        return Frame(width, height, run, shortened(note, LONGEST_NOTE), instead=instead)
    drawing = draw(
        layouts, run.blueprint_version, blueprint, run, None, opened.inside, f"{opened.way}/", opened.may_open
    )
    (left, top), (inner_width, inner_height) = drawing.begins, drawing.size
    return Frame(
        width=max(width, round(inner_width + 2 * PADDING, 1)),
        height=round(NODE_HEIGHT + BADGE + inner_height + 2 * PADDING, 1),
        run=run,
        note=shortened(note, LONGEST_NOTE),
        drawing=drawing,
        x=round(PADDING - left, 1),
        y=round(NODE_HEIGHT + PADDING + BADGE - top, 1),
    )


def state_of(node: NodeSnapshot) -> str:
    """The state of a node as pages name it."""
    return "recovered" if node.caught_by_fallback else str(node.status)


def _states(graph: Graph, run: RunSnapshot | None) -> dict[str, str]:
    if run is None:
        return dict.fromkeys(graph.nodes, "none")
    found = ((node_id, run.nodes.get(node_id)) for node_id in graph.nodes)
    return {node_id: "pending" if node is None else state_of(node) for node_id, node in found}


def _drawn_node(
    node: Node,
    at: Point,
    state: str,
    now: NodeSnapshot | None,
    badge: str,
    way: str,
    opens: str,
    frame: Frame | None,
) -> DrawnNode:
    called = node.params.get(_CALLS.get(node.uses, ""))
    under = f"{node.uses} · {called}" if isinstance(called, str) else node.uses
    longest = LONGEST_LABEL - 2 if node.uses in _CALLS else LONGEST_LABEL  # there is a button beside it
    progress, begun = None, 0.0
    title = [node.id, under]
    if now is not None and now.items is not None and now.items.total:
        items = now.items
        badge = badge or f"{items.done:,}/{items.total:,}"
        progress, begun = items.done / items.total, items.begun / items.total
        title += [f"{items.done:,} of {items.total:,} items are done, {items.begun - items.done:,} under way"]
    if now is not None:
        if now.attempts > 1:
            badge = badge or f"×{now.attempts}"
        progress = now.progress if progress is None and now.status is NodeStatus.RUNNING else progress
        title += [state, now.message] + ([now.error.summary] if now.error is not None else [])
    return DrawnNode(
        id=node.id,
        x=round(at[0] - NODE_WIDTH / 2, 1),
        y=round(at[1] - NODE_HEIGHT / 2, 1),
        label=shortened(node.id, longest),
        under=shortened("loop" if node.uses == LOOP_CONTROLLER else under, longest + 3),
        state=state,
        badge=badge,
        progress=progress,
        begun=begun,
        title="\n".join(line for line in title if line),
        way=way + node.id,
        opens=way + opens if opens else "",
        frame=frame,
    )


def _drawn_edge(
    arc: Arc, layout: Layout, states: Mapping[str, str], run: RunSnapshot | None, marks: Marks | None
) -> DrawnEdge:
    label = _label(arc)
    path, (x, y) = _path(layout, (arc.source, arc.target))
    return DrawnEdge(
        path=path,
        kind=arc.kind,
        state=_edge_mark(arc, marks) if run is None else _edge_state(arc, states),
        label=_short_label(arc),
        x=round(x, 1),
        y=round(y, 1),
        title=label,
    )


def _label(arc: Arc) -> str:
    if arc.kind != "edge":
        return "fallback" if arc.kind == "fallback" else ""
    parts = [arc.edge.action or ""]
    if arc.edge.condition is not None:
        parts.append(f"if {arc.edge.condition}")
    return " ".join(part for part in parts if part)


def _short_label(arc: Arc) -> str:
    """A label in the picture: what conditions are mostly about, the output of the node before, goes without saying."""
    return shortened(_label(arc).replace("result.output.", ""), LONGEST_EDGE_LABEL)


def _edge_mark(arc: Arc, marks: Marks | None) -> str:
    """How an edge is marked. One that belongs to a node, such as that to its fallback, is as the node is."""
    if marks is None:
        return ""
    if arc.kind == "edge":
        return marks.edges.get((arc.source, arc.target, arc.edge.action), "")
    ends = {marks.nodes.get(arc.source), marks.nodes.get(arc.target)}
    return next((state for state in ("removed", "added") if state in ends), "")


def _edge_state(arc: Arc, states: Mapping[str, str]) -> str:
    """Whether an edge was taken, as far as the states of its ends show it."""
    source, target = states[arc.source], states[arc.target]
    if source not in ("completed", "recovered", "failed"):
        return "not-taken" if source == "skipped" else ""
    if arc.kind == "fallback":
        return "taken" if source in ("recovered", "failed") and target not in _UNDECIDED else "not-taken"
    if target == "skipped":
        return "not-taken"
    return "taken" if target not in _UNDECIDED and source != "failed" else ""


def _path(layout: Layout, pair: Pair) -> tuple[str, Point]:
    """The path of an edge, and where its label stands."""
    points = layout.routes[pair]
    half_width, half_height = NODE_WIDTH / 2, NODE_HEIGHT / 2
    (x0, y0), (x1, y1) = points[0], points[-1]
    below, end_below = (layout.frames.get(node_id, (0, NODE_HEIGHT))[1] - half_height for node_id in pair)
    if len(points) == 1:
        start, end, low = (x0 + 30, y0 + below), (x0 - 30, y0 + below), y0 + below + 34
        return f"M{_at(start)}C{_at((start[0], low))} {_at((end[0], low))} {_at(end)}", (x0, low - 6)
    if x1 < x0:  # leads back: round the nodes, so that it is not taken for an edge between them
        start, end = (x0, y0 + below), (x1, y1 + end_below)
        low = max(layout.floors.get(pair, 0.0), *(point[1] + half_height for point in points)) + 34
        curve = f"M{_at(start)}C{_at((x0, low))} {_at((x0 - 40, low))} {_at((x0 - 80, low))}"
        curve += f"L{_at((x1 + 80, low))}C{_at((x1 + 40, low))} {_at((x1, low))} {_at(end)}"
        return curve, ((x0 + x1) / 2, low - 5)
    lead = layout.leads.get(pair, 0.0)  # level, until it has passed an opened node of its layer
    way = [(x0 + half_width + lead, y0), *points[1:-1], (x1 - half_width - 7, y1)]
    parts = [f"M{_at((x0 + half_width, y0))}L{_at(way[0])}" if lead else f"M{_at(way[0])}"]
    for (from_x, from_y), (to_x, to_y) in pairwise(way):
        middle = (from_x + to_x) / 2
        parts.append(f"C{_at((middle, from_y))} {_at((middle, to_y))} {_at((to_x, to_y))}")
    first, second = way[0], way[1]
    return "".join(parts), ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2 - 4)


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def shortened(text: str, most: int) -> str:
    """A text in one line, cut to a number of characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def counted_states(states: Iterable[str]) -> dict[str, int]:
    """How often each state occurs, the first one met first."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return counts
