"""Conversations that agents keep between runs: listed, read and deleted by clients, read by agents."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, partitions_of, server_ms, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import scored
from flowcraft_sdk.errors import MemoryNotFoundError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import MOST_LISTED, check_count, check_text
from flowcraft_sdk.protocol.memory_scripts import LONGEST_ID, Turn, Writer, number_of, turns_of
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import Memory, MemoryInfo, MemoryMessage

_OF_INFO = ("first", "next", "messages", "bytes", "at", "expires")


def list_memories(deployment: Deployment, limit: int) -> Operation[list[MemoryInfo]]:
    """The memories, those first that are kept longest."""
    if check_count(limit, "limit", MOST_LISTED) == 0:
        return []
    partitions, now = (yield from partitions_of(deployment)), (yield from server_ms(deployment))
    latest = [command("ZREVRANGE", keys.memories, 0, limit - 1, "WITHSCORES") for keys in partitions.all]
    entries = [entry for reply in (yield Batch(tuple(latest))) for entry in scored(reply)]
    entries = sorted(entries, key=lambda entry: (-entry[1], entry[0]))[:limit]
    if not entries:
        return []
    reads = [command("HMGET", partitions.for_memory(name).memory(name), *_OF_INFO) for name, _ in entries]
    rows = yield Batch(tuple(reads), bearing=True)
    found = []
    for (name, _), row in zip(entries, rows, strict=True):
        fields = {} if isinstance(row, Exception) else _present(dict(zip(_OF_INFO, row, strict=True)))
        if _is_there(fields, now):
            found.append(MemoryInfo(**_info(name, fields)))
    return found


def read_memory(deployment: Deployment, memory_id: str) -> Operation[Memory]:
    """A memory with its messages.

    Raises:
        MemoryNotFoundError: there is none.
    """
    check_text(memory_id, "the id of a memory", LONGEST_ID)
    fields = yield from _settled(deployment, memory_id)
    if not fields:
        raise MemoryNotFoundError(memory_id)
    parts = [message for turn in turns_of(fields) for message in _messages(turn)]
    return Memory(**_info(memory_id, fields), conversation=tuple(parts))


def delete_memory(deployment: Deployment, memory_id: str) -> Operation[None]:
    """Delete a memory.

    Raises:
        MemoryNotFoundError: there is none.
    """
    check_text(memory_id, "the id of a memory", LONGEST_ID)
    keys = (yield from partitions_of(deployment)).for_memory(memory_id)
    # So that it is deleted, and not missing, if its only turn has not joined it.
    yield from _settled(deployment, memory_id)
    if not (yield scripts.delete_memory(keys, memory_id=memory_id)):
        raise MemoryNotFoundError(memory_id)


def recall(deployment: Deployment, memory_id: str) -> Operation[list[Turn]]:
    """The turns of a memory, the oldest first, with those of all nodes that have completed by now."""
    return turns_of((yield from _settled(deployment, memory_id)))


def _settled(deployment: Deployment, memory_id: str) -> Operation[dict[str, bytes]]:
    """The fields of a memory, after turns have joined it whose nodes have completed; none if there is no such memory.

    Workers do so once a node has completed. What a worker left that has died at that moment is made up for here.
    """
    partitions, now = (yield from partitions_of(deployment)), (yield from server_ms(deployment))
    keys = partitions.for_memory(memory_id)
    read = command("HGETALL", keys.memory(memory_id))
    fields = _present((yield read))
    names = [name for name in text(fields.get("beside", b"")).split("\n") if name]
    if names and number_of(fields, "expires") > now:
        writers = {name: Writer.read(name) for name in names}
        asked = {name: writer for name, writer in writers.items() if writer is not None}
        reads = [command("HMGET", partitions.for_run(w.run_id).run(w.run_id), *w.fields) for w in asked.values()]
        rows = yield Batch(tuple(reads), bearing=True)
        decisions = [(name, False) for name in names if name not in asked]
        for (name, writer), row in zip(asked.items(), rows, strict=True):
            if not isinstance(row, Exception):
                decision = writer.decision(*(None if value is None else text(value) for value in row))
                decisions += [] if decision is None else [(name, decision)]
        if decisions:
            yield scripts.settle_memory(keys, memory_id=memory_id, decisions=decisions)
            fields = _present((yield read))
    return fields if _is_there(fields, now) else {}


def _present(reply: Any) -> dict[str, bytes]:
    """A hash by name. Drivers give it as a mapping, the engine's link as a list; it may be decoded already."""
    fields = reply if isinstance(reply, Mapping) else dict(zip(reply[::2], reply[1::2], strict=True))
    return {
        text(name): value.encode(errors="surrogateescape") if isinstance(value, str) else bytes(value)
        for name, value in fields.items()
        if value is not None
    }


def _is_there(fields: Mapping[str, bytes], now: int) -> bool:
    return number_of(fields, "next", 1) > number_of(fields, "first", 1) and number_of(fields, "expires") > now


def _info(memory_id: str, fields: Mapping[str, bytes]) -> dict[str, Any]:
    numbers = {name: number_of(fields, name) for name in _OF_INFO}
    return {
        "id": memory_id,
        "turns": numbers["next"] - numbers["first"],
        "messages": numbers["messages"],
        "bytes": numbers["bytes"],
        "written_at": moment(numbers["at"]),
        "expires_at": moment(numbers["expires"]),
    }


def _messages(turn: Turn) -> Iterator[MemoryMessage]:
    """What a person reads of a turn. Its form is that of pydantic-ai; parts that say nothing here are left out."""
    try:
        messages = json.loads(turn.text)
    except (ValueError, RecursionError):
        return
    for message in messages if isinstance(messages, list) else ():
        parts = message.get("parts") if isinstance(message, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and (role := _ROLES.get(str(part.get("part_kind")))) is not None:
                value = part.get("args" if role == "call" else "content")
                tool = str(part.get("tool_name") or "") if role in ("call", "result") else ""
                yield MemoryMessage(role=role, text=_shown(value), tool=tool)


_ROLES: Mapping[str, Any] = {
    "user-prompt": "user",
    "text": "agent",
    "tool-call": "call",
    "tool-return": "result",
    "retry-prompt": "result",
}


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
