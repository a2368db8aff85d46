"""Finds where a value of a JSON blueprint stands, when it is asked for: that of one node or edge, and no other's."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from flowcraft_sdk._config.source_positions import Path, SourcePosition, SourcePositions, late_positions
from flowcraft_sdk._config.yaml_tree import Entry, Fields, Items, PositionTable
from flowcraft_server.blueprints.loading.blueprint import read_blueprint
from flowcraft_server.blueprints.loading.json_text import JsonOutline
from flowcraft_server.blueprints.loading.links import Link, read_edges
from flowcraft_server.blueprints.loading.load_context import LoadContext
from flowcraft_server.blueprints.loading.nodes import NodeDraft, read_nodes

MOST_PARTS = 5_000
"""Nodes and edges that are read one by one; where more are asked for, all are read at once."""


class LatePlaces:
    """The places of a text that was read without them.

    Args:
        in_full: reads all of it.
        nodes: ids of the nodes, in the order in which they stand below `nodes`; None where the blueprint's
            nodes and edges are not those of the text, one by one.
    """

    def __init__(
        self, text: str, file: str, default_id: str, in_full: Callable[[], SourcePositions], nodes: Sequence[str] | None
    ) -> None:
        self._text = text
        self._file = file
        self._default_id = default_id
        self._in_full = in_full
        self._names = nodes or ()
        self._one_by_one = nodes is not None
        self.positions = late_positions(self._find)
        self._parts: dict[Path, SourcePositions] = {}

    def _find(self, path: Path | None) -> SourcePositions:
        if path is None or not self._one_by_one or len(self._parts) > MOST_PARTS:
            return self._all
        if len(path) > 1 and path[0] in ("nodes", "edges"):
            of_node = path[0] == "nodes"
            if of_node and isinstance(path[1], int):  # as an item without an id goes by
                return self._all
            index = self._order.get(str(path[1])) if of_node else path[1]
            if isinstance(index, int):
                part = path[:2]
                if part not in self._parts:
                    self._parts[part] = self._node(index) if of_node else self._edge(index)
                return self._parts[part]
        return self._rest

    @cached_property
    def _all(self) -> SourcePositions:
        return self._in_full()

    @cached_property
    def _outline(self) -> JsonOutline:
        return JsonOutline(self._text, self._file, ("nodes", "edges"))

    @cached_property
    def _order(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self._names)}

    @cached_property
    def _rest(self) -> SourcePositions:
        reading = LoadContext(self._file, lenient=True)
        read_blueprint(reading, self._outline.top, self._default_id, _FirstNode(self._names[0]))
        return _positions(reading.positions)

    def _node(self, index: int) -> SourcePositions:
        reading = LoadContext(self._file, lenient=True)
        found = self._outline.item("nodes", index)
        if found is not None:
            key, tree = found
            name = self._names[index]
            read_nodes(
                reading,
                Items((tree,), tree.position) if key is None else Fields({name: Entry(key, tree)}, tree.position),
            )
            reading.positions.values.pop(("nodes",), None)
        return _positions(reading.positions)

    def _edge(self, index: int) -> SourcePositions:
        reading = LoadContext(self._file, lenient=True)
        found = self._outline.item("edges", index)
        if found is None:
            return SourcePositions()
        read_edges(reading, Items((found[1],), found[1].position))
        values: dict[Path, SourcePosition] = {
            ("edges", index, *path[2:]): position for path, position in reading.positions.values.items() if path[1:]
        }
        values["edges", index] = found[1].position
        return SourcePositions({}, values, {})


class _FirstNode:
    """What is read in place of the nodes and edges: what follows needs to know only that there are nodes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read_nodes(self, reading: LoadContext) -> list[NodeDraft]:
        """The first node, of which nothing is known but its id."""
        return [NodeDraft(self._name, SourcePosition(reading.file, 1, 1))]

    def read_edges(self, _: LoadContext) -> list[Link]:
        """None."""
        return []


def _positions(table: PositionTable) -> SourcePositions:
    return SourcePositions(table.keys, table.values, table.written)
