"""Which node the code that logs is running for. Cheap to set, looked at only when something is logged."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loguru import Record

_current: ContextVar[tuple[str, str] | None] = ContextVar("current_node", default=None)


def enter_node(run_id: str, instance_id: str) -> Token[tuple[str, str] | None]:
    """From here on this thread or coroutine works for a node, until `leave_node`."""
    return _current.set((run_id, instance_id))


def leave_node(token: Token[tuple[str, str] | None]) -> None:
    """It does so no longer."""
    _current.reset(token)


@contextmanager
def working_for(run_id: str, instance_id: str) -> Iterator[None]:
    """Both of them, around a block."""
    token = enter_node(run_id, instance_id)
    try:
        yield
    finally:
        leave_node(token)


def name_current_node(record: "Record") -> None:
    """Loguru's patcher: the run and the node on each line, unless the line names others."""
    current = _current.get()
    if current is not None:
        record["extra"].setdefault("run", current[0])
        record["extra"].setdefault("node", current[1])
