"""What `flowcraft blueprint` prints for people."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from flowcraft_server.blueprints.analysis import analyze
from flowcraft_server.blueprints.difference import MISSING, Change, Difference
from flowcraft_server.blueprints.model import Edge

from .blueprint_source import FoundBlueprint
from .terminal import console, table, write

LONGEST_VALUE = 100
SHOWN_HASH = 12


def print_blueprints(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a table of blueprints."""
    from rich.text import Text

    shown = table("blueprint", "version", "nodes", "file", "")
    for row in rows:
        version = (row["version"] or "has errors")[:SHOWN_HASH]
        cells = (row["id"], version, str(row["nodes"]), row["file"] or "", " ".join(row["description"].split()))
        shown.add_row(*(Text(cell) for cell in cells))
    console().print(shown)


def print_analysis(found: FoundBlueprint) -> None:
    """Print the shape of a blueprint, and what the linter says of it."""
    blueprint, shape = found.blueprint, analyze(found.blueprint)
    facts = {
        "blueprint": f"{blueprint.id} ({found.version[:SHOWN_HASH] or 'has errors'}, {found.origin})",
        "about": " ".join(blueprint.description.split()),
        "inputs": ", ".join(_input(name, rule) for name, rule in (blueprint.inputs_contract or {}).items()),
        "outputs": ", ".join(blueprint.outputs or ()),
        "nodes": f"{shape.node_count}: {_uses(found)}",
        "edges": str(shape.edge_count),
        "starts": ", ".join(shape.start_nodes) or "none",
        "ends": ", ".join(shape.terminal_nodes) or "none",
        "finally": ", ".join(blueprint.finally_nodes),
        "cycles": "; ".join(" -> ".join((*cycle, cycle[0])) for cycle in shape.cycles) or "none",
        "tests": str(len(blueprint.tests) or ""),
        "findings": str(len(found.findings) or "none"),
    }
    for name, value in facts.items():
        if value:
            write(f"{name:<10} ", bold=True, end=False)
            write(value)
    for finding in found.findings:
        write(f"  {finding}", colour="yellow" if finding.severity == "warning" else "red")


def _input(name: str, rule: Mapping[str, Any]) -> str:
    optional = "default" in rule or not rule.get("required", True)
    return f"{name}{'?' if optional else ''}: {rule.get('type', 'any')}"


def _uses(found: FoundBlueprint) -> str:
    names = list(dict.fromkeys(node.uses for node in found.blueprint.nodes))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more kinds" if len(names) > 8 else "")


def print_difference(before: FoundBlueprint, after: FoundBlueprint, found: Difference) -> None:
    """Print what differs between two blueprints."""
    if found.empty:
        write("no difference")
        return
    for sign, side in (("---", before), ("+++", after)):
        write(f"{sign} {side.blueprint.id} ({side.version[:SHOWN_HASH] or 'has errors'}, {side.origin})", bold=True)
    uses = {node.id: node.uses for side in (before, after) for node in side.blueprint.nodes}
    _removed_and_added(
        "nodes",
        [f"{node_id} (uses {uses[node_id]})" for node_id in found.nodes_removed],
        [f"{node_id} (uses {uses[node_id]})" for node_id in found.nodes_added],
        found.nodes_changed,
    )
    _removed_and_added(
        "edges",
        [_edge(edge, full=True) for edge in found.edges_removed],
        [_edge(edge, full=True) for edge in found.edges_added],
        {_edge(edge): changes for edge, changes in found.edges_changed},
    )
    if found.settings:
        write("settings")
        _print_changes(found.settings, "  ")
    for what in found.reordered:
        write(f"{what} stand in another order")


def _removed_and_added(
    what: str, removed: list[str], added: list[str], changed: Mapping[str, tuple[Change, ...]]
) -> None:
    if not (removed or added or changed):
        return
    write(what)
    for line in removed:
        write(f"  - {line}", colour="red")
    for line in added:
        write(f"  + {line}", colour="green")
    for line, changes in changed.items():
        write(f"  ~ {line}", colour="yellow")
        _print_changes(changes, "      ")


def _print_changes(changes: Iterable[Change], indent: str) -> None:
    for change in changes:
        write(f"{indent}{change.path}: {_value(change.before)} -> {_value(change.after)}")


def _edge(edge: Edge, *, full: bool = False) -> str:
    arrow = f"-[{edge.action}]->" if edge.action is not None else "->"
    parts = [("if", edge.condition), ("transform", edge.transform)] if full else []
    more = "".join(f" {word} {_value(text)}" for word, text in parts if text is not None)
    return f"{edge.source} {arrow} {edge.target}{more}"


def _value(value: Any) -> str:
    if value is MISSING:
        return "(none)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
