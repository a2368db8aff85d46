"""Reads edges: the list `edges` in its long and short forms, and `needs` and `next` of nodes."""

import re
from dataclasses import dataclass, field

from flowcraft_sdk._config.source_positions import Path, SourcePosition, written_path
from flowcraft_sdk._config.yaml_quoting import in_quotes
from flowcraft_sdk._config.yaml_tree import Fields, Items, Scalar, Tree, kind_of, shortened
from flowcraft_server.blueprints.loading.keys import EDGE_KEYS, EDITOR_EDGE_KEYS, word_of_another
from flowcraft_server.blueprints.loading.load_context import LoadContext, is_blank, is_null

_ARROW = re.compile(
    r"-\[(?P<action>[^\]]{0,1000}+)\]->|->"
)  # possessive: a bracket that is not closed costs no way back
ANY_ACTION = "*"


@dataclass(slots=True)
class Link:
    """An edge as it was written.

    Attributes:
        form: which way: `edges`, `needs` or `next`.
        place: its path in the file.
        positions: where its parts stand, by the part's name.
        number: its place in the list `edges`; -1 if it stands elsewhere.
    """

    form: str
    source: str
    target: str
    position: SourcePosition
    place: str
    action: str | None = None
    condition: str | None = None
    transform: str | None = None
    positions: dict[str, SourcePosition] = field(default_factory=dict)
    number: int = -1


def read_needs(reading: LoadContext, node_id: str, tree: Tree, path: Path, links: list[Link]) -> str | None:
    """`needs: a`, `needs: [a, b]` or `needs: {any: [a, b]}`: edges to this node; returns the join that it names."""
    join = None
    if isinstance(tree, Fields):
        if len(tree.entries) != 1 or not set(tree.entries) <= {"any", "all"}:
            reading.lost(tree.position, path, "expected ids, or {any: [ids]} or {all: [ids]}")
            return None
        join, entry = next(iter(tree.entries.items()))
        tree, path = entry.value, (*path, join)
    seen = set()
    for source, position in _ids(reading, tree, path):
        if source in seen:
            reading.error(position, path, f"'{source}' is named twice")
            continue
        seen.add(source)
        links.append(Link("needs", source, node_id, position, written_path(path), positions={"source": position}))
    return join


def read_next(reading: LoadContext, node_id: str, tree: Tree, path: Path, links: list[Link]) -> None:
    """`next: b`, `next: [b, c]`, or by action `next: {yes: b, "*": c}`: edges from this node."""
    if not isinstance(tree, Fields):
        _add_next(reading, node_id, None, tree, path, links)
        return
    for action, entry in tree.entries.items():
        named = None if action == ANY_ACTION else action
        if named == "":
            reading.lost(entry.key_position, path, 'an action is not empty; for any other action write "*"')
            continue
        _add_next(reading, node_id, named, entry.value, (*path, action), links, entry.key_position)


def _add_next(
    reading: LoadContext,
    node_id: str,
    action: str | None,
    tree: Tree,
    path: Path,
    links: list[Link],
    key: SourcePosition | None = None,
) -> None:
    for target, position in _ids(reading, tree, path):
        link = Link("next", node_id, target, position, written_path(path), action, positions={"target": position})
        if action is not None and key is not None:
            link.positions["action"] = key
        links.append(link)


def _ids(reading: LoadContext, tree: Tree, path: Path) -> list[tuple[str, SourcePosition]]:
    found = reading.texts(tree, path, "the id of a node")
    if len(found) != (len(tree.items) if isinstance(tree, Items) else 1):
        reading.complete = False
    return found


def read_edges(reading: LoadContext, tree: Tree, path: Path = ("edges",)) -> list[Link]:
    """The edges of a list, or of a mapping by id as graph editors keep it."""
    links: list[Link] = []
    reading.positions.put(path, tree.position)
    if isinstance(tree, Fields):
        items = [entry.value for entry in tree.entries.values()]
    elif isinstance(tree, Items):
        items = list(tree.items)
    else:
        hint = f"; write [{in_quotes(tree.text)}]" if isinstance(tree, Scalar) and "->" in tree.text else ""
        reading.lost(tree.position, path, f"expected a list of edges; got {kind_of(tree)}{hint}")
        return []
    for index, item in enumerate(items):
        place = (*path, index)
        if isinstance(item, Fields) and (len(item.entries) > 1 or not _is_short_in_braces(item)):
            link = _long_form(reading, item, place, index)
            if link is not None:
                links.append(link)
        elif isinstance(item, Scalar) and not is_null(item):
            links += _short_form(reading, item, place, index)
        else:
            got, meant = kind_of(item), _as_text(item)
            hint = f"; write {meant}" if meant else ""
            reading.lost(
                item.position, place, f"expected {{source, target}} or a text such as 'a -> b'; got {got}{hint}"
            )
    return links


