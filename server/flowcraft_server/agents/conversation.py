"""What an agent keeps of its conversation, for its next run with the same key."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)

from flowcraft_sdk.node import NonRetryableError
from flowcraft_sdk.protocol.durations import parse_duration
from flowcraft_sdk.protocol.memory_scripts import LONGEST_MEMORY_KEY, Bounds
from flowcraft_server.blueprints.agent_params import HOLE, MemoryParams
from flowcraft_server.engine.contexts import AwaitedNodeContext

LONGEST_OWN_NAME = 150
STEP = "memory"

_OF_A_RUN = ("instructions", "usage", "run_id", "conversation_id", "metadata", "timestamp")
"""What of a message says nothing to a later run. The instructions are those of the agent that runs."""


class AgentMemoryError(NonRetryableError):
    """The key of an agent's memory has no value, or one that is none."""


class Conversation:
    """A conversation that is kept: the messages of earlier runs, and those that this one adds.

    Attributes:
        messages: those of earlier runs.
    """

    def __init__(self, ctx: AwaitedNodeContext, memory_id: str, bounds: Bounds, messages: list[ModelMessage]) -> None:
        self._ctx = ctx
        self._memory_id = memory_id
        self._bounds = bounds
        self.messages = messages

    @classmethod
    async def recalled(cls, ctx: AwaitedNodeContext, params: MemoryParams, key: str) -> "Conversation":
        """The conversation as it is now. What was read is recorded, so that each attempt goes on from the same.

        Args:
            ctx: of the agent's handler.
            params: what is kept.
            key: as it was filled in.

        Raises:
            AgentMemoryError: the node has this one already.
        """
        bounds = Bounds(params.max_messages, params.max_bytes, round(parse_duration(params.keep_for) * 1000))
        memory_id = memory_id_of(params.name or own_name(ctx.blueprint_id, ctx.node_id), key)
        if memory_id in ctx._attempt.recalled:
            raise AgentMemoryError(
                f"node '{ctx.node_id}' has memory '{memory_id}' in two agents: give one of them another `name`"
            )
        ctx._attempt.recalled += (memory_id,)

        async def read() -> list[Any]:
            found = await asyncio.to_thread(ctx._services.memories.recall, memory_id)
            return [_decoded(turn.text) for turn in found]

        turns = [turn for turn in await ctx._steps.arecord(STEP, "step", read) if isinstance(turn, list)]
        kept = within(bounds, [(len(turn), len(_encoded(turn)), turn) for turn in turns])
        return cls(ctx, memory_id, bounds, [message for turn in kept for message in _validated(ctx, turn)])

    async def remember(self, messages: Sequence[ModelMessage], output: Any) -> None:
        """Have what this run adds kept once its node has completed.

        Args:
            messages: all, those of earlier runs too.
            output: what the agent has come to.
        """
        bounds = self._bounds
        added = messages[len(self.messages) :]
        for new in (added, shortened(added, output)):
            turn = [_lasting(message) for message in ModelMessagesTypeAdapter.dump_python(list(new), mode="json")]
            encoded = _encoded(turn)
            if len(turn) <= bounds.most_messages and len(encoded) <= bounds.most_bytes:
                remember = self._ctx._services.memories.remember
                attempt = self._ctx._attempt
                await asyncio.to_thread(remember, attempt, self._memory_id, len(turn), bounds, encoded)
                return
        self._ctx.logger.warning(
            "input and output take more than maxBytes of {:,} bytes: memory {} does not have them",
            bounds.most_bytes,
            self._memory_id,
        )


def within(bounds: Bounds, turns: Sequence[tuple[int, int, Any]]) -> list[Any]:
    """The latest turns that fit, each as a whole: so a call of a tool and its result stay together.

    Args:
        bounds: of the memory.
        turns: messages, bytes and what is in it, the oldest first.
    """
    kept: list[Any] = []
    messages = size = 0
    for count, taken, turn in reversed(turns):
        messages, size = messages + count, size + taken
        if messages > bounds.most_messages or size > bounds.most_bytes:
            break
        kept.append(turn)
    return kept[::-1]


def shortened(messages: Sequence[ModelMessage], output: Any) -> list[ModelMessage]:
    """A turn without what was done for its output: for one that is too large."""
    asked = [part for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, default=str)
    return [ModelRequest(parts=asked), ModelResponse(parts=[TextPart(text)])]


async def filled_key(ctx: AwaitedNodeContext, template: str) -> str:
    """The key of a memory, with values in its holes.

    Of a value what might be taken for the text around the holes is written as `%2F`, and so is what cannot be shown: so no two
    values come to the same key, and none to that of others.

    Raises:
        AgentMemoryError: a hole has no value, or one that is no text and no number.
    """
    parts = HOLE.split(template)
    marks = {mark for text in parts[::2] for mark in text if not mark.isalnum()}
    for at in range(1, len(parts), 2):
        parts[at] = escaped(await _value(ctx, parts[at]), marks)
    return checked_key("".join(parts))


def checked_key(key: str) -> str:
    """A key, if it is one.

    Raises:
        AgentMemoryError: it is empty, or too long.
    """
    if not 1 <= len(key) <= LONGEST_MEMORY_KEY:
        raise AgentMemoryError(f"the key of a memory has 1 to {LONGEST_MEMORY_KEY} characters, got {len(key):,}")
    return key


def escaped(text: str, marks: set[str] | frozenset[str] = frozenset()) -> str:
    """A text in which these marks, `%` and what cannot be shown are written as `%2F`."""
    return "".join(
        char if char.isprintable() and char != "%" and char not in marks else _percent(char) for char in text
    )


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


async def _value(ctx: AwaitedNodeContext, path: str) -> str:
    first, *rest = path.split(".")
    value: Any = ctx.input.get(first) if isinstance(ctx.input, Mapping) else None
    if value is None:
        value = await ctx.context.get(first)
    for name in rest:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        what = "has no value" if value in (None, "") else f"is {type(value).__name__}"
        raise AgentMemoryError(
            f"agent '{ctx.node_id}': params.memory: {{{{ {path} }}}} {what}; it is a text or a whole number of the agent's "
            "input, or of the run's context"
        )
    return str(value)


def own_name(blueprint_id: str, node_id: str) -> str:
    """The name of a memory that an agent shares with no other: `BLUEPRINT:NODE`. No name that is given has a `:`."""
    return ":".join(map(_name_part, (blueprint_id, node_id)))


def _name_part(name: str) -> str:
    part = quote(name, safe="", errors="surrogatepass")
    if len(part) <= LONGEST_OWN_NAME:
        return part
    return f"{part[: LONGEST_OWN_NAME - 20]}!{hashlib.sha256(part.encode()).hexdigest()[:16]}"


def memory_id_of(name: str, key: str) -> str:
    """The id of a memory. No name has a `/`, so no key comes to the id of another name."""
    return f"{name}/{key}"


def _encoded(turn: Any) -> bytes:
    return json.dumps(turn, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _decoded(text: bytes) -> Any:
    """What is in a turn; None for one that no agent has written: it is left out, as one that cannot be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _lasting(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in message.items() if name not in _OF_A_RUN and value is not None}
    kept["parts"] = [{name: value for name, value in part.items() if value is not None} for part in message["parts"]]
    return kept


def _validated(ctx: AwaitedNodeContext, turn: Any) -> list[ModelMessage]:
    try:
        return ModelMessagesTypeAdapter.validate_python(turn)
    except ValidationError:  # of another version of pydantic-ai
        ctx.logger.warning("a turn of the memory cannot be read, and is left out")
        return []
