"""What differs between two blueprints."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft_server.blueprints.model import Blueprint, Edge

MISSING: Any = object()
"""Stands for a value that is not there on one side."""


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs. `before` or `after` is `MISSING` where there is none."""

    path: str
    before: Any
    after: Any

    def to_plain(self) -> dict[str, Any]:
        """As JSON values; what is missing is left out."""
        values = {"path": self.path, "before": self.before, "after": self.after}
        return {name: value for name, value in values.items() if value is not MISSING}


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two blueprints, in plain form.

    Attributes:
        nodes_changed: what differs in nodes that are on both sides, by id.
        edges_changed: edges of the same source, target and action that say something else, the old one first.
        settings: what differs of the blueprint itself: `inputs`, `outputs`, `onFailure` and so on.
        reordered: `nodes` or `edges`, if those on both sides stand in another order.
    """

    nodes_added: tuple[str, ...]
    nodes_removed: tuple[str, ...]
    nodes_changed: Mapping[str, tuple[Change, ...]]
    edges_added: tuple[Edge, ...]
    edges_removed: tuple[Edge, ...]
    edges_changed: tuple[tuple[Edge, tuple[Change, ...]], ...]
    settings: tuple[Change, ...]
    reordered: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether both are the same blueprint."""
        return not any(getattr(self, name) for name in self.__slots__)

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "same": self.empty,
            "nodes": {
                "added": list(self.nodes_added),
                "removed": list(self.nodes_removed),
                "changed": {
                    node: [change.to_plain() for change in found] for node, found in self.nodes_changed.items()
                },
            },
            "edges": {
                "added": [edge.to_plain() for edge in self.edges_added],
                "removed": [edge.to_plain() for edge in self.edges_removed],
                "changed": [
                    {"edge": _named(edge), "changes": [change.to_plain() for change in found]}
                    for edge, found in self.edges_changed
                ],
            },
            "settings": [change.to_plain() for change in self.settings],
            "reordered": list(self.reordered),
        }


def difference(before: Blueprint, after: Blueprint) -> Difference:
    """What has to be done to `before` to make it `after`."""
    old = {node.id: node.to_plain() for node in before.nodes}
    new = {node.id: node.to_plain() for node in after.nodes}
    both = [node_id for node_id in new if node_id in old]
    changed = {node_id: tuple(_changes(old[node_id], new[node_id])) for node_id in both}
    removed, added, edges_changed = _edges(before.edges, after.edges)
    reordered = [] if [node_id for node_id in old if node_id in new] == both else ["nodes"]
    if not removed and not added and not edges_changed and list(before.edges) != list(after.edges):
        reordered.append("edges")
    return Difference(
        nodes_added=tuple(node_id for node_id in new if node_id not in old),
        nodes_removed=tuple(node_id for node_id in old if node_id not in new),
        nodes_changed={node_id: found for node_id, found in changed.items() if found},
        edges_added=tuple(added),
        edges_removed=tuple(removed),
        edges_changed=tuple(edges_changed),
        settings=tuple(_changes(_settings(before), _settings(after))),
        reordered=tuple(reordered),
    )


def _settings(blueprint: Blueprint) -> dict[str, Any]:
    return {name: value for name, value in blueprint.to_plain().items() if name not in ("nodes", "edges")}


def _edges(
    before: tuple[Edge, ...], after: tuple[Edge, ...]
) -> tuple[list[Edge], list[Edge], list[tuple[Edge, tuple[Change, ...]]]]:
    """Edges that are gone, that are new, and that say something else."""
    common = Counter(before) & Counter(after)
    removed, added = _without(before, common), _without(after, common)
    waiting: dict[tuple[str, str, str | None], deque[int]] = {}
    for place, edge in enumerate(added):
        waiting.setdefault(_key(edge), deque()).append(place)
    gone, changed, taken = [], [], set()
    for edge in removed:
        others = waiting.get(_key(edge))
        if others:
            place = others.popleft()
            taken.add(place)
            changed.append((edge, tuple(_changes(edge.to_plain(), added[place].to_plain()))))
        else:
            gone.append(edge)
    return gone, [edge for place, edge in enumerate(added) if place not in taken], changed


def _without(edges: tuple[Edge, ...], common: Counter[Edge]) -> list[Edge]:
    left, found = common.copy(), []
    for edge in edges:
        if left[edge]:
            left[edge] -= 1
        else:
            found.append(edge)
    return found


def _key(edge: Edge) -> tuple[str, str, str | None]:
    return edge.source, edge.target, edge.action


def _named(edge: Edge) -> dict[str, Any]:
    return Edge(*_key(edge)).to_plain()


def _changes(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """The innermost values that differ; a list is one value."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys([*before, *after]):
            inner = f"{path}.{name}" if path else str(name)
            yield from _changes(before.get(name, MISSING), after.get(name, MISSING), inner)
    elif not _same(before, after):
        yield Change(path, before, after)


def _same(before: Any, after: Any) -> bool:
    """Whether two values have the same JSON: 2 and 2.0 do, 1 and true do not."""
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before.keys() == after.keys() and all(_same(before[name], after[name]) for name in before)
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    both_numbers = isinstance(before, int | float) and isinstance(after, int | float)
    return (both_numbers or type(before) is type(after)) and bool(before == after)
