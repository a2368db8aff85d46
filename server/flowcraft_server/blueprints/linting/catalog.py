"""The blueprints that are checked together, and what the checks of each want to know of the others: found out once."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from flowcraft_server.blueprints.compiling.loops import strongly_connected
from flowcraft_server.blueprints.graph import Graph
from flowcraft_server.blueprints.model import Blueprint, Node
from flowcraft_server.blueprints.output_schemas import Schema, schema_of


class Catalog:
    """Blueprints that subflows may call.

    Args:
        blueprints: by id.
        is_partial: there may be others, in files that cannot be read.
    """

    def __init__(self, blueprints: Mapping[str, Blueprint], *, is_partial: bool = False) -> None:
        self.blueprints = blueprints
        self.is_partial = is_partial
        self._kept: dict[tuple[str, str], Any] = {}
        self._schemas: dict[int, tuple[Any, Schema]] = {}

    def keep(self, blueprint: Blueprint, what: str, find: Callable[[], Any]) -> Any:
        """What `find` says of a blueprint; it is asked once."""
        key = (blueprint.id, what)
        if key not in self._kept:
            self._kept[key] = find()
        return self._kept[key]

    def schema_of(self, kind: Any) -> Schema:
        """What is known of the values of a type, which may be one without a hash."""
        found = self._schemas.get(id(kind))
        if found is None:
            found = self._schemas[id(kind)] = kind, schema_of(kind)
        return found[1]

    @cached_property
    def ids(self) -> list[str]:
        """All ids, sorted."""
        return sorted(self.blueprints)

    def call_each_other(self, one: str, other: str, *, always: bool = False) -> bool:
        """Whether two blueprints call each other, directly or by way of others; of one and the same it is taken for granted.

        Args:
            always: only by calls that are made in every run.
        """
        rings = self._rings_of_every_run if always else self._rings
        return one == other or (one in rings and rings[one] == rings.get(other))

    @cached_property
    def returned_from(self) -> dict[str, list[Any]]:
        """By the id of a blueprint, what the nodes that call it make of its outcome."""
        found: dict[str, list[Any]] = {}
        for blueprint in self.blueprints.values():
            for node in blueprint.nodes:
                called = called_id(node)
                if called is not None and node.params.get("outputs"):
                    found.setdefault(called, []).append(node.params["outputs"])
        return found

    @cached_property
    def _rings(self) -> dict[str, int]:
        return self._numbered({name: list(calls(blueprint)) for name, blueprint in self.blueprints.items()})

    @cached_property
    def _rings_of_every_run(self) -> dict[str, int]:
        sizes: dict[int, int] = {}
        for ring in self._rings.values():
            sizes[ring] = sizes.get(ring, 0) + 1
        within = {
            name: list(calls(self.blueprints[name], only_always=True))
            for name, ring in self._rings.items()
            if sizes[ring] > 1
        }
        return self._numbered(within)

    def _numbered(self, called: dict[str, list[str]]) -> dict[str, int]:
        successors = {name: [each for each in targets if each in called] for name, targets in called.items()}
        rings = strongly_connected(list(called), successors)
        return {name: number for number, ring in enumerate(rings) for name in ring}


def called_id(node: Node) -> str | None:
    """The id of the blueprint that a node calls, once or for each item of a list, if it calls one."""
    called = node.params.get(call_param(node)) if node.uses in ("subflow", "map") else None
    return called if isinstance(called, str) and called else None


def call_param(node: Node) -> str:
    """The param that names the blueprint that a node calls."""
    return "call" if node.uses == "map" else "blueprintId"


def calls(blueprint: Blueprint, *, only_always: bool = False) -> Iterator[str]:
    """The ids of the blueprints that a blueprint calls."""
    callers = [node for node in blueprint.nodes if called_id(node) is not None]
    if not callers:
        return
    always = always_run(Graph(blueprint)) if only_always else None
    for node in callers:
        called = called_id(node)
        if called is not None and (always is None or (node.id in always and node.uses == "subflow")):
            yield called


def always_run(graph: Graph) -> set[str]:
    """Nodes that run in every run that does not fail: reached over edges that are always taken."""
    arcs = {node_id: [arc for arc in arcs if graph.always_taken(arc)] for node_id, arcs in graph.outgoing.items()}
    return graph.reached(graph.starts(), arcs)
