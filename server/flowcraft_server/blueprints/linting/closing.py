"""What a run closes with: `finally` and the compensations of `config.compensate`."""

from collections.abc import Iterator

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.sources import MOMENT
from flowcraft_server.blueprints.model import Node

MOST_FINALLY = 100
"""Nodes of `finally`: those that nothing leads to are made ready in one step."""

_PARTS_OF_OTHERS = ("loop-controller", "batch-scatter", "batch-gather")


def check_closing(findings: Findings) -> None:
    """Check that the closing nodes are there, and apart from all others."""
    last = frozenset(findings.blueprint.finally_nodes)
    nodes = findings.graph.nodes
    for node_id in findings.blueprint.finally_nodes:
        if node_id not in nodes and findings.blueprint.nodes_known:
            findings.has_wrong_names = True
            findings.error(("finally",), f"no node '{node_id}'{findings.meant(node_id, nodes)}")
    if len(last) > MOST_FINALLY:
        findings.error(("finally",), f"{len(last)} nodes: {MOST_FINALLY} at most run at the end")
    if nodes and not nodes.keys() - findings.blueprint.closing_nodes:
        findings.error(
            ("nodes",), "every node is one that a run closes with; a blueprint needs one that it begins with"
        )
    _check_borders(findings, last)
    for node in nodes.values():
        if node.config.compensate is not None:
            _check_compensated(findings, node, node.config.compensate, last)
    for node_id in findings.blueprint.closing_nodes:
        if node_id in nodes:
            _check_closing_node(findings, nodes[node_id])


def _check_borders(findings: Findings, last: frozenset[str]) -> None:
    for arc in findings.graph.all_arcs():
        if (arc.source in last) == (arc.target in last):
            continue
        path: Path = ("edges", arc.index)
        if arc.kind != "edge":
            name = ("config", "fallback") if arc.kind == "fallback" else ("params", "gatherNodeId")
            path = node_path(findings.graph.nodes[arc.source], *name)
        inside, outside = (arc.source, arc.target) if arc.source in last else (arc.target, arc.source)
        findings.error(path, f"'{inside}' is in 'finally' and '{outside}' is not: no edge leads in or out of it")


def _check_compensated(findings: Findings, node: Node, name: str, last: frozenset[str]) -> None:
    path, nodes = node_path(node, "config", "compensate"), findings.graph.nodes
    if name not in nodes:
        if findings.blueprint.nodes_known:
            findings.has_wrong_names = True
            findings.error(path, f"no node '{name}'{findings.meant(name, nodes)}")
        return
    for wrong in _wrong(findings, node, nodes[name], last):
        findings.error(path, wrong)


def _wrong(findings: Findings, node: Node, compensation: Node, last: frozenset[str]) -> Iterator[str]:
    name, compensations = compensation.id, findings.blueprint.compensations
    if name == node.id:
        yield "a node cannot compensate itself"
    elif node.id in last or node.id in compensations:
        what = "a node of 'finally'" if node.id in last else "a compensation"
        yield f"{what} is not compensated: what it does stays done"
    elif name in last:
        yield f"'{name}' is in 'finally': it runs in any case, and cannot be a compensation as well"
    elif compensation.uses in _PARTS_OF_OTHERS:
        yield f"'{name}' uses '{compensation.uses}', which works together with other nodes; a compensation stands alone"
    elif findings.graph.incoming[name] or findings.graph.outgoing[name]:
        yield f"'{name}' has edges or a fallback, or is one: a compensation stands alone; a subflow can have several steps"


def _check_closing_node(findings: Findings, node: Node) -> None:
    waits = node.uses in ("wait", "webhook") and node.params.get("timeout") is None and node.params.get(MOMENT) is None
    calls = node.uses == "subflow" and node.config.timeout_ms is None and node.config.timeout_from is None
    if waits or calls:
        key = ("params", "timeout") if waits else ("config", "timeout")
        findings.warning(node_path(node, *key), "without a timeout it may keep the run from ending")
