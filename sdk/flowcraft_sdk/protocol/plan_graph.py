"""The graph of a plan as the scripts see it, read from the plan's hash in Redis. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk.protocol.lua_source import fields_of

EDGE, FALLBACK, BATCH = "edge", "fallback", "batch"
BACK, EXIT = "b", "x"
"""Kinds of edges by what they are to a loop."""

_EDGE_FIELDS = fields_of("plan", "edge")
_ENTRY_FIELDS = fields_of("plan", "entry")


@dataclass(frozen=True, slots=True)
class PlanLink:
    """An edge of the blueprint, or the one that a fallback or a batch implies.

    Attributes:
        source, target: node ids.
        origin: `EDGE`, `FALLBACK` or `BATCH`.
        index: which of the source's edges it is, from 0; 0 for implied ones.
        position: which of the target's incoming edges it is, from 1.
        undecided: the target's join before any edge is decided, see include/joins.lua.
        kind: `BACK` to a loop's header, `EXIT` out of a loop, or "".
        loop: header of that loop.
    """

    source: str
    target: str
    origin: str
    index: int
    position: int
    undecided: str
    kind: str
    loop: str


@dataclass(frozen=True, slots=True)
class PlanLoop:
    """A loop: its header, the nodes of its region, and the headers of the loops inside of it."""

    header: str
    nodes: tuple[str, ...]
    inner: tuple[str, ...]


@dataclass(slots=True)
class PlanGraph:
    """A plan's nodes with their edges and loops.

    Attributes:
        hash: of the plan.
        doc: the plain blueprint.
        starts: nodes that a run begins with.
        joins: all or any, by node.
        options: what else the plan says of a node.
        outs: the edges of each node by their order; implied ones are in `implied`.
        incoming: the links to each node.
    """

    hash: str
    doc: Mapping[str, Any]
    starts: tuple[str, ...] = ()
    joins: dict[str, str] = field(default_factory=dict)
    options: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    outs: dict[str, tuple[PlanLink, ...]] = field(default_factory=dict)
    implied: dict[str, tuple[PlanLink, ...]] = field(default_factory=dict)
    incoming: dict[str, list[PlanLink]] = field(default_factory=dict)
    loops: dict[str, PlanLoop] = field(default_factory=dict)

    def links(self, node: str) -> Iterator[PlanLink]:
        """All that leads on from a node."""
        yield from self.outs[node]
        yield from self.implied[node]

    def around(self, node: str) -> tuple[str, ...]:
        """Headers of the loops around a node, outermost first."""
        return tuple(self.options[node].get("loops", ()))

    def after(self, nodes: set[str]) -> set[str]:
        """The nodes and all that any way leads to from them."""
        found, pending = set(nodes), list(nodes)
        while pending:
            for link in self.links(pending.pop()):
                if link.target not in found:
                    found.add(link.target)
                    pending.append(link.target)
        return found


def read_plan(plan_hash: str, fields: Mapping[str, str]) -> PlanGraph:
    """The graph of a plan.

    Args:
        plan_hash: its hash.
        fields: the whole hash `plan:HASH`.

    Raises:
        ValueError, LookupError: the fields are not those of a plan.
    """
    meta = json.loads(fields["meta"])
    graph = PlanGraph(plan_hash, json.loads(fields["doc"]))
    starts = meta["starts"]
    graph.starts = tuple(starts) if isinstance(starts, list) else tuple(_pieces(fields, "s:{}", starts))
    for name, raw in fields.items():
        if name.startswith("n:"):
            _add_node(graph, name[2:], fields, json.loads(raw))
    for name, raw in fields.items():
        if name.startswith("l:"):
            loop = json.loads(raw)
            graph.loops[name[2:]] = PlanLoop(name[2:], tuple(loop["nodes"]), tuple(loop["inner"]))
    for node in graph.outs:
        for link in graph.links(node):
            graph.incoming.setdefault(link.target, []).append(link)
        graph.incoming.setdefault(node, [])
    return graph


def _add_node(graph: PlanGraph, node: str, fields: Mapping[str, str], words: list[Any]) -> None:
    entry = _named(_ENTRY_FIELDS, words)
    options = entry["options"] or {}
    outs = entry["outs"] or []
    if not isinstance(outs, list):
        outs = list(_pieces(fields, "e:{}:" + node, outs))
    graph.joins[node], graph.options[node] = entry["join"], options
    graph.outs[node] = tuple(_link(node, EDGE, index, words) for index, words in enumerate(outs))
    implied = [(FALLBACK, options.get("fallback")), (BATCH, options.get("gather"))]
    graph.implied[node] = tuple(_link(node, origin, 0, words) for origin, words in implied if words)


def _link(source: str, origin: str, index: int, words: list[Any]) -> PlanLink:
    edge = _named(_EDGE_FIELDS, words)
    return PlanLink(
        source, edge["target"], origin, index, int(edge["position"]), edge["undecided"], edge["kind"] or "", edge["loop"] or ""
    )  # fmt: skip


def _named(names: tuple[str, ...], words: list[Any]) -> dict[str, Any]:
    """The words of a record by name; those left out at its end are None."""
    return dict(zip(names, [*words, *[None] * (len(names) - len(words))], strict=True))


def _pieces(fields: Mapping[str, str], name: str, count: int) -> Iterator[Any]:
    """A list that a plan keeps in pieces."""
    given, piece = 0, 0
    while given < count:
        words = json.loads(fields[name.format(piece)])
        yield from words
        given, piece = given + len(words), piece + 1
