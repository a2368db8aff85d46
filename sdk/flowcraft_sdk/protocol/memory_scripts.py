"""Typed wrappers of the scripts of conversations that agents keep, and what these are found and bounded by."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import Argument, ScriptCall, call_of, flat

MOST_MESSAGES = 1_000
"""Of a memory."""

MOST_BYTES = 1024 * 1024
"""Of all its messages, as JSON."""

LONGEST_KEEP = 10 * 366 * 86_400
"""Seconds."""

LONGEST_ID = 1_000
"""Characters of a memory's id."""

LONGEST_MEMORY_KEY = 500
"""Characters of its key."""

MARK = "memory"
"""The place of a node's value, beside those of its edges, at which its completion names itself."""

OF_MEMORY = frozenset({"first", "next", "messages", "bytes", "at", "expires"})
"""Fields of a memory beside its turns, and those that are beside it."""

RUNNING = "L"
_NUMBER = re.compile(rb"[0-9]{1,16}")
_TURN = re.compile(rb"(\d+)\n(\d+)\n([^\n]*)\n(.*)", re.DOTALL)


class Bounds(NamedTuple):
    """What a memory holds.

    Attributes:
        most_messages: How many at most.
        most_bytes: Bytes of them, at most.
        keep_ms: For how long after it was written last.
    """

    most_messages: int
    most_bytes: int
    keep_ms: int


class Writer(NamedTuple):
    """The execution of a node that a turn is of.

    Attributes:
        mark: What its completion leaves in the run's record: the fencing token, and the rounds of the loops around it.
    """

    run_id: str
    instance_id: str
    mark: str

    @classmethod
    def of_claim(cls, run_id: str, instance_id: str, fencing_token: str, iterations: Sequence[int]) -> "Writer":
        """The writer that the holder of a claim is."""
        rounds = ".".join(map(str, iterations))
        return cls(run_id, instance_id, f"{fencing_token}#{rounds}")

    @classmethod
    def read(cls, text: str) -> "Writer | None":
        """A writer as it is stored; None if that is none."""
        try:
            parts = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(parts, list) and len(parts) == 3 and all(isinstance(part, str) for part in parts):
            return cls(*parts)
        return None

    def __str__(self) -> str:
        return wire.dumps(list(self)).decode()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the run's record that say whether its node has completed: for `decision`."""
        return "cr", f"x:{self.instance_id}>{MARK}", f"n:{self.instance_id}"

    def decision(self, created: str | None, mark: str | None, state: str | None) -> bool | None:
        """Whether its node has completed; None while that may still come, after what `fields` name."""
        if mark == self.mark:
            return True
        claims, _, of_run = self.mark.partition("#")[0].partition(":")
        parts = (state or "").split("|")
        if parts[0] == RUNNING and parts[2:3] == [claims] and created == of_run:
            return None
        return False


class Turn(NamedTuple):
    """A turn of a memory.

    Attributes:
        messages: How many it has.
        at_ms: When it was written.
        text: Its messages, as JSON.
    """

    messages: int
    at_ms: int
    text: bytes


def number_of(fields: Mapping[str, bytes], name: str, default: int = 0) -> int:
    """A number of a memory's record; the default where there is none, or what something else has written."""
    value = fields.get(name) or b""
    return int(value) if _NUMBER.fullmatch(value) else default


def turns_of(fields: Mapping[str, bytes]) -> list[Turn]:
    """The turns of a memory, the oldest first; one that cannot be read is left out."""
    first, following = number_of(fields, "first", 1), number_of(fields, "next", 1)
    found = []
    for number in range(first, min(following, first + MOST_MESSAGES)):
        read = _TURN.fullmatch(fields.get(f"t:{number}") or b"")
        if read is not None:
            found.append(Turn(int(read[1]), int(read[2]), read[4]))
    return found


def restorable(fields: Mapping[str, str]) -> bool:
    """Whether the fields are those of a memory as scripts write them, and within its bounds."""
    if not fields.keys() >= OF_MEMORY or not all(re.fullmatch(r"[0-9]{1,16}", fields[name]) for name in OF_MEMORY):
        return False
    numbers = range(int(fields["first"]), int(fields["next"]))
    encoded = {name: fields[name].encode("utf-8", "surrogateescape") for name in fields.keys() - OF_MEMORY}
    return (
        0 < len(numbers) <= MOST_MESSAGES
        and encoded.keys() == {f"t:{number}" for number in numbers}
        and all(_TURN.fullmatch(turn) for turn in encoded.values())
        and sum(map(len, encoded.values())) <= 2 * MOST_BYTES
    )


def remember(
    keys: Keys,
    *,
    memory_id: str,
    writer: str,
    messages: int,
    most_messages: int,
    most_bytes: int,
    keep_ms: int,
    turn: bytes,
) -> ScriptCall:
    """Lay a turn beside a memory, until its node has completed.

    Args:
        writer: a `Writer` as text.
        messages: how many the turn has.
    """
    return call_of("remember", keys, memory_id, writer, messages, most_messages, most_bytes, keep_ms, turn)


def settle_memory(keys: Keys, *, memory_id: str, decisions: Sequence[tuple[str, bool]]) -> ScriptCall:
    """Have turns join a memory, or drop them.

    Args:
        decisions: writers as they are stored, and whether their nodes have completed.
    """
    return call_of("settle_memory", keys, memory_id, *flat((writer, int(kept)) for writer, kept in decisions))


def delete_memory(keys: Keys, *, memory_id: str) -> ScriptCall:
    """Delete a memory."""
    return call_of("delete_memory", keys, memory_id)


def restore_memory(keys: Keys, *, memory_id: str, expires_ms: int, fields: Mapping[str, Argument]) -> ScriptCall:
    """Put a memory of a backup in its place."""
    return call_of("restore_memory", keys, memory_id, expires_ms, *flat(fields.items()))


ALL = ("remember", "settle_memory", "delete_memory", "restore_memory")
