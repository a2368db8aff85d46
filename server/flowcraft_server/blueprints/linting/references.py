"""Names of nodes that do not exist, or exist twice: in edges, fallbacks, batches and entry points."""

from collections.abc import Mapping

from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.reachability import most_steps
from flowcraft_server.blueprints.linting.sizes import MOST_NESTED
from flowcraft_server.blueprints.model import Node

_WORDS = frozenset({"result", "input", "context", "true", "false", "null"})
"""Those that expressions have a meaning for."""


def check_references(findings: Findings) -> None:
    """Check all that names a node."""
    _check_ids(findings)
    check_names(findings)
    _check_repeated_edges(findings)
    _check_needs(findings)
    for node in findings.set_up:
        if node.config.fallback in findings.graph.nodes:
            _check_fallback(findings, node, node.config.fallback)
    _check_fallback_rings(findings)
    _check_fallbacks_lead_on(findings)
    for entry_point in findings.blueprint.cycle_entry_points:
        if entry_point not in findings.graph.nodes:
            message = _no_node(findings, entry_point)
            findings.warning(("metadata", "cycleEntryPoints"), message)


def _check_ids(findings: Findings) -> None:
    seen = set()
    if not findings.blueprint.nodes and findings.blueprint.file is None:  # of a file the loader says it
        findings.error(("nodes",), "a blueprint needs at least one node")
    for node in findings.blueprint.nodes:
        if node.id in seen:
            findings.error(node_path(node), f"a second node '{node.id}'")
        seen.add(node.id)
        if "." in node.id:
            message = f'an id with a dot is read by context["{node.id}"] in expressions; _ or - are simpler'
            findings.warning(node_path(node), message)
        if node.id in _WORDS:
            findings.warning(node_path(node), f"in expressions '{node.id}' means something else; give it another id")


def check_names(findings: Findings) -> None:
    """Check that the nodes are there that edges and fallbacks name."""
    nodes = findings.graph.nodes
    for index in findings.graph.astray:
        edge = findings.blueprint.edges[index]
        for part, name in (("source", edge.source), ("target", edge.target)):
            if name not in nodes:
                findings.has_wrong_names = True
                findings.error(("edges", index, part), _no_node(findings, name))
    for node in findings.set_up:
        fallback = node.config.fallback
        if fallback is not None and fallback not in nodes:
            findings.has_wrong_names = True
            findings.error(node_path(node, "config", "fallback"), _no_node(findings, fallback))


def _check_repeated_edges(findings: Findings) -> None:
    written: dict[tuple[str | None, ...], int] = {}
    for index, edge in enumerate(findings.blueprint.edges):
        key = (edge.source, edge.target, edge.action, edge.condition, edge.transform)
        first = written.setdefault(key, index)
        if first != index and _form(findings, first) == _form(findings, index):  # else the loader says it
            where = findings.line_of(("edges", first))
            findings.warning(("edges", index), f"the same edge '{edge.source}' -> '{edge.target}' stands above{where}")


def _check_needs(findings: Findings) -> None:
    """A node that needs itself; where that edge is always taken, it is reported as a cycle that never ends."""
    for index, edge in enumerate(findings.blueprint.edges):
        if edge.source != edge.target or ".needs" not in edge.place:
            continue
        findings.has_wrong_names = True  # what its place in the graph lacks follows from what was meant here
        if not any(
            findings.graph.always_taken(arc) for arc in findings.graph.outgoing[edge.source] if arc.edge is edge
        ):
            findings.error(("edges", index), f"'{edge.source}' needs itself: name the node that comes before it")


def _form(findings: Findings, index: int) -> bool:
    return findings.blueprint.edges[index].place.startswith("edges[")


