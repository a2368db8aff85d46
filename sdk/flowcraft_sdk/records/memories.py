"""Conversations that agents keep between runs."""

from datetime import datetime
from typing import Literal

from flowcraft_sdk.records.base import Record


class MemoryMessage(Record):
    """A part of a conversation.

    Attributes:
        role: `user`, what the agent was asked; `agent`, what it has answered; `call`, of a tool; `result`, of such a call.
        text: What it says; of a call its arguments, as JSON.
        tool: Name of the tool, of a call and of its result.
    """

    role: Literal["user", "agent", "call", "result"]
    text: str
    tool: str = ""


class MemoryInfo(Record):
    """A conversation that agents keep, without its messages.

    Attributes:
        id: `NAME/KEY`: the name is that of its agent, `BLUEPRINT:NODE`, unless `params.memory.name` gives another.
        turns: How many inputs and what was made of them.
        messages: How many messages these have.
        bytes: What they take, as JSON.
        written_at: When a turn was added last.
        expires_at: When it is deleted, unless a turn is added until then.
    """

    id: str
    turns: int
    messages: int
    bytes: int
    written_at: datetime
    expires_at: datetime


class Memory(MemoryInfo):
    """A conversation that agents keep.

    Attributes:
        conversation: Its messages, the oldest first.
    """

    conversation: tuple[MemoryMessage, ...] = ()
