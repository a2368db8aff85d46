"""Versions of a blueprint on its page, and the picture of what differs between two of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowcraft_sdk import AsyncClient, BlueprintVersion
from flowcraft_server.api.access import Principal
from flowcraft_server.blueprints.difference import MISSING, Change, Difference, difference
from flowcraft_server.blueprints.model import Blueprint, Edge

from .drawing import Drawing, Layouts, Marks, draw
from .published import blueprint_of
from .rendering import Renderer

MOST_CHANGES = 200
"""Rows of the list of changes."""


@dataclass(frozen=True)
class ChangeRow:
    """A line of what differs.

    Attributes:
        state: `added`, `removed` or `changed`.
        what: The node, the edge or the setting.
        path: Where in it.
        before: The value in the older version; None where it has none.
        after: The value in the newer version; None where it has none.
    """

    state: str
    what: str
    path: str = ""
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What differs between an older version and the current one.

    Attributes:
        version: Plan hash of the older version.
        drawing: Both in one picture; None if one of them cannot be read.
        counts: How many nodes were added, removed and changed.
        rows: What differs.
        left_out: How many more rows there are.
    """

    version: str
    drawing: Drawing | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    rows: tuple[ChangeRow, ...] = ()
    left_out: int = 0


async def comparison_of(
    pages: Renderer, principal: Principal, layouts: Layouts, version: str, current: BlueprintVersion
) -> Comparison:
    """Compare a version of a blueprint with its current one."""
    client: AsyncClient = pages.client
    before = await blueprint_of(client, current.id, version)
    after = await blueprint_of(client, current.id, current.version)
    if before is None or after is None:
        return Comparison(version)
    found = difference(before, after)
    rows = _rows(pages, principal, found)
    marks = marks_of(found)
    return Comparison(
        version=version,
        drawing=draw(layouts, f"{version}..{current.version}", both(before, after), marks=marks),
        counts={state: list(marks.nodes.values()).count(state) for state in ("added", "removed", "changed")},
        rows=tuple(rows[:MOST_CHANGES]),
        left_out=max(0, len(rows) - MOST_CHANGES),
    )


def both(before: Blueprint, after: Blueprint) -> Blueprint:
    """A blueprint with the nodes and edges of two versions, for a picture of both."""
    known = {node.id for node in after.nodes}
    edges = {_key(edge) for edge in after.edges}
    return replace(
        after,
        nodes=(*after.nodes, *(node for node in before.nodes if node.id not in known)),
        edges=(*after.edges, *(edge for edge in before.edges if _key(edge) not in edges)),
    )


def marks_of(found: Difference) -> Marks:
    """How the picture of both versions marks what differs."""
    nodes = dict.fromkeys(found.nodes_added, "added") | dict.fromkeys(found.nodes_removed, "removed")
    edges = {_key(edge): "added" for edge in found.edges_added} | {
        _key(edge): "removed" for edge in found.edges_removed
    }
    return Marks(
        nodes | dict.fromkeys(found.nodes_changed, "changed"),
        edges | {_key(edge): "changed" for edge, _ in found.edges_changed},
    )


def _key(edge: Edge) -> tuple[str, str, str | None]:
    return edge.source, edge.target, edge.action


def _rows(pages: Renderer, principal: Principal, found: Difference) -> list[ChangeRow]:
    rows = [ChangeRow("added", f"node {node}") for node in found.nodes_added]
    rows += [ChangeRow("removed", f"node {node}") for node in found.nodes_removed]
    for node, changes in found.nodes_changed.items():
        rows += [_row(pages, principal, f"node {node}", change) for change in changes]
    rows += [ChangeRow("added", f"edge {_words(edge)}") for edge in found.edges_added]
    rows += [ChangeRow("removed", f"edge {_words(edge)}") for edge in found.edges_removed]
    for edge, changes in found.edges_changed:
        rows += [_row(pages, principal, f"edge {_words(edge)}", change) for change in changes]
    rows += [_row(pages, principal, "blueprint", change) for change in found.settings]
    return rows + [ChangeRow("changed", f"order of {what}") for what in found.reordered]


def _row(pages: Renderer, principal: Principal, what: str, change: Change) -> ChangeRow:
    state = "added" if change.before is MISSING else "removed" if change.after is MISSING else "changed"

    def shown(value: Any) -> str | None:
        return None if value is MISSING else pages.shown(principal, value, change.path.rpartition(".")[2])

    return ChangeRow(state, what, change.path, shown(change.before), shown(change.after))


def _words(edge: Edge) -> str:
    return f"{edge.source} → {edge.target}" + (f" [{edge.action}]" if edge.action else "")
