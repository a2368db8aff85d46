"""Subflows: the blueprints that they call, what they hand over, and calls that lead back to where they came from."""

from collections.abc import Collection, Mapping
from itertools import chain, islice

from flowcraft_sdk.protocol.bounds import LONGEST_PATH
from flowcraft_sdk.protocol.context_input import misspelt_inputs
from flowcraft_sdk.protocol.paths import beginnings
from flowcraft_server.blueprints.linting.catalog import call_param, called_id
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.handed_types import check_handed_types
from flowcraft_server.blueprints.linting.source_reads import readable, sources_of
from flowcraft_server.blueprints.linting.writes import HOW_TO_DECLARE, all_known, written_keys
from flowcraft_server.blueprints.loading.contract import required_inputs
from flowcraft_server.blueprints.loading.load_context import LONGEST_ID, MOST_REPORTED
from flowcraft_server.blueprints.model import Blueprint, Node
from flowcraft_server.blueprints.suggestions import listed


def check_subflows(findings: Findings) -> None:
    """Check every subflow node, and that no node has the name that a node inside of a subflow has from outside."""
    _check_names(findings)
    for node in findings.graph.nodes.values():
        called = called_id(node)
        if called is None:
            continue
        child = findings.called(called)
        if child is None:
            near = findings.nearest(called, findings.catalog.ids)
            if near is None and findings.catalog.is_partial:
                continue  # a file that cannot be read may have it
            known = f"did you mean '{near}'?" if near else f"known: {listed(findings.catalog.ids)}"
            findings.error(node_path(node, "params", call_param(node)), f"no blueprint '{called}'; {known}")
            continue
        _check_recursion(findings, node, called)
        _check_handed_over(findings, node, child)
        check_handed_types(findings, node, child)
        _check_returned(findings, node, child)


def _check_names(findings: Findings) -> None:
    """Signals name a node of a child run by the way to it, `subflow/node`: no node of this blueprint may be called so."""
    subflows = {node.id for node in findings.graph.nodes.values() if node.uses == "subflow"}
    for node in findings.graph.nodes.values():
        if "/" not in node.id or len(node.id) > LONGEST_ID:  # of a longer one the loader reports it
            continue
        parts = node.id.split("/")
        ways = ("/".join(parts[:count]) for count in range(1, len(parts)))
        way = next((way for way in ways if way in subflows), None)
        if way is not None:
            message = (
                f"'{node.id}' is how signals name a node inside of subflow '{way}'; give it an id without '{way}/'"
            )
            findings.error(node_path(node, "id"), message)


def _check_recursion(findings: Findings, node: Node, called: str) -> None:
    own = findings.blueprint.id
    if not findings.catalog.call_each_other(own, called):
        return
    path = node_path(node, "params", call_param(node))
    how = f"'{called}' calls '{own}' again" if called != own else "the blueprint calls itself"
    always = node.uses == "subflow" and node.id in findings.always_run
    if always and findings.catalog.call_each_other(own, called, always=True):
        findings.error(path, f"{how}, in every run: it would never end; put the call behind an action or a condition")
    else:
        findings.warning(path, f"{how}; the depth of calls is limited by limits.subflowDepth")


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
    needed = findings.keep(child, "needed", lambda: required_inputs(contract))
    for name in islice((name for name in needed if name not in given), MOST_REPORTED):
        message = f"blueprint '{child.id}' needs the input '{name}', which is not handed over: the node would fail"
        path = node_path(node, "params", "inputs")
        findings.lacks(path, message, name, below=path)


def _check_returned(findings: Findings, node: Node, child: Blueprint) -> None:
    """What is certain to be null is an error.

    A handler may write any key, unless it declares what it writes. Where the child says what it takes or returns, a name
    that it does not mention is worth a warning all the same.
    """
    returned = node.params.get("outputs")
    given = node.params.get("inputs")
    known: list[Collection[str]] = [
        findings.keep(child, "ids", lambda: {child_node.id: None for child_node in child.nodes}),
        written_keys(findings, child),
        given if isinstance(given, Mapping) else (),
        child.outputs or (),
    ]
    certain = all_known(findings, child)
    given_back = sources_of(returned, node_path(node, "params", "outputs")) if isinstance(returned, Mapping) else ()
    for path, key in ((path, key) for path, source in given_back for key in readable(source)):
        if key.startswith("_") or len(key) > LONGEST_PATH:  # of a longer one another check reports it
            continue
        if any(part in names for part in beginnings(key) for names in known):
            continue
        what = "no output, node or key" if child.outputs is not None else "no node or key"
        message = f"'{key}' is {what} of blueprint '{child.id}'"
        near = findings.nearest(key, chain.from_iterable(known), 0.85)
        meant = f"; did you mean '{near}'?" if near is not None else ""
        if certain:
            findings.error(path, f"{message}, and nothing in it writes it{meant}")
        elif meant:
            findings.warning(path, message + meant)
        elif findings.handlers is not None and (child.outputs is not None or child.inputs_contract is not None):
            findings.warning(path, message + HOW_TO_DECLARE)
