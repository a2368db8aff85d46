"""Cycles: those that never end, those that nothing leads into, and nodes that never run."""

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.analysis import shortest_cycle
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.suggestions import listed


def check_cycles(findings: Findings) -> None:
    """Check the ways through the graph."""
    endless = _check_endless(findings)
    _check_entries(findings, endless)
    _check_reach(findings)
    _check_bodies(findings)


def _check_bodies(findings: Findings) -> None:
    """Check that the bodies of loops lead back: else there is one round, and what follows the loop is never taken."""
    loops = [node for node in findings.graph.nodes.values() if node.uses == "loop-controller"]
    if not loops or not findings.blueprint.complete or findings.has_wrong_names:
        return
    in_cycles = {node_id for part in findings.graph.components() for node_id in part}
    for node in loops:
        if node.id not in in_cycles and findings.graph.outgoing.get(node.id):
            message = f"nothing goes back to this loop: end what it repeats with an edge to it, as in `next: {node.id}`"
            findings.consequence(node_path(node), message)


def _check_endless(findings: Findings) -> set[str]:
    """A cycle of edges that are always taken goes round until it hits the limit of iterations.

    Returns:
        The nodes of these cycles.
    """
    graph = findings.graph
    endless: set[str] = set()
    for part in graph.components(arc for arc in graph.all_arcs() if graph.always_taken(arc)):
        endless.update(part)
        if len(part) == 1:
            # Without this edge the node would run where it stands: what its place in the graph lacks follows from it.
            findings.has_wrong_names = True
            message = (
                f"'{part[0]}' always leads to itself; leave this out, or for a loop give it an action or a condition"
            )
            findings.error(_edge_to_itself(findings, part[0]), message)
            continue
        way = shortest_cycle(graph, part)
        ring = " -> ".join([*_some(way), way[0]])
        message = f"the cycle {ring} has no way out: give one of its edges an action or a condition"
        findings.error(node_path(graph.nodes[way[0]]), message)
    return endless


def _edge_to_itself(findings: Findings, node_id: str) -> Path:
    edges = findings.blueprint.edges
    index = next((i for i, edge in enumerate(edges) if edge.source == edge.target == node_id), None)
    return node_path(findings.graph.nodes[node_id]) if index is None else ("edges", index)


def _check_entries(findings: Findings, endless: set[str]) -> None:
    """Check where cycles begin that nothing leads into; one that never ends is reported already, one of one node begins there."""
    graph = findings.graph
    chosen = set(findings.blueprint.cycle_entry_points)
    for header, part in graph.unentered_cycles.items():
        if graph.nodes[header].uses == "loop-controller":
            continue  # where such a cycle begins is plain
        if len(part) == 1 or header in endless or chosen & set(part):
            continue
        if all(arc.kind == "fallback" for node in part for arc in graph.incoming[node]):
            continue
        way = shortest_cycle(graph, [header, *(node for node in part if node != header)])
        ring = " -> ".join([*_some(way), way[0]])
        message = (
            f"nothing leads into the cycle {ring}; it begins with '{header}' (metadata.cycleEntryPoints can say so)"
        )
        findings.consequence(node_path(graph.nodes[header]), message)


def _check_reach(findings: Findings) -> None:
    """Nodes that no run comes to, and nodes that stand alone."""
    graph = findings.graph
    chosen = {
        node_id: [arc for arc in graph.outgoing[node_id] if findings.can_be_taken(arc)] for node_id in graph.by_action
    }
    possible = {**graph.outgoing, **chosen}
    reached = graph.reached((*graph.starts(), *graph.closing_starts()), possible)
    edges, closing = findings.blueprint.edges, findings.blueprint.closing_nodes
    # Edges between nodes that a run closes with say nothing of what it begins with.
    has_edges = any(edge.source not in closing or edge.target not in closing for edge in edges)
    led_astray = {node_id for index in graph.astray for node_id in (edges[index].source, edges[index].target)}
    led_astray |= {node.id for node in findings.set_up if node.config.fallback is not None}
    led_astray -= closing
    for node_id, node in graph.nodes.items():
        arcs = graph.incoming[node_id]
        if node_id not in reached:
            sources = listed(dict.fromkeys(f"'{arc.source}'" for arc in arcs))
            if len(arcs) > 1 and not any(findings.can_be_taken(arc) for arc in arcs):
                findings.error(node_path(node), f"can never run: none of its edges, from {sources}, is ever taken")
            else:
                findings.consequence(node_path(node), f"can never run: no way leads to it over {sources}")
        elif node_id in closing:
            continue  # it begins with the end
        elif not arcs and not graph.outgoing[node_id] and node_id not in led_astray and (has_edges or led_astray):
            findings.consequence(node_path(node), "no edge leads to it or from it: it runs at the start, on its own")


def _some(way: tuple[str, ...]) -> tuple[str, ...]:
    return way if len(way) <= 8 else (*way[:7], "...")