def _is_short_in_braces(tree: Fields) -> bool:
    """`{a -> b}` or `a: b`: a mapping of one key that is none of an edge's."""
    return len(tree.entries) == 1 and not set(tree.entries) & {*EDGE_KEYS, *EDITOR_EDGE_KEYS} and bool(_as_text(tree))


def _as_text(tree: Tree) -> str:
    """The short form of an edge that was written as a list or in braces; '' if it may have been meant otherwise."""
    if isinstance(tree, Fields):
        name, entry = next(iter(tree.entries.items()))
        if is_null(entry.value):
            return in_quotes(name) if "->" in name else ""
        ends = [name, entry.value.text] if isinstance(entry.value, Scalar) else []
        return in_quotes(" -> ".join(ends)) if ends and word_of_another(name, EDGE_KEYS) is None else ""
    parts = [item.text for item in tree.items if isinstance(item, Scalar)] if isinstance(tree, Items) else []
    if not parts or not isinstance(tree, Items) or len(parts) != len(tree.items):
        return ""
    if len(parts) == 1:
        return in_quotes(parts[0]) if "->" in parts[0] else ""
    shapes = {2: "{} -> {}", 3: "{} -[{}]-> {}"}
    return in_quotes(shapes[len(parts)].format(*parts)) if len(parts) in shapes else ""


def _long_form(reading: LoadContext, tree: Fields, path: Path, number: int) -> Link | None:
    entries = reading.fields(tree, path, EDGE_KEYS, EDITOR_EDGE_KEYS)
    texts: dict[str, str] = {}
    positions: dict[str, SourcePosition] = {}
    for key in EDGE_KEYS:
        if key in entries:
            value = entries[key].value
            if type(value) is Scalar and value.text and type(value.value) is str:  # as most are
                text: str | None = value.text
                reading.positions.values[(*path, key)] = value.position
            else:
                text = _edge_text(reading, key, value, path)
            if text is not None:
                texts[key], positions[key] = text, value.position
        elif key in ("source", "target") and (*path, key) not in reading.meant:
            reading.lost(tree.position, path, f"an edge needs '{key}', the id of a node")
    if "source" not in texts or "target" not in texts:
        reading.complete = False
        return None
    words = (texts.get("action"), texts.get("condition"), texts.get("transform"))
    return Link("edges", texts["source"], texts["target"], tree.position, f"edges[{number}]", *words, positions, number)


def _edge_text(reading: LoadContext, key: str, tree: Tree, path: Path) -> str | None:
    place = (*path, key)
    if key in ("source", "target"):
        return reading.text(tree, place, "the id of a node")
    if is_blank(tree):  # graph editors write "" for an edge without it
        return None
    if key == "action":
        return reading.text(tree, place, "an action")
    return reading.text(tree, place, "an expression")


def _short_form(reading: LoadContext, tree: Scalar, path: Path, number: int) -> list[Link]:
    """`a -> b`, `a -[action]-> b`, and chains of them."""
    parts = _ARROW.split(tree.text.strip())
    ids, actions = [part.strip() for part in parts[0::2]], parts[1::2]
    if len(ids) < 2 or not all(ids):
        shape = "expected an edge such as 'a -> b', 'a -[action]-> b' or 'a -> b -> c'"
        reading.lost(tree.position, path, f"{shape}; got {shortened(tree.text)}")
        return []
    links = []
    for source, action, target in zip(ids, actions, ids[1:], strict=False):
        named = action.strip() if action is not None else None
        if named == "":
            reading.lost(
                tree.position, path, "an action is not empty: write 'a -[action]-> b', or 'a -> b' without one"
            )
            named = None
        links.append(Link("edges", source, target, tree.position, f"edges[{number}]", named, number=number))
    return links


def check_forms(reading: LoadContext, links: list[Link]) -> None:
    """Note edges that are written in two ways: it would not be clear which one counts."""
    if all(link.number >= 0 for link in links):
        return
    needed = {(link.source, link.target): link for link in links if link.form == "needs"}
    by_action = {(link.source, link.target, link.action): link for link in links if link.form == "next"}
    for link in links:
        other = needed.get((link.source, link.target)) if link.form != "needs" else None
        if other is None and link.form == "edges":
            other = by_action.get((link.source, link.target, link.action))
        if other is not None:
            where = f"{other.place} (line {other.position.line})"
            message = (
                f"the edge '{link.source}' -> '{link.target}' is there already by {where}; write it in one of the ways"
            )
            reading.error(link.position, link.place, message)
