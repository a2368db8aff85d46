"""Reads the nodes of a blueprint, in all the forms that they may be written in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk._config.source_positions import Path, SourcePosition
from flowcraft_sdk._config.yaml_tree import Entry, Fields, Items, Scalar, Tree, kind_of
from flowcraft_sdk.protocol.sources import Source
from flowcraft_server.blueprints.loading.contract import read_literal
from flowcraft_server.blueprints.loading.keys import CONFIG_KEYS, EDITOR_NODE_KEYS, NODE_KEYS, OLDER_NODE_KEYS
from flowcraft_server.blueprints.loading.links import Link, read_needs, read_next
from flowcraft_server.blueprints.loading.load_context import LoadContext, is_null, kind_or_text
from flowcraft_server.blueprints.loading.node_settings import read_config
from flowcraft_server.blueprints.node_config import NOTHING_SET, NodeConfig

_DURATION_PARAMS = {"sleep": ("duration", "for"), "wait": ("timeout",), "webhook": ("timeout",)}
_OLDER_SUBFLOW = ("sub-workflow", "subflow")
_FIXED_VALUES = "; a fixed value is written {value: ...}, an expression begins with ="


@dataclass(slots=True)
class NodeDraft:
    """A node as far as it is read, and the edges that were written with it."""

    id: str
    position: SourcePosition
    uses: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    inputs: str | Mapping[str, Source] | None = None
    config: NodeConfig = NOTHING_SET
    join: str | None = None
    links: list[Link] = field(default_factory=list)


def read_finally(reading: LoadContext, tree: Tree, drafts: list[NodeDraft]) -> list[str]:
    """The nodes that run however a run ends: nodes as in `nodes`, which are added to these, or ids of such as stand there.

    Returns:
        Their ids.
    """
    reading.positions.put(("finally",), tree.position)
    if isinstance(tree, Items) and tree.items and all(isinstance(item, Scalar) for item in tree.items):
        return list(dict.fromkeys(name for name, _ in reading.texts(tree, ("finally",), "the id of a node")))
    if not isinstance(tree, Fields | Items) or not (tree.entries if isinstance(tree, Fields) else tree.items):
        reading.lost_node(
            tree.position, ("finally",), f"expected nodes, or a list of ids of nodes; got {kind_or_text(tree)}"
        )
        return []
    first = len(drafts)
    drafts += read_nodes(reading, tree, ("nodes",), {draft.id: draft for draft in drafts})
    added = [draft.id for draft in drafts[first:]]
    for node_id in added:
        reading.positions.written.setdefault(("nodes", node_id), ("finally", node_id))
    return added


def read_nodes(
    reading: LoadContext, tree: Tree, path: Path = ("nodes",), others: Mapping[str, NodeDraft] | None = None
) -> list[NodeDraft]:
    """The nodes of a list or of a mapping by id.

    Args:
        others: nodes that were read before, whose ids are taken.
    """
    drafts: dict[str, NodeDraft] = dict(others or {})
    before = len(drafts)
    if not others:
        reading.positions.put(path, tree.position)
    for node_id, position, fields in _identified(reading, tree, path):
        if node_id in drafts:
            first = drafts[node_id].position
            place = f"line {first.line}, column {first.column}"
            reading.lost(position, (*path, node_id), f"a second node '{node_id}' (first at {place})")
            continue
        draft = NodeDraft(node_id, position)
        drafts[node_id] = draft
        reading.positions.put((*path, node_id), fields.position, position)
        reading.positions.put((*path, node_id, "id"), position)
        if isinstance(fields, Fields):
            _read_node(reading, fields, draft, (*path, node_id))
    if not drafts and reading.complete:
        reading.error(tree.position, path, "a blueprint needs at least one node")
    return list(drafts.values())[before:]


def _identified(reading: LoadContext, tree: Tree, path: Path) -> Iterator[tuple[str, SourcePosition, Tree]]:
    """The nodes that have an id, each with its id and where that stands, and what stands there."""
    if isinstance(tree, Fields):
        for name, entry in tree.entries.items():
            reading.check_identifier(name, entry.key_position, (*path, name), "node")
            if isinstance(entry.value, Fields):
                _check_own_id(reading, name, entry.value, path)
            else:
                got = kind_of(entry.value)
                reading.error(
                    entry.value.position, (*path, name), f"expected a mapping with uses, inputs, ...; got {got}"
                )
            yield name, entry.key_position, entry.value
    elif isinstance(tree, Items):
        for index, item in enumerate(tree.items):
            if not isinstance(item, Fields):
                reading.lost_node(
                    item.position, (*path, index), f"expected a mapping with id, uses, ...; got {kind_of(item)}"
                )
                continue
            own = item.entries.get("id")
            node_id = reading.identifier(own.value, (*path, index, "id"), "node") if own else None
            if own is None:
                reading.error(item.position, (*path, index), "a node needs an 'id'")
            if own is not None and node_id is not None:
                yield node_id, own.value.position, item
            else:
                reading.complete = reading.nodes_known = False
    else:
        reading.lost_node(
            tree.position, path, f"expected a mapping of nodes by id, or a list of nodes; got {kind_of(tree)}"
        )


def _check_own_id(reading: LoadContext, name: str, fields: Fields, path: Path) -> None:
    own = fields.entries.get("id")
    if own is not None and isinstance(own.value, Scalar) and not is_null(own.value) and own.value.text != name:
        reading.error(
            own.value.position, (*path, name, "id"), f"'{own.value.text}' is not the key '{name}' it stands under"
        )


def _read_node(reading: LoadContext, fields: Fields, draft: NodeDraft, path: Path) -> None:
    older = "uses" not in fields.entries and "call" not in fields.entries and "type" in fields.entries
    ignored = EDITOR_NODE_KEYS - {"type", "data"} if older else EDITOR_NODE_KEYS
    entries = reading.fields(fields, path, OLDER_NODE_KEYS if older else NODE_KEYS, ignored)
    for key, entry in entries.items():
        reading.positions.put((*path, key), entry.value.position, entry.key_position)
    if "config" in entries:
        draft.config = read_config(reading, entries["config"].value, (*path, "config"), CONFIG_KEYS)
    if "call" in entries:
        _read_call(reading, entries, draft, path)
    else:
        _read_plain(reading, entries, draft, path, older)
    if "needs" in entries:
        draft.join = read_needs(reading, draft.id, entries["needs"].value, (*path, "needs"), draft.links)
        _check_join(reading, draft, entries["needs"].value, (*path, "needs"))
    if "next" in entries:
        read_next(reading, draft.id, entries["next"].value, (*path, "next"), draft.links)


def _read_plain(reading: LoadContext, entries: Mapping[str, Entry], draft: NodeDraft, path: Path, older: bool) -> None:
    uses, params = ("type", "data") if older else ("uses", "params")
    if older:
        reading.positions.written |= {(*path, "uses"): (*path, "type"), (*path, "params"): (*path, "data")}
    if uses in entries:
        draft.uses = reading.text(entries[uses].value, (*path, "uses"), "the name of a handler") or ""
    elif (*path, "uses") not in reading.meant:
        reading.error(
            draft.position, path, "a node needs 'uses', the name of its handler (or 'call', a blueprint's id)"
        )
    if params in entries:
        draft.params = _params(reading, entries[params], draft, path, older)
    if "inputs" in entries:
        draft.inputs = _inputs(reading, entries["inputs"].value, (*path, "inputs"))
    if "outputs" in entries:
        message = "'outputs' goes with 'call'; with 'uses: subflow' it stands in 'params'"
        reading.error(entries["outputs"].key_position, (*path, "outputs"), message)


def _params(reading: LoadContext, entry: Entry, draft: NodeDraft, path: Path, older: bool) -> dict[str, Any]:
    place = (*path, "params")
    if not isinstance(entry.value, Fields):
        reading.error(entry.value.position, place, f"expected a mapping; got {kind_of(entry.value)}")
        return {}
    fields = entry.value
    if older and draft.uses in _OLDER_SUBFLOW:
        draft.uses = "subflow"
        if "workflowId" in fields.entries:
            reading.positions.written[(*place, "blueprintId")] = (*path, "data", "workflowId")
        renamed = {"blueprintId" if name == "workflowId" else name: item for name, item in fields.entries.items()}
        fields = Fields(renamed, fields.position)
    reading.positions.put(place, fields.position, entry.key_position)
    params: dict[str, Any] = reading.data(fields, place)
    for name in _DURATION_PARAMS.get(draft.uses, ()):
        if name in fields.entries:
            reading.has_unit(fields.entries[name].value, (*place, name))
    key = {"subflow": "blueprintId", "map": "call"}.get(draft.uses)
    called = fields.entries.get(key) if key is not None else None
    if key is not None and called is not None and isinstance(called.value, Scalar):
        params[key] = None if is_null(called.value) else called.value.text
    return params


def _inputs(reading: LoadContext, tree: Tree, path: Path) -> str | dict[str, Source] | None:
    if not isinstance(tree, Fields):
        return _input(reading, tree, path)
    found: dict[str, Source] = {}
    for name, entry in tree.entries.items():
        source = read_literal(reading, entry.value, (*path, name)) or _input(reading, entry.value, (*path, name))
        reading.positions.keys[(*path, name)] = entry.key_position
        if source is not None:
            found[name] = source
    return found


def _input(reading: LoadContext, tree: Tree, path: Path) -> str | None:
    value = tree.value if isinstance(tree, Scalar) else None
    if isinstance(value, str) and value.strip():
        reading.positions.put(path, tree.position)
        return value
    if isinstance(value, int) and not isinstance(value, bool):  # nodes may be called 1, 2, 3
        return reading.text(tree, path)
    hint = f"the path of a value, such as the id of a node or a key of the context{_FIXED_VALUES}"
    reading.error(tree.position, path, f"expected {hint}; got {kind_or_text(tree)}")
    return None


def _read_call(reading: LoadContext, entries: Mapping[str, Entry], draft: NodeDraft, path: Path) -> None:
    """`call: id` with `inputs` and `outputs` is a subflow node."""
    for other in ("uses", "params"):
        if other in entries:
            reading.error(entries[other].key_position, (*path, other), f"'call' and '{other}' do not go together")
    place = (*path, "params")
    reading.positions.written |= {
        (*place, "blueprintId"): (*path, "call"),
        (*place, "inputs"): (*path, "inputs"),
        (*place, "outputs"): (*path, "outputs"),
    }
    called = reading.identifier(entries["call"].value, (*place, "blueprintId"), "blueprint")
    if called is None:
        return
    draft.uses = "subflow"
    draft.params["blueprintId"] = called
    for name in ("inputs", "outputs"):
        if name not in entries:
            continue
        tree = entries[name].value
        if name == "inputs" and not isinstance(tree, Fields):
            draft.inputs = _input(reading, tree, (*path, name))
            continue
        reading.any_fields(tree, (*path, name), "names to paths")
        reading.positions.put((*place, name), tree.position, entries[name].key_position)
        mapped = _inputs(reading, tree, (*place, name)) if isinstance(tree, Fields) else {}
        draft.params[name] = mapped


def _check_join(reading: LoadContext, draft: NodeDraft, tree: Tree, path: Path) -> None:
    if draft.join is not None and draft.config.join not in (None, draft.join):
        reading.error(tree.position, path, f"says '{draft.join}', but config.joinStrategy says '{draft.config.join}'")
