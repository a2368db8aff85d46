"""What a changed blueprint means for a run that is done again with it: which nodes keep their outcomes. Pure.

A node keeps its outcome if its definition, the edges into it and all that leads to it are what they were. What it decided about
its own edges is known for those that were there; of new ones only if they are plain, without action and condition.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft_sdk.protocol.kept_nodes import PlanChange
from flowcraft_sdk.protocol.plan_graph import PlanGraph


def compare_plans(old: PlanGraph, new: PlanGraph) -> PlanChange:
    """What differs between two plans of a blueprint."""
    if old.hash == new.hash:
        return PlanChange()
    before, after = _Document(old), _Document(new)
    changed, moved = set[str](), dict[str, tuple[int | None, ...]]()
    for node in new.outs:
        places = after.places_of_edges(node, before) if node in old.outs else None
        if places is None or before.signature(node) != after.signature(node):
            changed.add(node)
        else:
            moved[node] = places
    for header, loop in new.loops.items():
        was = old.loops.get(header)
        if was is None or set(was.nodes) != set(loop.nodes):
            changed.update(node for node in loop.nodes if node in old.outs)
    changed.update(
        node for header in old.loops.keys() - new.loops.keys() for node in old.loops[header].nodes if node in new.outs
    )
    return PlanChange(frozenset(changed), moved)


class _Document:
    def __init__(self, graph: PlanGraph) -> None:
        self.graph = graph
        self.nodes: dict[str, Mapping[str, Any]] = {node["id"]: node for node in graph.doc["nodes"]}
        self.edges: dict[str, list[Mapping[str, Any]]] = {}
        for edge in graph.doc["edges"]:
            self.edges.setdefault(edge["source"], []).append(edge)

    def signature(self, node: str) -> str:
        """All that makes a node what it is: its definition and the links into it, in their order."""
        links = sorted(self.graph.incoming[node], key=lambda link: link.position)
        into = [
            [link.origin, link.source, self.edges[link.source][link.index] if link.origin == "edge" else None]
            for link in links
        ]
        return json.dumps([self.nodes.get(node), into], sort_keys=True)

    def places_of_edges(self, node: str, before: "_Document") -> tuple[int | None, ...] | None:
        """Which of its former edges each edge of a node was, None for a new one; None if it must decide again."""
        own, former = self.edges.get(node, []), before.edges.get(node, [])
        if own == former:
            return tuple(range(len(own)))
        if not all(map(_is_plain, _without_common(own, former))) or any(edge.get("action") for edge in (*own, *former)):
            return None
        free = list(enumerate(former))
        places: list[int | None] = []
        for edge in own:
            found = next((entry for entry in free if entry[1] == edge), None)
            places.append(None if found is None else found[0])
            if found is not None:
                free.remove(found)
        return tuple(places)


def _without_common(own: list[Mapping[str, Any]], former: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Edges that only one of two lists holds."""
    yield from (edge for edge in own if edge not in former)
    yield from (edge for edge in former if edge not in own)


def _is_plain(edge: Mapping[str, Any]) -> bool:
    return not any(edge.get(name) for name in ("action", "condition", "transform"))
