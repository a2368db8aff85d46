"""Which nodes and which starts the scripts' fast path can take. Pure.

It is decided here alone: the compiler sets a flag in the plan, and the fast path asks for the flag. So a feature that is not
listed here takes the slow path, and so does a plan without flags, which an older release compiled.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from flowcraft_server.blueprints.compiling.plan_records import JOIN, PLAIN_EDGE, TARGET

NODE_FEATURES = frozenset({"inputs", "collect"})
"""Options of a plan entry that change nothing about how its node is completed. Workers of older releases go by the flag
of a newer plan, too: if the fast path learns another feature, the flag gets another value."""

START_FEATURES = NODE_FEATURES | {"fallback", "gather", "itemQueue", "limit"}
"""Options of a plan entry that change nothing about how a run that begins with its node is started."""

FLAG = "fast"


def is_fast_node(options: Mapping[str, Any], edges: Sequence[Sequence[Any]], most_edges: int) -> bool:
    """Whether the fast path completes a node: it knows each of the node's features.

    Args:
        options: what the plan entry says of the node besides its edges.
        edges: its outgoing edges, as in the plan entry.
        most_edges: how many of them a plan entry holds in itself.
    """
    return options.keys() <= NODE_FEATURES and len(edges) <= most_edges and _are_plain(edges)


def _are_plain(edges: Sequence[Sequence[Any]]) -> bool:
    """Whether none is at the border of a loop, each leads to another node, and those wait for all that leads to them."""
    for edge in edges:
        if edge[JOIN] != "all" or len(edge) != PLAIN_EDGE:
            return False
    return len(edges) < 2 or len({edge[TARGET] for edge in edges}) == len(edges)


def is_fast_start(starts: Sequence[Set[str]], most_starts: int) -> bool:
    """Whether the fast path starts a run.

    Args:
        starts: names of the options of each node that the run begins with.
        most_starts: how many of them a plan holds in one field.
    """
    return 0 < len(starts) <= most_starts and all(options <= START_FEATURES for options in starts)
