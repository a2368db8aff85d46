"""Types of what a node hands to the blueprint that it calls, as far as they are declared or laid down by the engine."""

from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft_sdk.protocol.misfits import expected
from flowcraft_sdk.protocol.sources import VALUE, Source, is_expression, is_source
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.sources import known_kinds, readable_kind
from flowcraft_server.blueprints.linting.writes import all_known, declared_writes, writes
from flowcraft_server.blueprints.loading.contract import fits
from flowcraft_server.blueprints.model import Blueprint, Node

_LISTS = ("map", "batch-gather")
"""Node kinds whose output is a list, whatever their handler returns."""
_ALIKE = {"list": "array"}


def check_handed_types(findings: Findings, node: Node, child: Blueprint) -> None:
    """Check what is handed over against the types that the child declares of its inputs.

    It is an error where nothing can write another value, and a warning where a handler may.
    """
    handed = node.params.get("inputs")
    for name, source in handed.items() if isinstance(handed, Mapping) else ():
        rule = (child.inputs_contract or {}).get(name)
        if rule is None or not is_source(source):
            continue
        for misfit, certain in _misfits(findings, node, source, rule.get("type", "any")):
            message = f"blueprint '{child.id}' expects {rule.get('type')} for '{name}', and {misfit}"
            note = findings.error if certain else findings.warning
            outcome = "the node would fail" if certain else "the node fails unless a handler writes another value"
            note(node_path(node, "params", "inputs", name), f"{message}: {outcome}")


def check_list_input(findings: Findings, node: Node) -> None:
    """Check the type of what a node takes for a list of items, as far as it is declared or known of an expression.

    It is an error where nothing can write another value, and a warning where a handler may.
    """
    source = node.inputs
    if not isinstance(source, str):
        return
    if is_expression(source):
        kind, certain = readable_kind(source, known_kinds(findings)), False
    else:
        rule = (findings.blueprint.inputs_contract or {}).get(source) or (findings.blueprint.context_keys or {}).get(
            source
        )
        kind = None if rule is None else rule.get("type", "any")
        certain = all_known(findings, findings.blueprint) and not _is_written(findings, source)
    if kind is None or kind == "any" or _goes_into(kind, "array"):
        return
    note = findings.error if certain else findings.warning
    outcome = "the node would fail" if certain else "the node fails unless a handler writes another value"
    note(node_path(node, "inputs"), f"'{node.uses}' works on a list, and '{source}' is {kind}: {outcome}")


def _misfits(findings: Findings, node: Node, source: Source, wanted: str) -> Iterator[tuple[str, bool]]:
    """What speaks against a source, and whether that is certain."""
    if wanted == "any":
        return
    if not isinstance(source, str):
        if not fits(source[VALUE], wanted):
            yield f"its fixed value does not fit: {expected(wanted, source[VALUE])}", True
        return
    if is_expression(source):
        given_kind = readable_kind(source, known_kinds(findings))
        if given_kind is not None and not _goes_into(given_kind, wanted):
            yield f"'{source}' gives a {given_kind}", False
        return
    blueprint = findings.blueprint
    given: Mapping[str, Any] = {**(blueprint.context_keys or {}), **(blueprint.inputs_contract or {})}
    rule = given.get(source)
    if node.uses == "map" and source == "index":
        kind: str | None = "integer"
    elif rule is not None:
        kind = rule.get("type", "any")
    else:
        other = findings.graph.nodes.get(source)
        kind = "array" if other is not None and other.uses in _LISTS and other.config.fallback is None else None
    if kind is None or kind == "any":
        return
    certain = rule is None or (all_known(findings, blueprint) and not _is_written(findings, source))
    if not _goes_into(kind, wanted):
        yield f"'{source}' is {kind}", certain
    elif rule is not None and "default" in rule and not fits(rule["default"], wanted):
        yield f"the default of '{source}' does not fit: {expected(wanted, rule['default'])}", False


def _is_written(findings: Findings, key: str) -> bool:
    written = {name for _, _, name in writes(findings.blueprint)}
    for node in findings.blueprint.nodes:
        written.update(declared_writes(findings, node) or ())
    return key in written


def _goes_into(kind: str, wanted: str) -> bool:
    kind, wanted = _ALIKE.get(kind, kind), _ALIKE.get(wanted, wanted)
    return kind == wanted or (kind, wanted) in (("integer", "number"), ("number", "integer"))
