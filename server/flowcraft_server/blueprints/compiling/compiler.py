"""Blueprint -> plan. Pure: the same blueprint gives the same plan and the same hash on every machine."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from flowcraft_sdk._config.collection import without_collection
from flowcraft_sdk.protocol.expressions import Expression, compile_expression
from flowcraft_sdk.protocol.plan_digest import canonical, plan_digest
from flowcraft_sdk.protocol.usage_sums import write_budget
from flowcraft_server.blueprints.compiling import plan_records
from flowcraft_server.blueprints.compiling.fast_path import FLAG, is_fast_node, is_fast_start
from flowcraft_server.blueprints.compiling.input_fields import source_fields
from flowcraft_server.blueprints.compiling.loops import (
    LOOP_CONTROLLER,
    Link,
    LoopForest,
    cycles_of,
    find_loops,
    no_loops,
)
from flowcraft_server.blueprints.compiling.plan import LazyNodes, Plan, PlanEdge, PlanNode, value_fields
from flowcraft_server.blueprints.model import BATCHES, Blueprint, Edge, Node
from flowcraft_server.blueprints.node_config import NOTHING_SET
from flowcraft_server.blueprints.routes import Route, queue_of, queue_of_items

PLAN_FORMAT = 5
"""Raised when the stored form changes: old and new servers then never share a plan by mistake."""

OUTCOME = "c:_outcome"
"""Field with what a run that closes will end as: what a first node of `finally` gets as its input."""

EDGES_A_PIECE = 100
"""A node with more edges than these has them in fields of their own, so that no script parses all of them at once; so has a
blueprint with more nodes to begin with."""

WIDEST_STRING = 64
"""Edges of a join up to which its decisions are one string; see `joins.lua`."""


@without_collection()
def compile_blueprint(blueprint: Blueprint, routes: Mapping[str, Route] | None = None) -> Plan:
    """Compile a blueprint that the linter found free of errors.

    Args:
        blueprint: the model.
        routes: of each `uses` that has a queue or a limit of its own.

    Raises:
        ExpressionError: a condition or transform does not parse.
    """
    return _Compiler(blueprint, routes or {}).plan()


class _Compiler:
    def __init__(self, blueprint: Blueprint, routes: Mapping[str, Route]) -> None:
        self.blueprint = blueprint
        self.nodes = {node.id: node for node in blueprint.nodes}
        self.routes = routes
        self.out: dict[str, list[Edge]] = {node_id: [] for node_id in self.nodes}
        self.incoming: dict[str, list[tuple[str, str, int]]] = {node_id: [] for node_id in self.nodes}
        self.gather: dict[str, str] = {}
        self._places: dict[str, list[int]] = {node_id: [] for node_id in self.nodes}
        self._implied: dict[tuple[str, str], tuple[str, int]] = {}
        self._implied_to: dict[str, set[str]] = {}
        self._queues: dict[str, str] = {}
        self._plain_edges: dict[str, list[Any]] = {}
        self._around: dict[str, frozenset[str]] = {}
        self._crossings: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
        self._ways_to: dict[str, tuple[frozenset[str], str]] = {}
        self._has_fallback = {node.id for node in blueprint.nodes if node.config.fallback in self.nodes}
        self._stands_in = {node.config.fallback for node in blueprint.nodes if node.config.fallback is not None}
        self._has_expressions: set[str] = set()
        self._brings_other = {node.id for node in blueprint.nodes if node.config.fallback is not None}
        for edge in blueprint.edges:
            source, target = edge.source, self.incoming[edge.target]
            target.append((source, "edge", len(self.out[source])))
            self.out[source].append(edge)
            self._places[source].append(len(target))
            if edge.condition or edge.transform:
                self._has_expressions.add(source)
            if edge.transform is not None:
                self._brings_other.add(source)
        self._add_implied_edges()
        self.forest = self._loops()
        self.start_nodes = self.starts()
        self._start_set = frozenset(self.start_nodes)
        self._order = {node_id: place for place, node_id in enumerate(self.nodes)}
        self._loop_order = {header: place for place, header in enumerate(self.forest.loops)}

    def _add_implied_edges(self) -> None:
        """A failing node leads to its fallback; a scatter's items lead to its gather."""
        for node in self.blueprint.nodes:
            if node.config.fallback in self.nodes:
                self._add_implied(node.id, "fallback", node.config.fallback)
        for node in self.blueprint.nodes:
            target = node.params.get("gatherNodeId") if node.uses == "batch-scatter" else None
            if target in self.nodes:
                self.gather[node.id] = target
                self._add_implied(node.id, "batch", target)

    def _add_implied(self, source: str, kind: str, target: str) -> None:
        self.incoming[target].append((source, kind, 0))
        self._implied[source, kind] = target, len(self.incoming[target])
        self._implied_to.setdefault(target, set()).add(kind)

    def _loops(self) -> LoopForest:
        successors = {source: [edge.target for edge in edges] for source, edges in self.out.items()}
        for (source, _), (target, _) in self._implied.items():
            successors[source].append(target)
        if not cycles_of(list(self.nodes), successors):
            return no_loops(self.nodes)
        links = [
            Link(source, target, self._decides(source, kind, index), kind != "edge")
            for target, edges in self.incoming.items()
            for source, kind, index in edges
        ]
        uses = {node.id: node.uses for node in self.blueprint.nodes}
        return find_loops(uses, links, self.blueprint.cycle_entry_points)

    def _decides(self, source: str, kind: str, index: int) -> bool:
        if kind != "edge":
            return True
        edge = self.out[source][index]
        return edge.action is not None or edge.condition is not None

    def starts(self) -> tuple[str, ...]:
        """Nodes that nothing leads to; and the header of a cycle that can only be entered by starting in it."""
        starts = [node_id for node_id in self.nodes if not self.incoming[node_id]]
        return tuple(node_id for node_id in self._with_headers(starts) if node_id not in self.blueprint.closing_nodes)

    def finally_starts(self) -> list[str]:
        """The nodes of `finally` that nothing leads to."""
        first = [node_id for node_id in self.nodes if not self.incoming[node_id]]
        inside = frozenset(self.blueprint.finally_nodes)
        return [node_id for node_id in self._with_headers(first) if node_id in inside]

    def _with_headers(self, starts: list[str]) -> list[str]:
        for header, loop in self.forest.loops.items():
            if loop.parent is None and all(
                source in loop.region for node in loop.region for source, _, _ in self.incoming[node]
            ):
                starts.append(header)
        return starts

    def plan(self) -> Plan:
        doc = self.blueprint.to_plain()
        starts = self.start_nodes
        many = len(starts) > EDGES_A_PIECE
        meta: dict[str, Any] = {
            "id": self.blueprint.id,
            "starts": len(starts) if many else starts,
            "onFailure": self.blueprint.on_failure,
        }
        if self.blueprint.closing_nodes:
            meta["closes"] = 1
            meta["finally"] = self.finally_starts()
        elif is_fast_start([self._options(self.nodes[node_id]).keys() for node_id in starts], EDGES_A_PIECE):
            meta[FLAG] = 1
        nodes = LazyNodes(self.nodes, lambda node_id: self._node(self.nodes[node_id]))
        # The document keeps its order: a transform or an `inputs` mapping may depend on it.
        fields = {"doc": json.dumps(doc, ensure_ascii=False, separators=(",", ":")), "meta": canonical(meta)}
        for piece, first in enumerate(range(0, len(starts) if many else 0, EDGES_A_PIECE)):
            fields[f"s:{piece}"] = canonical(starts[first : first + EDGES_A_PIECE])
        terminals = []
        for node_id, node in self.nodes.items():
            fallback_of = self._fallback_of(node_id)
            reads = self._plain_reads(node, fallback_of) if self._is_plain(node) else nodes[node_id].reads
            entry = self._entry(node, reads)
            if self._is_terminal(node_id, fallback_of):
                terminals.append(node_id)
            edges = entry[plan_records.OUTS]
            if len(edges) > EDGES_A_PIECE:
                entry[plan_records.OUTS] = len(edges)
                for piece, first in enumerate(range(0, len(edges), EDGES_A_PIECE)):
                    fields[f"e:{piece}:{node_id}"] = canonical(edges[first : first + EDGES_A_PIECE])
            fields[f"n:{node_id}"] = canonical(entry)
        for header in self.forest.loops:
            fields[f"l:{header}"] = canonical(self._loop_meta(header))
        if self.blueprint.budget is not None:
            fields["budget"] = write_budget(self.blueprint.budget)
        for node_id, node in self.nodes.items():
            if node.config.budget is not None:
                fields[f"budget:{node_id}"] = write_budget(node.config.budget)
        digest = plan_digest(fields, PLAN_FORMAT)
        fields["format"] = str(PLAN_FORMAT)
        return Plan(digest, self.blueprint, nodes, self.start_nodes, tuple(terminals), fields)

    def _is_plain(self, node: Node) -> bool:
        """Whether no expression decides what the node reads."""
        if node.uses == LOOP_CONTROLLER or node.config.expressions:
            return False
        return node.id not in self._has_expressions

    def _plain_reads(self, node: Node, fallback_of: tuple[str, ...]) -> tuple[str, ...]:
        fields = self._input_fields(node)
        if not fields and not fallback_of:
            return ()
        return tuple(dict.fromkeys([*fields, *(f"f:{source}" for source in fallback_of)]))

    def _fallback_of(self, node_id: str) -> tuple[str, ...]:
        if node_id not in self._stands_in:
            return ()
        return tuple(source for source, kind, _ in self.incoming[node_id] if kind == "fallback")

    def _is_terminal(self, node_id: str, fallback_of: tuple[str, ...]) -> bool:
        ends = not self.out[node_id] and node_id not in self.gather and not fallback_of
        return ends and node_id not in self.blueprint.closing_nodes

    def _node(self, node: Node) -> PlanNode:
        edges = tuple(
            PlanEdge(i, e.source, e.target, e.action, _expression(e.condition), _expression(e.transform))
            for i, e in enumerate(self.out[node.id])
        )
        condition = None
        if node.uses == LOOP_CONTROLLER and isinstance(node.params.get("condition"), str):
            condition = _expression(node.params["condition"])
        fields = dict.fromkeys(self._input_fields(node))
        keys: tuple[str, ...] = ()
        whole, transform_sources = False, {}
        decides = any(edge.condition is not None or edge.transform is not None for edge in edges)
        if condition is not None or decides:
            keys, whole = self._context_keys(edges, condition)
            for key in keys:
                fields.update(dict.fromkeys(value_fields(self.nodes, key)))
            transform_sources = {e.index: name for e in edges if (name := self._transform_source(e)) is not None}
            for name in transform_sources.values():
                fields.update(dict.fromkeys(value_fields(self.nodes, f"_outputs.{name}")))
        for expression in node.config.expressions:
            fields.update(dict.fromkeys(source_fields(self.nodes, expression)))
        fallback_of = self._fallback_of(node.id)
        fields.update(dict.fromkeys(f"f:{source}" for source in fallback_of))
        return PlanNode(
            node=node,
            edges=edges,
            reads=tuple(fields),
            incoming=self._incoming(node.id),
            context_keys=keys,
            whole_context=whole,
            condition=condition,
            loops=self.forest.chain[node.id],
            fallback_of=fallback_of,
            gathers=next((source for source, kind, _ in self.incoming[node.id] if kind == "batch"), None),
            transform_sources=transform_sources,
            terminal=self._is_terminal(node.id, fallback_of),
            closing=node.id in self.blueprint.closing_nodes,
            always=None if any(e.action is not None for e in edges) or decides else "t" * len(edges),
        )

    def _context_keys(self, edges: tuple[PlanEdge, ...], condition: Expression | None) -> tuple[tuple[str, ...], bool]:
        """Context keys that conditions and transforms read; bare names in a condition are context keys too."""
        keys: dict[str, None] = {}
        whole = False
        for expression in [condition, *[e.condition for e in edges], *[e.transform for e in edges]]:
            if expression is None:
                continue
            for path in sorted(expression.reads):  # a set has another order in each process
                if path[0] == "context":
                    whole = whole or len(path) == 1
                    if len(path) > 1:
                        keys[_context_key(path[1:])] = None
                elif path[0] != "result":
                    keys[_context_key(path)] = None
        return tuple(keys), whole

    def _transform_source(self, edge: PlanEdge) -> str | None:
        """A target whose `inputs` names another node has that node's output transformed, not the source's."""
        named = self.nodes[edge.target].inputs if edge.transform is not None else None
        return named if isinstance(named, str) and named in self.nodes and named != edge.source else None

    def _input_fields(self, node: Node) -> list[str]:
        if node.inputs is None:
            if node.id in self.blueprint.finally_nodes and not self.incoming[node.id]:
                return [OUTCOME]
            return [f"c:_inputs.{node.id}"] if node.id in self._start_set else []
        values = [node.inputs] if isinstance(node.inputs, str) else list(node.inputs.values())
        return [field for value in values for field in source_fields(self.nodes, value)]

    def _entry(self, node: Node, reads: tuple[str, ...]) -> list[Any]:
        """What the scripts know of a node, in the layout of include/plan.lua."""
        options = self._options(node)
        outs = self._edges_from(node.id)
        if is_fast_node(options, outs, EDGES_A_PIECE):
            options[FLAG] = 1
        ins = [
            f"o:{source}" if kind == "edge" and source not in self._brings_other else self._brings(source, kind, index)
            for source, kind, index in self._incoming(node.id)
        ]
        return plan_records.entry(self._join(node.id), ins, outs, reads, self._queue(node), options)

    def _incoming(self, node_id: str) -> tuple[tuple[str, str, int], ...]:
        """What leads to a node: edges, or to a compensation the node that it undoes."""
        undone = self.blueprint.compensations.get(node_id)
        return tuple(self.incoming[node_id]) if undone is None else ((undone, "compensation", 0),)

    def _options(self, node: Node) -> dict[str, Any]:
        """What a plan entry says of a node besides its edges."""
        fallback_of = self._fallback_of(node.id)
        opts: dict[str, Any] = {}
        if self.forest.chain[node.id]:
            opts["loops"] = self.forest.chain[node.id]
        if node.id in self.forest.loops:
            opts["header"] = 1
        if node.config.fallback in self.nodes:
            opts["fallback"] = self._implied_edge(node.id, "fallback")
        if fallback_of:
            opts["fallbackOf"] = fallback_of
        if node.id in self.gather:
            opts["gather"] = self._implied_edge(node.id, "batch")
        if node.inputs is not None:
            opts["inputs"] = 1
        if node.config.on_item_error == "collect":
            opts["collect"] = 1
        if node.config.on_parent_cancel == "abandon":
            opts["abandons"] = 1
        items = queue_of_items(node, self.routes)
        if items is not None:
            opts["itemQueue"] = items
        if "@" in self._queue(node):
            opts["limit"] = 1  # its completion frees a slot, which the fast path knows nothing of
        return opts | self._closing_options(node)

    def _closing_options(self, node: Node) -> dict[str, Any]:
        """What a plan entry says of a node where the run may have something to close with."""
        if not self.blueprint.closing_nodes:
            return {}
        if node.id in self.blueprint.closing_nodes:
            return {"closing": "c" if node.id in self.blueprint.compensations else "f"}
        opts: dict[str, Any] = {} if self.out[node.id] else {"closes": 1}
        if node.config.compensate is not None:
            opts["compensate"] = node.config.compensate
            if node.uses in BATCHES:
                opts["items"] = 1
        return opts

    def _queue(self, node: Node) -> str:
        if node.config is not NOTHING_SET:
            return queue_of(node, self.routes)
        queue = self._queues.get(node.uses)  # the same for all that use it
        if queue is None:
            queue = self._queues[node.uses] = queue_of(node, self.routes)
        return queue

    def _join(self, node_id: str) -> str:
        kinds = self._implied_to.get(node_id, ())
        if "batch" in kinds:
            return "all"
        return "any" if "fallback" in kinds else self.nodes[node_id].config.join or "all"

    def _brings(self, source: str, kind: str, index: int) -> str:
        """The run-hash field with the value that an incoming edge brings; `?` positions one that may be a fallback's."""
        if kind == "compensation":
            return f"ci:{self.nodes[source].config.compensate}"
        if kind == "fallback":
            return f"x:{source}>fallback"
        if kind == "edge" and self.out[source][index].transform is not None:
            return f"x:{source}>{index}"
        if kind == "edge" and self.nodes[source].config.fallback in self.nodes:
            return f"?{source}>{index}"
        return f"o:{source}"

    def _edges_from(self, node_id: str) -> list[list[Any]]:
        """The written edges that lead from a node, as the scripts know them."""
        return [
            self._edge(node_id, edge.target, place, transforms=edge.transform is not None)
            for edge, place in zip(self.out[node_id], self._places[node_id], strict=True)
        ]

    def _implied_edge(self, source: str, kind: str) -> list[Any]:
        return self._edge(source, *self._implied[source, kind])

    def _edge(self, source: str, target: str, place: int, transforms: bool = False) -> list[Any]:
        plain = self._plain_edges.get(target)
        if plain is None:
            plain = self._plain_edges[target] = self._plain_edge(target)
        edge = plain.copy()
        edge[plan_records.POSITION] = place
        if transforms and edge[plan_records.UNDECIDED].startswith("#"):
            edge[plan_records.UNDECIDED] += "x"
        if not self.forest.loops:
            return edge
        if (source, target) in self.forest.back:
            return plan_records.with_border(edge, "b", target, ())
        left, entered = self._crossing(source, target)
        kind, loop = ("x", left[0]) if left else ("", "")
        return plan_records.with_border(edge, kind, loop, entered)

    def _plain_edge(self, target: str) -> list[Any]:
        """What all edges to a node have in common."""
        words = self._undecided(target), self._join(target), self._queue(self.nodes[target])
        return plan_records.plain_edge(target, 0, *words)

    def _undecided(self, target: str) -> str:
        """The join of a node before any edge is decided, in the form that `joins.lua` describes."""
        if self.forest.loops:
            back = self.forest.back
            positions = "".join("b" if (origin, target) in back else "u" for origin, _, _ in self.incoming[target])
        else:
            positions = "u" * len(self.incoming[target])
        if len(positions) > WIDEST_STRING:
            return f"#{positions.count('u')}{'b' if 'b' in positions else ''}"
        return positions

    def _crossing(self, source: str, target: str) -> tuple[list[str], list[str]]:
        """Headers of the loops that an edge leaves and enters, outermost first."""
        found = self._crossings.get((source, target))
        if found is None:  # each loop around the source asks for it
            inside, into = self._loops_around(source), self._loops_around(target)
            left = [header for header in self.forest.chain[source] if header not in into]
            found = left, [header for header in self.forest.chain[target] if header not in inside]
            self._crossings[source, target] = found
        return found

    def _loops_around(self, node_id: str) -> frozenset[str]:
        if node_id not in self._around:
            self._around[node_id] = frozenset(self.forest.chain[node_id])
        return self._around[node_id]

    def _loop_meta(self, header: str) -> dict[str, Any]:
        region = self.forest.loops[header].region
        ordered = sorted(region, key=self._order.__getitem__)
        inner = [node_id for node_id in ordered if node_id != header and node_id in self._loop_order]
        joins, entries, clear = {}, [], []
        for node_id in ordered:
            origins, inside = self._ways(node_id)
            is_join = len(self.incoming[node_id]) > 1 or node_id in self.forest.loops
            if origins <= region:  # as with most
                if is_join:
                    joins[node_id] = inside
                continue
            ways = self.incoming[node_id]
            if is_join:
                joins[node_id] = "".join(self._mask(origin, node_id, region) for origin, _, _ in ways)
            entries += [[node_id, i] for i, (origin, _, _) in enumerate(ways, start=1) if origin not in region]
        if self._has_fallback:
            for node_id in ordered:
                if node_id in self._has_fallback:
                    clear += [f"x:{node_id}>{i}" for i in range(len(self.out[node_id]))] + [f"s:{node_id}"]
        return {
            "nodes": ordered,
            "joins": joins,
            "inner": sorted(inner, key=self._loop_order.__getitem__),
            "clear": clear,
            "entries": entries,
            "exits": self._exits[header],
            "depth": len(self.forest.chain[header]),
        }

    def _ways(self, node_id: str) -> tuple[frozenset[str], str]:
        """Where all that leads to a node comes from, and its mask in a loop that holds all of that."""
        found = self._ways_to.get(node_id)
        if found is None:
            origins = [origin for origin, _, _ in self.incoming[node_id]]
            mask = "".join("b" if (origin, node_id) in self.forest.back else "u" for origin in origins)
            found = self._ways_to[node_id] = frozenset(origins), mask
        return found

    @cached_property
    def _exits(self) -> dict[str, list[list[Any]]]:
        """The edges that leave each loop; one that leaves several at once is with the outermost of them."""
        found: dict[str, list[list[Any]]] = {header: [] for header in self.forest.loops}
        chain = self.forest.chain
        for node_id in self.nodes:
            around = chain[node_id]
            if not around or (
                all(chain[edge.target] == around for edge in self.out[node_id])
                and all(
                    chain[self._implied[node_id, kind][0]] == around
                    for kind in ("fallback", "batch")
                    if (node_id, kind) in self._implied
                )
            ):
                continue  # none of its edges leaves a loop
            edges = self._edges_from(node_id)
            edges += [
                self._implied_edge(node_id, kind) for kind in ("fallback", "batch") if (node_id, kind) in self._implied
            ]
            for edge in edges:
                if len(edge) > plan_records.PLAIN_EDGE and edge[plan_records.KIND] == "x":
                    found[edge[plan_records.LOOP]].append(edge)
        return found

    def _mask(self, origin: str, node_id: str, region: set[str]) -> str:
        if origin not in region:
            return "a" if self._join(node_id) == "any" else "k"
        return "b" if (origin, node_id) in self.forest.back else "u"


def _context_key(path: tuple[str, ...]) -> str:
    """`context._outputs.a` and `context["_outputs.a"]` are the same key."""
    if path[0] in ("_outputs", "_inputs") and len(path) > 1:
        return f"{path[0]}.{path[1]}"
    return path[0]


def _expression(source: str | None) -> Expression | None:
    return compile_expression(source) if source is not None else None
