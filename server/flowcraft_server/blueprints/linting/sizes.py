"""How large a blueprint may be: what the scripts do in one step has a bound, so that Redis serves others as well."""

from collections.abc import Mapping

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.bounds import LONGEST_PATH
from flowcraft_sdk.protocol.sources import is_expression
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.source_reads import readable, sources_of
from flowcraft_server.blueprints.model import Node

MOST_NODES = 100_000
MOST_EDGES = 20_000
"""Edges that lead to a node, and edges that lead from one."""

MOST_STARTS = 20_000
"""Nodes that a run begins with."""

MOST_NAMES = 1_000
"""Named inputs of a node."""

_PATHS = {"subflow": ("inputs", "outputs"), "map": ("inputs", "outputs")}
"""Params that hold paths."""

MOST_IN_LOOP = 1_000
"""Nodes of a loop: its next iteration makes all of them pending again, in one step."""

MOST_LOOP_EDGES = 5_000
"""Edges that begin or end in a loop."""

MOST_NESTED = 50
"""Loops within each other: each node stands in the plan once for each loop around it."""


def check_sizes(findings: Findings) -> None:
    """Check what is counted."""
    graph = findings.graph
    if len(graph.nodes) > MOST_NODES:
        findings.error(("nodes",), f"{len(graph.nodes):,} nodes: a blueprint has {MOST_NODES:,} at most; use subflows")
    begins = sum(not arcs for arcs in graph.incoming.values())
    if begins > MOST_STARTS:
        findings.error(
            ("nodes",), f"{begins:,} nodes that nothing leads to: a run begins with {MOST_STARTS:,} at most; use `map`"
        )
    for way, by_node in (("from", graph.outgoing), ("to", graph.incoming)):
        for node_id, arcs in by_node.items():
            if len(arcs) > MOST_EDGES:
                message = f"{len(arcs):,} edges lead {way} it, {MOST_EDGES:,} at most can; use `map` for many items"
                findings.error(node_path(graph.nodes[node_id]), message)
    for node in findings.set_up:
        names = 0 if node.inputs is None or isinstance(node.inputs, str) else len(node.inputs)
        if names > MOST_NAMES:
            findings.error(node_path(node, "inputs"), f"{names:,} names: a node has {MOST_NAMES:,} inputs at most")
        elif (reads := _reads(node)) > MOST_NAMES:
            message = f"its expressions read {reads:,} names: those of a node read {MOST_NAMES:,} at most"
            findings.error(node_path(node, "inputs"), message)
        _check_paths(findings, node.inputs, node_path(node, "inputs"))
        for name in _PATHS.get(node.uses, ()):
            _check_paths(findings, node.params.get(name), node_path(node, "params", name))
    _check_paths(findings, findings.blueprint.outputs, ("outputs",))
    _check_loops(findings)


def _reads(node: Node) -> int:
    """How many names the expressions of a node's inputs and durations read: each costs its claim fields of the run."""
    sources = [source for _, source in sources_of(node.inputs, ())]
    expressions = [source for source in (*sources, *node.config.expressions) if is_expression(source)]
    return sum(len(readable(source)) for source in expressions)


def _check_paths(findings: Findings, paths: object, place: Path) -> None:
    """A path may be looked for under each of its beginnings: a long one has many."""
    named = paths.items() if isinstance(paths, Mapping) else [(None, paths)]
    for name, path in named:
        if isinstance(path, str) and len(path) > LONGEST_PATH and not is_expression(path):
            message = f"a path of {len(path):,} characters: it has {LONGEST_PATH:,} at most"
            findings.error(place if name is None else (*place, name), message)


def _check_loops(findings: Findings) -> None:
    graph = findings.graph
    too_large = False
    for part in graph.components():
        edges = max(sum(len(arcs[node]) for node in part) for arcs in (graph.outgoing, graph.incoming))
        if len(part) <= MOST_IN_LOOP and edges <= MOST_LOOP_EDGES:
            continue
        too_large = True
        message = (
            f"is in a loop of {len(part):,} nodes: a loop has {MOST_IN_LOOP:,} nodes and {MOST_LOOP_EDGES:,} edges at most;"
            " put its body into a subflow"
        )
        findings.error(node_path(graph.nodes[part[0]]), message)
    if too_large or not graph.components():
        return
    forest = graph.loops(deepest=MOST_NESTED + 1)
    for header, loop in forest.loops.items():
        if len(loop.region) > MOST_IN_LOOP:
            message = (
                f"begins a loop of {len(loop.region):,} nodes, those of its side branches among them: a loop has"
                f" {MOST_IN_LOOP:,} at most; put them into a subflow"
            )
            findings.error(node_path(graph.nodes[header]), message)
    deepest = [header for header in forest.loops if len(forest.chain[header]) > MOST_NESTED]
    for header in deepest[:1]:
        message = f"begins a loop that lies in {MOST_NESTED} others: loops are nested {MOST_NESTED} deep at most"
        findings.error(node_path(graph.nodes[header]), f"{message}; put an inner one into a subflow")
