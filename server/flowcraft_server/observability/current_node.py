"""Which node the code that logs is running for. Cheap to set, looked at only when something is logged."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from loguru import Record


class CurrentNode(NamedTuple):
    """A node that code runs for.

    Attributes:
        trace_id: of the trace that its span belongs to; "" without tracing.
        keep: takes what is logged meanwhile, by whichever logger; None if nothing does.
    """

    run_id: str
    instance_id: str
    keep: "Callable[[Record], None] | None" = None
    trace_id: str = ""


FindNode = tuple[Callable[[Any], CurrentNode], Any]
"""A function, and what it is called with: a pair is made in no time, for each node."""

_current: ContextVar[FindNode | None] = ContextVar("current_node", default=None)


def enter_node(find: Callable[[Any], CurrentNode], what: Any) -> Token[FindNode | None]:
    """From here on this thread or coroutine works for a node, until `leave_node`.

    Args:
        find: gives the node; called with `what` for each line that is logged, as most nodes log none.
    """
    return _current.set((find, what))


def leave_node(token: Token[FindNode | None]) -> None:
    """It does so no longer."""
    _current.reset(token)


@contextmanager
def working_for(find: Callable[[Any], CurrentNode], what: Any) -> Iterator[None]:
    """Both of them, around a block."""
    token = enter_node(find, what)
    try:
        yield
    finally:
        leave_node(token)


def name_current_node(record: "Record") -> None:
    """Loguru's patcher: the run and the node on each line, unless the line names others."""
    entered = _current.get()
    if entered is None:
        return
    find, what = entered
    current = find(what)
    extra = record["extra"]
    if (
        current.keep is not None and "run" not in extra
    ):  # `ctx.logger`, which names the run, has its lines kept by itself
        current.keep(record)
    extra.setdefault("run", current.run_id)
    extra.setdefault("node", current.instance_id)
    if current.trace_id:
        extra.setdefault("trace_id", current.trace_id)
