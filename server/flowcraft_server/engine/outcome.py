"""What came of an attempt."""

from dataclasses import dataclass
from itertools import islice
from types import CoroutineType
from typing import Any

from flowcraft_sdk.node import NodeResult
from flowcraft_sdk.protocol.bounds import plain_text
from flowcraft_sdk.protocol.script_call import ScriptCall

MOST_ADDED = 1_000_000
"""Dynamic nodes that are taken from a handler: `limits.dynamicNodes` cannot be set higher."""


@dataclass(slots=True)
class Done:
    """The node is done: its output and action are to be recorded; not before the nodes are done that it adds to the run.

    Attributes:
        encoded: the output as `Engine.encode_output` gave it, if that was done already.
    """

    output: Any
    action: str | None = None
    added: tuple[Any, ...] = ()
    caught: bool = False
    encoded: bytes | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """The node waits for something outside of it: the call that parks it."""

    call: ScriptCall


Outcome = Done | Parked


def unpack_result(returned: Any) -> tuple[Any, str | None, tuple[Any, ...]]:
    """Output, action and dynamic nodes of what a handler returned.

    Raises:
        TypeError: the action is not text, there is no end of dynamic nodes, or it is a coroutine that was not awaited.
        SerializationError: the action is no valid UTF-8.
    """
    if type(returned) is CoroutineType:
        returned.close()
        raise TypeError(
            "the handler returned a coroutine that was not awaited: declare the handler with `async def` and put `await` before "
            "the call; or, if it is the handler's own coroutine, a decorator hides it: let the decorator use functools.wraps"
        )
    if not isinstance(returned, NodeResult):
        return returned, None, ()
    if returned.action is not None and not isinstance(returned.action, str):
        raise TypeError(f"NodeResult.action must be text or None, got {returned.action!r}")
    action = None if returned.action is None else plain_text(returned.action, "an action", "action")
    added = tuple(islice(returned.dynamic_nodes, MOST_ADDED + 1))
    if len(added) > MOST_ADDED:
        raise TypeError(f"NodeResult.dynamic_nodes gives more than {MOST_ADDED:,} nodes (limits.dynamicNodes)")
    return returned.output, action, added