def _check_fallback(findings: Findings, node: Node, name: str) -> None:
    path = node_path(node, "config", "fallback")
    if name == node.id:
        findings.error(path, "a node cannot be its own fallback; for another attempt set maxRetries")
    elif findings.graph.edges_to(name):
        sources = ", ".join(f"'{arc.source}'" for arc in findings.graph.edges_to(name)[:3])
        message = (
            f"'{name}' is an ordinary node too (edges lead to it from {sources}): it runs once, whichever comes first"
        )
        findings.warning(path, message)


def _check_fallback_rings(findings: Findings) -> None:
    nodes = findings.graph.nodes
    seen: set[str] = set()
    for first in [node.id for node in findings.set_up if node.config.fallback is not None]:
        way: dict[str, None] = {}  # in order
        name: str | None = first
        while name in nodes and name not in seen and name not in way:
            way[name] = None
            name = nodes[name].config.fallback
        seen.update(way)
        if name not in way or nodes[name].config.fallback == name:
            continue
        ring = list(way)[list(way).index(name) :]
        begin = ring.index(min(ring))
        ring = [*ring[begin:], *ring[:begin]]
        shown = " -> ".join([*(ring if len(ring) <= 8 else [*ring[:7], "..."]), ring[0]])
        path = node_path(nodes[ring[0]], "config", "fallback")
        findings.error(path, f"fallbacks lead round in a circle: {shown}")


def _check_fallbacks_lead_on(findings: Findings) -> None:
    """What stands in for a node does not lead to it again; to the next round of a loop around both it may."""
    graph = findings.graph
    part_of = {node_id: number for number, part in enumerate(graph.components()) for node_id in part}
    suspects = [
        node.id
        for node in findings.set_up
        if node.id in part_of and part_of[node.id] == part_of.get(node.config.fallback or "")
    ]
    if not suspects:
        return
    onward = {source: [arc for arc in arcs if arc.kind != "fallback"] for source, arcs in graph.outgoing.items()}
    rounds: dict[str, set[str]] = {}
    loops = graph.loops(
        among=graph.reached((*graph.starts(), *graph.closing_starts()), onward), deepest=MOST_NESTED + 1
    ).loops
    for header, loop in loops.items():
        for member in loop.cycle:
            rounds.setdefault(member, set()).add(header)
    left = most_steps(len(graph.nodes))
    for node_id in suspects:
        around = rounds.get(node_id, set())
        if node_id in around:
            continue
        chain = _fallbacks_within(findings, node_id, part_of)
        if node_id in chain:
            left -= len(chain)
            continue
        before = _leading_to(findings, node_id, around, part_of)
        left -= len(chain) + len(before)
        first = next((fallback for fallback in chain if fallback in before), None)
        if first is not None:
            message = (
                f"'{first}' leads back to '{node_id}', for which it stands in: '{node_id}' would run again after its edges"
                " were taken; for another attempt set maxRetries"
            )
            findings.error(node_path(graph.nodes[node_id], "config", "fallback"), message)
        if left <= 0:
            return


def _fallbacks_within(findings: Findings, node_id: str, part_of: Mapping[str, int]) -> dict[str, None]:
    """A node's fallback, that one's fallback, and so on, as long as they are in the node's part of the graph."""
    nodes = findings.graph.nodes
    chain: dict[str, None] = {}  # in order
    name = nodes[node_id].config.fallback
    while name is not None and name not in chain and part_of.get(name) == part_of[node_id]:
        chain[name] = None
        name = nodes[name].config.fallback
    return chain


def _leading_to(findings: Findings, node_id: str, closed: set[str], part_of: Mapping[str, int]) -> set[str]:
    """The nodes of a node's part that lead to it, not over a fallback, and over no node that is closed."""
    seen = {node_id}
    pending = [node_id]
    while pending:
        for arc in findings.graph.incoming[pending.pop()]:
            source = arc.source
            if arc.kind == "fallback" or source in seen or source in closed or part_of.get(source) != part_of[node_id]:
                continue
            seen.add(source)
            pending.append(source)
    return seen


def _no_node(findings: Findings, name: str) -> str:
    return f"no node '{name}'{findings.meant(name, findings.graph.nodes)}"
