"""Calls of a coroutine's `ctx`: they begin once they are awaited, and one that never is, is known."""

import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from flowcraft_sdk.node import NonRetryableError

T = TypeVar("T")
_CALLER = 2
"""How many frames above the making of a call the code is that called a method of the context."""


class UnawaitedCall(NonRetryableError):
    """A coroutine called its context without `await`: nothing was read or written."""


class ContextCall(Coroutine[Any, Any, T]):
    """A call of a coroutine's context. It begins once it is awaited; one that never is, is known."""

    __slots__ = ("_begin", "_begun", "_open", "place", "shown")

    def __init__(
        self, shown: str, waiting: "set[ContextCall[Any]]", begin: Callable[[], Coroutine[Any, Any, T]]
    ) -> None:
        caller = sys._getframe(_CALLER)
        self.shown = shown
        self.place = caller.f_lineno, caller.f_code.co_filename
        self._begin = begin
        self._begun: Coroutine[Any, Any, T] | None = None
        self._open = waiting
        waiting.add(self)

    def _coroutine(self) -> Coroutine[Any, Any, T]:
        if self._begun is None:
            self._open.discard(self)
            self._begun = self._begin()
        return self._begun

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine().__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine().throw(*error)

    def close(self) -> None:
        self._coroutine().close()
