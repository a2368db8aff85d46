"""Nodes with several incoming edges: which of these are taken together, and what the node gets then."""

from collections.abc import Mapping
from itertools import combinations

from flowcraft_server.blueprints.graph import Arc
from flowcraft_server.blueprints.linting.exclusive import Choices
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.model import Node

_MOST_EDGES = 24
"""Incoming edges that are compared with each other; more of them are no choice between a few ways."""
_TAKES_NO_INPUT = ("loop-controller", "batch-gather")


def check_joins(findings: Findings) -> None:
    """Check every node that several edges lead to."""
    graph = findings.graph
    joins = [
        graph.nodes[node_id]
        for node_id, arcs in graph.incoming.items()
        if len(arcs) > 1 and len(graph.edges_to(node_id)) > 1
    ]
    if not joins:
        return
    choices = Choices(findings.graph)
    members = {node: set(part) for part in findings.graph.components() for node in part}
    for node in joins:
        arcs = [arc for arc in findings.graph.edges_to(node.id) if findings.can_be_taken(arc)][:_MOST_EDGES]
        if node.config.join == "all":
            _check_all(findings, node, arcs, choices)
        if node.config.join != "any" and _takes_one_value(node):
            _check_values(findings, node, arcs, choices, members.get(node.id, set()))


def _check_all(findings: Findings, node: Node, arcs: list[Arc], choices: Choices) -> None:
    """`all` written explicitly, where only one edge is ever taken: it works, but reads as if both were waited for."""
    found = [choices.between(one, other) for one, other in combinations(arcs, 2)]
    if not found or not all(choice is not None and choice[1][0] != choice[2][0] for choice in found):
        return
    router = found[0][0] if found[0] is not None else ""
    where = findings.line_of(node_path(findings.graph.nodes[router]))
    one, other = arcs[0].source, arcs[1].source
    actions = f"'{one}' and '{other}' are exclusive actions of '{router}'{where}"
    if one == other:
        actions = f"its edges are exclusive actions of '{router}'{where}"
    message = f"joinStrategy 'all' is never met by all edges: {actions}; it runs once one of them is taken"
    findings.warning(node_path(node, "config", "joinStrategy"), message)


def _takes_one_value(node: Node) -> bool:
    """Whether the node's input is what an edge brings; handlers with `params.inputs` choose their values themselves."""
    return (
        node.inputs is None and node.uses not in _TAKES_NO_INPUT and not isinstance(node.params.get("inputs"), Mapping)
    )


def _check_values(findings: Findings, node: Node, arcs: list[Arc], choices: Choices, cycle: set[str]) -> None:
    for one, other in combinations(arcs, 2):
        same = one.source == other.source and one.edge.transform == other.edge.transform
        taken_in_turn = (one.source in cycle) != (other.source in cycle)  # into a loop, and around it
        if same or taken_in_turn or choices.between(one, other) is not None:
            continue
        last = max(one, other, key=lambda arc: arc.index)
        message = (
            f"the edges from '{one.source}' and '{other.source}' may both be taken, and its input is then what "
            f"'{last.source}' brings; name what it needs in 'inputs', such as {{a: {one.source}, b: {other.source}}}"
        )
        findings.warning(node_path(node), message)
        return
