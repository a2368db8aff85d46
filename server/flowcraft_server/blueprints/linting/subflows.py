"""Subflows: the blueprints that they call, what they hand over, and calls that lead back to where they came from."""

from collections.abc import Iterator, Mapping

from flowcraft_sdk.protocol.context_input import misspelt_inputs
from flowcraft_sdk.protocol.paths import beginnings
from flowcraft_server.blueprints.graph import Graph
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.handed_types import check_handed_types
from flowcraft_server.blueprints.linting.writes import HOW_TO_DECLARE, all_known, written_keys
from flowcraft_server.blueprints.model import Blueprint, Node
from flowcraft_server.blueprints.suggestions import listed


def check_subflows(findings: Findings) -> None:
    """Check every subflow node, and that no node has the name that a node inside of a subflow has from outside."""
    _check_names(findings)
    for node in findings.graph.nodes.values():
        called = called_id(node)
        if called is None:
            continue
        child = findings.blueprints.get(called)
        if child is None:
            near = findings.nearest(called, findings.blueprints)
            known = f"did you mean '{near}'?" if near else f"known: {listed(sorted(findings.blueprints))}"
            findings.error(node_path(node, "params", _key(node)), f"no blueprint '{called}'; {known}")
            continue
        _check_recursion(findings, node, called)
        _check_handed_over(findings, node, child)
        check_handed_types(findings, node, child)
        _check_returned(findings, node, child)


def _check_names(findings: Findings) -> None:
    """Signals name a node of a child run by the way to it, `subflow/node`: no node of this blueprint may be called so."""
    subflows = {node.id for node in findings.graph.nodes.values() if node.uses == "subflow"}
    for node in findings.graph.nodes.values():
        parts = node.id.split("/")
        ways = ("/".join(parts[:count]) for count in range(1, len(parts)))
        way = next((way for way in ways if way in subflows), None)
        if way is not None:
            message = (
                f"'{node.id}' is how signals name a node inside of subflow '{way}'; give it an id without '{way}/'"
            )
            findings.error(node_path(node, "id"), message)


def called_id(node: Node) -> str | None:
    """The id of the blueprint that a node calls, once or for each item of a list, if it calls one."""
    called = node.params.get(_key(node)) if node.uses in ("subflow", "map") else None
    return called if isinstance(called, str) and called else None


def _key(node: Node) -> str:
    return "call" if node.uses == "map" else "blueprintId"


def _check_recursion(findings: Findings, node: Node, called: str) -> None:
    own = findings.blueprint.id
    if own not in _calls_below(findings.blueprints, called):
        return
    path = node_path(node, "params", _key(node))
    how = f"'{called}' calls '{own}' again" if called != own else "the blueprint calls itself"
    always = node.uses == "subflow" and node.id in always_run(findings.graph)
    if always and own in _calls_below(findings.blueprints, called, only_always=True):
        findings.error(path, f"{how}, in every run: it would never end; put the call behind an action or a condition")
    else:
        findings.warning(path, f"{how}; the depth of calls is limited by limits.subflowDepth")


def _calls_below(blueprints: Mapping[str, Blueprint], first: str, *, only_always: bool = False) -> set[str]:
    """All blueprints that a call of this one leads to, itself included."""
    seen = {first}
    pending = [first]
    while pending:
        blueprint = blueprints.get(pending.pop())
        for called in _calls(blueprint, only_always) if blueprint is not None else ():
            if called not in seen:
                seen.add(called)
                pending.append(called)
    return seen


def _calls(blueprint: Blueprint, only_always: bool) -> Iterator[str]:
    callers = [node for node in blueprint.nodes if called_id(node) is not None]
    if not callers:
        return
    always = always_run(Graph(blueprint)) if only_always else None
    for node in callers:
        called = called_id(node)
        if called is not None and (always is None or (node.id in always and node.uses == "subflow")):
            yield called


def always_run(graph: Graph) -> set[str]:
    """Nodes that run in every run that does not fail: reached over edges that are always taken."""
    arcs = {node_id: [arc for arc in arcs if graph.always_taken(arc)] for node_id, arcs in graph.outgoing.items()}
    return graph.reached(graph.starts(), arcs)


def _check_handed_over(findings: Findings, node: Node, child: Blueprint) -> None:
    contract = child.inputs_contract
    if contract is None:
        return
    handed = node.params.get("inputs")
    given = handed if isinstance(handed, Mapping) else {}
    misspelt = {error["loc"][0] for error in misspelt_inputs(contract, given, child.context_keys or ())}
    for name in given:
        if name not in contract and name not in (child.context_keys or ()):
            message = f"blueprint '{child.id}' has no input of this name{findings.meant(name, contract)}"
            note = findings.error if name in misspelt else findings.warning  # a default would be used in its place
            note(node_path(node, "params", "inputs", name), message, key=True)
    if node.uses == "map" and not given:
        return  # the keys of each item
    for name, rule in contract.items():
        if name not in given and "default" not in rule and rule.get("required", True):
            message = f"blueprint '{child.id}' needs the input '{name}', which is not handed over: the node would fail"
            findings.error(node_path(node, "params", "inputs"), message)


def _check_returned(findings: Findings, node: Node, child: Blueprint) -> None:
    """What is certain to be null is an error.

    A handler may write any key, unless it declares what it writes. Where the child says what it takes or returns, a name
    that it does not mention is worth a warning all the same.
    """
    returned = node.params.get("outputs")
    given = node.params.get("inputs")
    known = {child_node.id for child_node in child.nodes} | written_keys(findings, child)
    known |= set(given) if isinstance(given, Mapping) else set()
    known |= set(child.outputs or {})
    certain = all_known(findings, child)
    for name, key in returned.items() if isinstance(returned, Mapping) else ():
        if not isinstance(key, str) or key.startswith("_") or any(part in known for part in beginnings(key)):
            continue
        path = node_path(node, "params", "outputs", name)
        what = "no output, node or key" if child.outputs is not None else "no node or key"
        message = f"'{key}' is {what} of blueprint '{child.id}'"
        near = findings.nearest(key, known, 0.85)
        meant = f"; did you mean '{near}'?" if near is not None else ""
        if certain:
            findings.error(path, f"{message}, and nothing in it writes it{meant}")
        elif meant:
            findings.warning(path, message + meant)
        elif findings.handlers is not None and (child.outputs is not None or child.inputs_contract is not None):
            findings.warning(path, message + HOW_TO_DECLARE)
