"""The lists in which a plan gives the scripts nodes and edges, in the layout that include/plan.lua declares. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft_sdk.protocol.lua_source import index_of, reader, writer

JOIN = index_of("plan", "edge", "join")
KIND = index_of("plan", "edge", "kind")
LOOP = index_of("plan", "edge", "loop")
ENTERS = index_of("plan", "edge", "enters")
TARGET = index_of("plan", "edge", "target")
POSITION = index_of("plan", "edge", "position")
UNDECIDED = index_of("plan", "edge", "undecided")
OUTS = index_of("plan", "entry", "outs")
READS = index_of("plan", "entry", "reads")
OPTIONS = index_of("plan", "entry", "options")

PLAIN_EDGE = KIND
"""Words of an edge that neither leads back in a loop nor crosses the border of one."""

_EDGE = ("target", "position", "undecided", "join", "queue", "kind", "loop", "enters")
_ENTRY = ("join", "ins", "outs", "reads", "queue", "options")
_write_edge = writer("plan", "edge", *_EDGE)
_write_entry = writer("plan", "entry", *_ENTRY)
read_plain_edge = reader("plan", "edge", "target", "position", "undecided", "queue")
"""Target, position, undecided join and queue of an edge."""

read_target = reader("plan", "entry", "ins", "reads")
"""What a plan entry says of what its node is brought, and reads."""


def plain_edge(target: str, position: int, undecided: str, join: str, queue: str) -> list[Any]:
    """An edge that has nothing to do with a loop."""
    return [*_write_edge((target, position, undecided, join, queue, "", "", ()))[:PLAIN_EDGE]]


def with_border(edge: Sequence[Any], kind: str, loop: str, enters: Sequence[str]) -> list[Any]:
    """A plain edge, with what it is to loops; what is empty at its end is left out."""
    words = [*edge, "", "", ()]
    words[KIND], words[LOOP], words[ENTERS] = kind, loop, enters
    return _without_empty_end(words)


def entry(
    join: str, ins: Sequence[str], outs: Sequence[Any], reads: Sequence[str], queue: str, options: Mapping[str, Any]
) -> list[Any]:
    """The entry of a node; without options if it has none."""
    return _without_empty_end(_write_entry((join, ins, outs, reads, queue, options)))


def options_of(entry: Sequence[Any]) -> Mapping[str, Any]:
    """The options of a stored entry."""
    return entry[OPTIONS] if len(entry) > OPTIONS else {}


def _without_empty_end(words: Sequence[Any]) -> list[Any]:
    end = len(words)
    while not words[end - 1]:
        end -= 1
    return [*words[:end]]
