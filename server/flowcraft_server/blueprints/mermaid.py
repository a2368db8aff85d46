"""A blueprint as a Mermaid diagram."""

import re
from collections.abc import Mapping

from flowcraft_server.blueprints.compiling.loops import LOOP_CONTROLLER
from flowcraft_server.blueprints.graph import Arc, Graph
from flowcraft_server.blueprints.model import Blueprint, Node

_PLAIN_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")
_RESERVED = frozenset(
    {"call", "class", "classdef", "click", "default", "direction", "end", "flowchart", "graph", "href", "linkstyle",
     "o", "style", "subgraph", "td", "x"}
)  # fmt: skip
_SHAPES = {
    "subflow": ("[[", "]]"),
    LOOP_CONTROLLER: ("{{", "}}"),
    "batch-scatter": ("[/", "\\]"),
    "batch-gather": ("[\\", "/]"),
    "map": ("[/", "/]"),
    "wait": ("([", "])"),
    "sleep": ("([", "])"),
    "webhook": ("([", "])"),
}
_COLOURS = {
    "completed": "fill:#d4edda,stroke:#2e7d32",
    "failed": "fill:#f8d7da,stroke:#b71c1c",
    "caught": "fill:#ffe5cc,stroke:#e65100",
    "running": "fill:#cce5ff,stroke:#0d47a1",
    "retrying": "fill:#fff3cd,stroke:#e65100",
    "waiting": "fill:#e2d9f3,stroke:#4527a0",
    "ready": "fill:#e3f2fd,stroke:#64b5f6",
    "skipped": "fill:#eeeeee,stroke:#9e9e9e,color:#757575",
    "cancelled": "fill:#eeeeee,stroke:#616161,stroke-dasharray:4",
}
_LONGEST_LABEL = 60


def to_mermaid(blueprint: Blueprint, statuses: Mapping[str, str] | None = None) -> str:
    """The source of a Mermaid flowchart.

    Args:
        statuses: for a picture of a run, states such as `completed` by node id; they colour the nodes.
    """
    graph = Graph(blueprint)
    names = _names(graph)
    starts = set(graph.starts())
    lines = ["flowchart TD"]
    last = set(blueprint.finally_nodes)
    boxes = {node_id: f"{names[node_id]}{_box(node, node_id in starts)}" for node_id, node in graph.nodes.items()}
    lines += [f"    {box}" for node_id, box in boxes.items() if node_id not in last]
    if inside := [box for node_id, box in boxes.items() if node_id in last]:
        lines += ['    subgraph closing ["finally"]', *(f"        {box}" for box in inside), "    end"]
    lines += [f"    {_drawn(arc, names)}" for node_id in graph.nodes for arc in graph.outgoing[node_id]]
    lines += [
        f'    {names[node.id]} -. "compensate" .-> {names[node.config.compensate]}'
        for node in graph.nodes.values()
        if node.config.compensate in names
    ]
    lines += _coloured(names, statuses or {})
    return "\n".join(lines) + "\n"


def _names(graph: Graph) -> dict[str, str]:
    """What nodes are called in the source: their ids if all of those are harmless, else numbers."""
    if all(_PLAIN_ID.fullmatch(node_id) and node_id.lower() not in _RESERVED for node_id in graph.nodes):
        return {node_id: node_id for node_id in graph.nodes}
    return {node_id: f"n{index}" for index, node_id in enumerate(graph.nodes)}


def _box(node: Node, is_start: bool) -> str:
    text = node.id
    called = node.params.get({"subflow": "blueprintId", "map": "call"}.get(node.uses, ""))
    if isinstance(called, str):
        text += f" ({called})"
    opening, closing = _SHAPES.get(node.uses, ("(", ")") if is_start else ("[", "]"))
    return f"{opening}{_label(text)}{closing}"


def _drawn(arc: Arc, names: Mapping[str, str]) -> str:
    source, target = names[arc.source], names[arc.target]
    if arc.kind != "edge":
        label = "fallback" if arc.kind == "fallback" else "items"
        return f'{source} -. "{label}" .-> {target}'
    parts = [arc.edge.action or ""]
    if arc.edge.condition is not None:
        parts.append(f"if {arc.edge.condition}")
    if arc.edge.transform is not None:
        parts.append(f"= {arc.edge.transform}")
    text = " ".join(part for part in parts if part)
    return f"{source} -->|{_label(text)}| {target}" if text else f"{source} --> {target}"


def _label(text: str) -> str:
    """A text in quotes, in which nothing has a meaning to Mermaid or to HTML."""
    flat = " ".join(text.split())
    if len(flat) > _LONGEST_LABEL:
        flat = flat[: _LONGEST_LABEL - 1] + "…"
    safe = "".join(char if char.isalnum() or char in " _-.,()…" else f"#{ord(char)};" for char in flat)
    return f'"{safe or " "}"'


def _coloured(names: Mapping[str, str], statuses: Mapping[str, str]) -> list[str]:
    by_status: dict[str, list[str]] = {}
    for node_id, status in statuses.items():
        if node_id in names and status in _COLOURS:
            by_status.setdefault(status, []).append(names[node_id])
    lines = [f"    classDef {status} {_COLOURS[status]}" for status in _COLOURS if status in by_status]
    return lines + [f"    class {','.join(by_status[status])} {status}" for status in _COLOURS if status in by_status]
