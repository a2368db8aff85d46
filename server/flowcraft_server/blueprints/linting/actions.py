"""Actions that no edge takes, and edges for actions that are never returned."""

from flowcraft_server.blueprints.linting.findings import Actions, Findings, node_path
from flowcraft_server.blueprints.model import BUILTIN_USES, Node
from flowcraft_server.blueprints.suggestions import listed


def check_actions(findings: Findings) -> None:
    """Check the actions of every node, as far as they are known."""
    taken: dict[str, set[str | None]] = {}
    edges = findings.blueprint.edges  # those to nowhere too: another check reports them
    choosing = {edge.source for edge in edges if edge.action is not None}
    for edge in edges if choosing else ():
        if edge.source in choosing:
            taken.setdefault(edge.source, set()).add(edge.action)
    for node in findings.graph.nodes.values() if choosing else ():
        actions = findings.actions_of(node) if node.id in choosing else None
        if actions is not None:
            _check_edges(findings, node, actions)
            _check_untaken(findings, node, actions, taken[node.id])


def _check_edges(findings: Findings, node: Node, actions: Actions) -> None:
    for arc in findings.graph.edges_from(node.id):
        action = arc.edge.action
        if action is None or action in actions:
            continue
        what = f"'{node.id}' ({node.uses})"
        if not actions:
            kind = "a batch or a pause" if node.uses in BUILTIN_USES and node.uses != "subflow" else "it"
            message = f"{what} returns no action: {kind} goes on by edges without one; a condition can choose"
        else:
            returned = listed(f"'{name}'" for name in actions)
            message = f"{what} never returns '{action}'; it returns {returned}{findings.meant(action, actions)}"
        findings.has_wrong_names = True
        findings.error(("edges", arc.index, "action"), message)


def _check_untaken(findings: Findings, node: Node, actions: Actions, taken: set[str | None]) -> None:
    if None in taken:
        return
    known = {node.params.get("onTimeout")} if node.uses in ("wait", "webhook") else set()  # another check reports it
    names = listed(f"'{name}'" for name in actions if not (name and name in taken) and name not in known)
    if not names:
        return
    advice = 'add an edge for it, or one without an action ("*" in next)'
    message = f"may return {names}, which no edge takes: the node would fail; {advice}"
    if node.uses in ("wait", "webhook"):
        message = f"offers {names}, which no edge takes: such an answer is refused; {advice}"
    if node.uses == "loop-controller":
        findings.error(
            node_path(node), f"a loop-controller needs edges for 'continue' and 'break'; there is none for {names}"
        )
    elif node.uses not in BUILTIN_USES or node.params.get("actions"):
        findings.consequence(node_path(node), message)
