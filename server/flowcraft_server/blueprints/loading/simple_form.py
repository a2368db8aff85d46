"""Reads a blueprint with which nothing is wrong, and notes no place of anything: places take several times as long as the rest.

Large files are written by programs, in the plainest of forms. Those forms are read here at once; any other node or edge is read
as ever, with its places left out. A file with anything wrong or unusual about it is `NotSimple` and is read in full; places are
looked for when one is asked for, see `late_places`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk._config.yaml_scalars import number
from flowcraft_sdk._config.yaml_tree import DEEPEST, Entry, Fields, Items, Scalar, Tree
from flowcraft_server.blueprints.loading.blueprint import read_blueprint
from flowcraft_server.blueprints.loading.keys import CONFIG_KEYS
from flowcraft_server.blueprints.loading.links import Link, read_edges
from flowcraft_server.blueprints.loading.load_context import PLAIN_ID, LoadContext
from flowcraft_server.blueprints.loading.node_settings import read_config
from flowcraft_server.blueprints.loading.nodes import NodeDraft, read_nodes
from flowcraft_server.blueprints.model import Blueprint

NOWHERE = SourcePosition("", 1, 1)
"""Where everything stands that is read here."""

# Half of a pair, or what might be one: whether a backslash before it is itself escaped is left to the full reading.
_HALF_PAIR = re.compile(
    r"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89aAbB][0-9a-fA-F]{2})\\u[dD][c-fC-F]|\\\\u[dD][89a-fA-F]"
)
_WORDS = {None: "null", True: "true", False: "false"}
_NODE_KEYS = frozenset({"id", "uses", "params", "inputs", "config"})
_OWN_PARAMS = frozenset({"subflow", "map", "sleep", "wait", "webhook"})
"""Kinds of nodes some of whose params are looked at one by one."""


class NotSimple(Exception):
    """The text is to be read in full: something about it is wrong or unusual."""


def plain_json(text: str) -> Any:
    """What a JSON text holds: numbers as scalars, which keep how they are written, and else plain data.

    Raises:
        NotSimple: the text cannot be read, or has a key twice.
    """
    if "\\u" in text and _HALF_PAIR.search(text):
        raise NotSimple
    try:
        return json.loads(text, object_pairs_hook=_once, parse_int=_number, parse_float=_number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NotSimple from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotSimple
    return found


def _number(text: str) -> Scalar:
    return Scalar(number(text), text, NOWHERE)


def _refuse(text: str) -> Any:
    raise NotSimple(text)


def read_simple(reading: LoadContext, plain: Any, default_id: str) -> tuple[Blueprint, Sequence[str] | None]:
    """The blueprint that a file with nothing unusual about it holds, without its places.

    Args:
        plain: what the file holds, as `plain_json` returns it.

    Returns:
        The blueprint, and the ids of its nodes in the order in which they stand below `nodes`; None for these if its edges are
        not those of `edges`, one by one.

    Raises:
        NotSimple: the file is to be read in full.
    """
    parts = _Parts(plain)
    blueprint = read_blueprint(reading, parts.rest, default_id, parts)
    if blueprint is None or reading.diagnostics or not reading.complete:
        raise NotSimple
    return blueprint, parts.ids if len(blueprint.edges) == parts.edges_read else None


class _Parts:
    """The nodes and edges of a blueprint.

    Args:
        plain: the whole file, as data in which numbers are scalars.
    """

    def __init__(self, plain: Any) -> None:
        if type(plain) is not dict or type(plain.get("nodes")) not in (dict, list) or not plain["nodes"]:
            raise NotSimple
        edges = plain.get("edges")
        if edges is not None and type(edges) is not list:
            raise NotSimple
        self.ids: list[str] = []
        self.edges_read = 0
        self._nodes, self._edges = plain["nodes"], edges or []
        self.rest = _tree({name: value for name, value in plain.items() if name not in ("nodes", "edges")}, 0)
        """The other keys of the file."""

    def read_nodes(self, reading: LoadContext) -> list[NodeDraft]:
        """The nodes.

        Raises:
            NotSimple: two have the same id.
        """
        by_key = type(self._nodes) is dict
        drafts: dict[str, NodeDraft] = {}
        is_plain_id = PLAIN_ID.fullmatch
        for key, node in self._nodes.items() if by_key else enumerate(self._nodes):
            draft = None
            if type(node) is dict:
                node_id = key if by_key else node.get("id")
                if type(node_id) is str and is_plain_id(node_id) and ("id" in node) is not by_key:
                    draft = _draft(reading, node_id, node)
            if draft is None:
                draft = _read_as_ever(reading, key if by_key else None, node)
            if draft.id in drafts:
                raise NotSimple
            drafts[draft.id] = draft
        self.ids = list(drafts)
        return list(drafts.values())

    def read_edges(self, reading: LoadContext) -> list[Link]:
        """The edges of the list `edges`.

        Raises:
            NotSimple: something is wrong with one.
        """
        links: list[Link] = []
        for index, edge in enumerate(self._edges):
            place = f"edges[{index}]"
            if type(edge) is dict:
                source, target, words = edge.get("source"), edge.get("target"), (None, None, None)
                if len(edge) > 2:
                    words = edge.get("action"), edge.get("condition"), edge.get("transform")
                known = 2 + 3 - words.count(None)
                if (
                    type(source) is str
                    and type(target) is str
                    and len(edge) == known
                    and source
                    and target
                    and (known == 2 or all(word is None or (type(word) is str and word) for word in words))
                ):
                    self.edges_read += 1
                    links.append(Link("edges", source, target, NOWHERE, place, *words, _NONE, index))
                    continue
            for link in read_edges(reading, Items((_tree(edge, 2),), NOWHERE)):
                link.place, link.number = place, index
                links.append(link)
            if reading.diagnostics:
                raise NotSimple
        return links


_NONE: dict[str, SourcePosition] = {}


def _draft(reading: LoadContext, node_id: str, node: Mapping[str, Any]) -> NodeDraft | None:
    """A node as most are, None if it is another one."""
    uses = node.get("uses")
    if type(uses) is not str:
        return None
    draft = NodeDraft(node_id, NOWHERE, uses)
    if len(node) == 1 or (len(node) == 2 and "id" in node):
        return draft
    if not node.keys() <= _NODE_KEYS:
        return None
    if "inputs" in node:
        inputs = node["inputs"]
        if type(inputs) is dict:
            for source in inputs.values():
                if type(source) is not str or not source.strip():
                    return None
        elif type(inputs) is not str or not inputs.strip():
            return None
        draft.inputs = inputs
    if "params" in node:
        if type(node["params"]) is not dict or uses in _OWN_PARAMS:
            return None
        draft.params = _data(node["params"], 3)
    if "config" in node:
        if type(node["config"]) is not dict:
            return None
        draft.config = read_config(reading, _tree(node["config"], 3), ("nodes", node_id, "config"), CONFIG_KEYS)
    return draft


def _read_as_ever(reading: LoadContext, key: Any, node: Any) -> NodeDraft:
    tree = _tree(node, 2)
    found = Items((tree,), NOWHERE) if key is None else Fields({key: Entry(NOWHERE, tree)}, NOWHERE)
    drafts = read_nodes(reading, found)
    if len(drafts) != 1 or reading.diagnostics:
        raise NotSimple
    return drafts[0]


def _tree(value: Any, depth: int) -> Tree:
    """Data as a tree of values that stand nowhere."""
    if depth > DEEPEST:
        raise NotSimple
    kind = type(value)
    if kind is str:
        return Scalar(value, value, NOWHERE)
    if kind is Scalar:
        scalar: Scalar = value
        return scalar
    if kind is dict:
        return Fields({name: Entry(NOWHERE, _tree(item, depth + 1)) for name, item in value.items()}, NOWHERE)
    if kind is list:
        return Items(tuple([_tree(item, depth + 1) for item in value]), NOWHERE)
    return Scalar(value, _WORDS[value], NOWHERE)


def _data(value: Any, depth: int) -> Any:
    """Data with the values of its scalars."""
    if depth > DEEPEST:
        raise NotSimple
    kind = type(value)
    if kind is Scalar:
        return value[0]
    if kind is dict:
        return {name: _data(item, depth + 1) for name, item in value.items()}
    if kind is list:
        return [_data(item, depth + 1) for item in value]
    return value
