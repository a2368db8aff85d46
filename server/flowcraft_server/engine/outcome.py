"""What came of an attempt."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from types import CoroutineType
from typing import Any

from flowcraft_sdk.node import NodeResult
from flowcraft_sdk.protocol.bounds import plain_text
from flowcraft_sdk.protocol.claim_request import ClaimRequest
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.engine.failures import InvalidHandlerResult

MOST_ADDED = 1_000_000
"""Dynamic nodes that are taken from a handler: `limits.dynamicNodes` cannot be set higher."""


@dataclass(frozen=True, slots=True)
class Suspended(NodeResult):
    """A handler has no output yet: it is called again once the nodes have ended that it adds to the run.

    What they have come to, failures too, it reads itself. Only handlers of the server return it.
    """


@dataclass(slots=True)
class Done:
    """The node is done: its output and action are to be recorded; not before the nodes are done that it adds to the run.

    Attributes:
        encoded: the output as `Engine.encode_output` gave it, if that was done already.
        suspended: it is not done, and its handler is called again once the added nodes have ended.
    """

    output: Any
    action: str | None = None
    added: tuple[Any, ...] = ()
    caught: bool = False
    encoded: bytes | None = None
    suspended: bool = False

    @classmethod
    def of(cls, returned: Any, *, is_async: bool = False) -> "Done":
        """The outcome of what a handler returned. Raises as `unpack_result` does."""
        if type(returned) is CoroutineType or isinstance(returned, NodeResult):
            return cls(*unpack_result(returned, is_async=is_async), suspended=isinstance(returned, Suspended))
        return cls(returned)


@dataclass(frozen=True, slots=True)
class Parked:
    """The node waits for something outside of it.

    Attributes:
        call: the call that parks it; a function that makes it of the request for a next claim, where it may bring one.
    """

    call: ScriptCall | Callable[[ClaimRequest], ScriptCall]

    def make(self, next_claim: Callable[[], ClaimRequest]) -> ScriptCall:
        """The call; `next_claim` is asked for how the next claim is to be had if it can bring one."""
        return self.call if isinstance(self.call, ScriptCall) else self.call(next_claim())


Outcome = Done | Parked


def unpack_result(returned: Any, *, is_async: bool = False) -> tuple[Any, str | None, tuple[Any, ...]]:
    """Output, action and dynamic nodes of what a handler returned.

    Args:
        is_async: whether it is a coroutine function, and this what its coroutine gave.

    Raises:
        InvalidHandlerResult: the action is not text, there is no end of dynamic nodes, or it is a coroutine that was not awaited.
        SerializationError: the action is no valid UTF-8.
    """
    if type(returned) is CoroutineType:
        returned.close()
        raise InvalidHandlerResult(_not_awaited(returned.__qualname__, is_async))
    if not isinstance(returned, NodeResult):
        return returned, None, ()
    if returned.action is not None and not isinstance(returned.action, str):
        raise InvalidHandlerResult(f"NodeResult.action must be text or None, got {returned.action!r}")
    action = None if returned.action is None else plain_text(returned.action, "an action", "action")
    added = tuple(islice(returned.dynamic_nodes, MOST_ADDED + 1))
    if len(added) > MOST_ADDED:
        raise InvalidHandlerResult(
            f"NodeResult.dynamic_nodes gives more than {MOST_ADDED:,} nodes (limits.dynamicNodes)"
        )
    return returned.output, action, added


def _not_awaited(called: str, is_async: bool) -> str:
    """What to do about a coroutine that a handler returned."""
    found = "the handler returned a coroutine that was not awaited"
    if is_async:
        return f"{found}: put `await` before the call that it returns (of {called})"
    return (
        f"{found}: declare the handler with `async def` and put `await` before the call; or, if it is the handler's own "
        f"coroutine, a decorator hides it: let the decorator use functools.wraps (it is what {called} gives)"
    )
