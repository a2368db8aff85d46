"""Puts a blueprint together from the values of a file."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from flowcraft_sdk._config.source_positions import SourcePositions
from flowcraft_sdk._config.yaml_tree import Entry, Fields, Tree, kind_of
from flowcraft_server.blueprints.loading.contract import read_contract, read_outputs
from flowcraft_server.blueprints.loading.keys import (
    BLUEPRINT_KEYS,
    CONTEXT_KEYS,
    DEFAULTS_KEYS,
    EDITOR_BLUEPRINT_KEYS,
    EDITOR_JSON_KEYS,
)
from flowcraft_server.blueprints.loading.links import Link, check_forms, read_edges
from flowcraft_server.blueprints.loading.load_context import LoadContext
from flowcraft_server.blueprints.loading.node_settings import read_budget, read_config, with_defaults
from flowcraft_server.blueprints.loading.nodes import NodeDraft, read_finally, read_nodes
from flowcraft_server.blueprints.loading.run_limits import read_run_limits
from flowcraft_server.blueprints.loading.test_cases import read_tests
from flowcraft_server.blueprints.model import WAITING_USES, Blueprint, Edge, Node
from flowcraft_server.blueprints.node_config import NOTHING_SET, NodeConfig


class Parts(Protocol):
    """The nodes and edges of a blueprint, if they are read otherwise than from a tree."""

    def read_nodes(self, reading: LoadContext) -> list[NodeDraft]:
        """The nodes."""

    def read_edges(self, reading: LoadContext) -> list[Link]:
        """The edges of the list `edges`."""


def read_blueprint(reading: LoadContext, tree: Tree, default_id: str, parts: Parts | None = None) -> Blueprint | None:
    """The blueprint that a file holds, as far as it can be read; None if the file is no mapping.

    Args:
        parts: what reads the nodes and edges, if these are not in the tree.
    """
    if not isinstance(tree, Fields):
        reading.error(tree.position, "", f"expected a blueprint, a mapping with nodes and edges; got {kind_of(tree)}")
        return None
    ignored = EDITOR_BLUEPRINT_KEYS | EDITOR_JSON_KEYS if reading.lenient else EDITOR_BLUEPRINT_KEYS
    has_nodes = parts is not None or "nodes" in tree.entries
    misplaced = [] if has_nodes else [name for name, each in tree.entries.items() if _is_node(name, each)]
    ignored = ignored.union(misplaced)
    entries = reading.fields(tree, (), BLUEPRINT_KEYS, ignored)
    reading.positions.put((), tree.position)
    for key, entry in entries.items():
        reading.positions.put((key,), entry.value.position, entry.key_position)
    fields = _top(reading, tree, entries, default_id)
    defaults = NOTHING_SET
    if "defaults" in entries:
        defaults = read_config(reading, entries["defaults"].value, ("defaults",), DEFAULTS_KEYS)
    drafts: list[NodeDraft] = []
    if parts is not None:
        drafts = parts.read_nodes(reading)
    elif "nodes" in entries:
        drafts = read_nodes(reading, entries["nodes"].value)
    elif misplaced:
        first = misplaced[0]
        message = f"looks like a node, and nodes stand below 'nodes': write nodes: {{{first}: ...}}"
        reading.lost_node(tree.entries[first].key_position, (first,), message)
    elif ("nodes",) not in reading.meant:  # it is reported under the name that it was written as
        reading.lost_node(tree.position, "nodes", "a blueprint needs nodes")
    if "finally" in entries:
        fields["finally_nodes"] = tuple(read_finally(reading, entries["finally"].value, drafts))
    links = [link for draft in drafts for link in draft.links]
    if parts is not None:
        links += parts.read_edges(reading)
    elif "edges" in entries:
        links += read_edges(reading, entries["edges"].value)
    check_forms(reading, links)
    return Blueprint(
        nodes=tuple(_node(draft, defaults) for draft in drafts),
        edges=tuple(_edges(reading, links) if parts is None else [_without_places(link) for link in links]),
        file=reading.file,
        positions=SourcePositions(reading.positions.keys, reading.positions.values, reading.positions.written),
        complete=reading.complete,
        nodes_known=reading.nodes_known,
        stray_keys=reading.stray_keys,
        **fields,
    )


def _is_node(name: str, entry: Entry) -> bool:
    """Whether a key of the file holds what a node holds."""
    value = entry.value
    return name not in BLUEPRINT_KEYS and isinstance(value, Fields) and bool(value.entries.keys() & {"uses", "call"})


def _top(reading: LoadContext, tree: Fields, entries: Mapping[str, Entry], default_id: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": default_id}
    if "id" in entries:
        fields["id"] = reading.identifier(entries["id"].value, ("id",), "blueprint") or default_id
    else:
        reading.check_identifier(default_id, tree.position, ("id",), "blueprint")
    if "description" in entries:
        fields["description"] = reading.text(entries["description"].value, ("description",)) or ""
    if "inputs" in entries:
        fields["inputs_contract"] = read_contract(reading, entries["inputs"].value)
    if "outputs" in entries:
        fields["outputs"] = read_outputs(reading, entries["outputs"].value)
    if "context" in entries:
        fields["context_keys"] = read_contract(reading, entries["context"].value, ("context",), CONTEXT_KEYS)
    if "onFailure" in entries:
        fields["on_failure"] = (
            reading.choice(entries["onFailure"].value, ("onFailure",), ("stop", "continue")) or "stop"
        )
    if "budget" in entries:
        fields["budget"] = read_budget(reading, entries["budget"].value, ("budget",))
    if "metadata" in entries:
        fields |= _metadata(reading, entries["metadata"].value)
    if "limits" in entries:
        fields["run_limits"] = read_run_limits(reading, entries["limits"].value)
    if "tests" in entries:
        fields["tests"] = read_tests(reading, entries["tests"].value)
    return fields


def _metadata(reading: LoadContext, tree: Tree) -> dict[str, Any]:
    metadata = reading.data(tree, ("metadata",)) if isinstance(tree, Fields) else {}
    entries = reading.any_fields(tree, ("metadata",), "anything")
    metadata.pop("cycleEntryPoints", None)
    entry_points: tuple[str, ...] = ()
    if "cycleEntryPoints" in entries:
        place = ("metadata", "cycleEntryPoints")
        found = reading.texts(entries["cycleEntryPoints"].value, place, "the id of a node")
        entry_points = tuple(name for name, _ in found)
    return {"metadata": metadata, "cycle_entry_points": entry_points}


def _node(draft: NodeDraft, defaults: NodeConfig) -> Node:
    config = draft.config
    if draft.uses in WAITING_USES or (draft.uses == "map" and draft.params.get("call") is not None):
        defaults = replace(
            defaults, timeout_ms=None, timeout_from=None
        )  # meant for handlers; people answer more slowly
    if draft.join is not None:
        config = with_defaults(config, NodeConfig(join="any" if draft.join == "any" else "all"))
    return Node(draft.id, draft.uses, draft.params, draft.inputs, with_defaults(config, defaults))


def _edges(reading: LoadContext, links: list[Link]) -> Iterator[Edge]:
    positions = reading.positions.values
    for index, link in enumerate(links):
        if link.number != index:  # else they were noted when it was read
            for part in ("source", "target", "action", "condition", "transform"):
                # What stands there may be of an edge before it that could not be read: its number is another one's now.
                positions.pop(("edges", index, part), None)
                if part in link.positions:
                    positions["edges", index, part] = link.positions[part]
        positions["edges", index] = link.position
        yield _without_places(link)


def _without_places(link: Link) -> Edge:
    return Edge(link.source, link.target, link.action, link.condition, link.transform, link.place)
