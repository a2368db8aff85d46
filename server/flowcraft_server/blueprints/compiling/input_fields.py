"""Fields of a run's hash that a declared input may come from. Pure."""

from collections.abc import Mapping

from flowcraft_sdk.protocol.paths import beginnings
from flowcraft_sdk.protocol.sources import Source, keys_of
from flowcraft_server.blueprints.compiling.plan import value_fields
from flowcraft_server.blueprints.model import Node

MOST_BEGINNINGS = 16
"""Keys that a dotted path is looked for under, the longest first: each costs the claim a field."""


def input_places(nodes: Mapping[str, Node], name: str) -> list[tuple[str, str]]:
    """Run-hash fields that a declared input may come from, and the path into each; the first present one counts.

    See `flowcraft_sdk.protocol.paths` for the rule, blueprint semantics 2.5 for the order of a node's output and a context key.
    """
    keys = beginnings(name)
    places = []
    for key in [*keys[: MOST_BEGINNINGS - 1], *keys[-1:]] if len(keys) > MOST_BEGINNINGS else keys:
        rest = name[len(key) + 1 :]
        places += [(field, rest) for field in _fields_of_key(nodes, key)]
    return places


def _fields_of_key(nodes: Mapping[str, Node], key: str) -> list[str]:
    if key in nodes:
        stand_in = [f"s:{key}"] if nodes[key].config.fallback in nodes else []
        return [*stand_in, f"c:_outputs.{key}", f"o:{key}", f"c:{key}"]
    if key.startswith("_"):
        return [] if key in ("_outputs", "_inputs") else list(value_fields(nodes, key))
    # Dynamic nodes are unknown here; none of them has a dot in its id.
    return [f"c:{key}"] if "." in key else [f"c:_outputs.{key}", f"o:{key}", f"c:{key}"]


def input_fields(nodes: Mapping[str, Node], name: str) -> list[str]:
    """The fields of `input_places`."""
    return [field for field, _ in input_places(nodes, name)]


def source_fields(nodes: Mapping[str, Node], source: Source) -> list[str]:
    """The fields that a declared input is made of."""
    return [field for key in keys_of(source) for field in input_fields(nodes, key)]
