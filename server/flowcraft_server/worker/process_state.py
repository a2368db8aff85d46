"""What all code of a process shares and a handler may change: put back before the next handler meets it.

Only what harms others is put back: a library that a handler imports late may add environment variables, raise the recursion
limit or install hooks, and keeps them.
"""

import gc
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.observability.logging import restore_logging

MOST_LOGGED = 1000
SELDOM = 0.01


@dataclass(frozen=True)
class _Part:
    """One thing that can be changed.

    Attributes:
        read: what it is now. Cheap, for it is asked after each handler that is not known to be quick.
        harmed: whether a value does harm, given the one from before.
        put_back: sets it to what it was.
    """

    name: str
    read: Callable[[], Any]
    harmed: Callable[[Any, Any], bool]
    put_back: Callable[[Any], object]


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _changed(now: Any, before: Any) -> bool:
    return bool(now != before)


_PARTS = (
    _Part("the working directory", _folder, _changed, os.chdir),
    _Part("the recursion limit", sys.getrecursionlimit, lambda now, before: now < before, sys.setrecursionlimit),
    _Part("the switch interval", sys.getswitchinterval, _changed, sys.setswitchinterval),
    _Part("the default time-out of sockets", socket.getdefaulttimeout, _changed, socket.setdefaulttimeout),
    _Part("garbage collection", gc.isenabled, lambda now, before: before and not now, lambda _: gc.enable()),
)


class _Stream:
    """Standard output or error: put back when it was replaced, opened again when it was closed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = getattr(sys, name)
        try:
            self._number = self._stream.fileno()
            self._copy: int | None = os.dup(self._number)
        except (OSError, ValueError, AttributeError):  # it has no descriptor
            self._copy = None

    def restore(self) -> str | None:
        """Its name if it had to be put back."""
        now = getattr(sys, self._name)
        if now is self._stream and (now is None or not now.closed):
            return None
        if self._stream is not None and self._stream.closed:
            if self._copy is None:
                return None
            # The number was free meanwhile: had anything taken it, foreign output would have gone there.
            os.dup2(self._copy, self._number)
            self._stream = open(  # noqa: SIM115 - it stays open
                self._number, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1
            )
        setattr(sys, self._name, self._stream)
        return f"sys.{self._name}"


def _stored_environment() -> dict[Any, Any]:
    # The mapping that os.environ wraps: a copy of os.environ itself decodes each variable.
    stored = getattr(os.environ, "_data", None)
    return dict(stored) if isinstance(stored, dict) else dict(os.environ)


class ProcessState:
    """What the process was like when its worker started. Thread-safe: two restorations at once put the same back.

    Args:
        active: whether anything is put back. Not where others than handlers change the process, as in a test.
    """

    def __init__(self, *, active: bool = True) -> None:
        self._active = active
        self._before = [(part, part.read()) for part in _PARTS]
        self._streams = (_Stream("stdout"), _Stream("stderr"))
        self._stored = _stored_environment()
        self._variables = dict(os.environ)
        self._logged: set[tuple[str, str]] = set()
        self._looked = 0.0

    def restore(self, uses: str) -> list[str]:
        """Put back what was changed to the harm of others; returns what it was. Says so, once for each kind of node and thing.

        Args:
            uses: the kind of node that has just run.
        """
        if not self._active:
            return []
        changed = [name for name in (self._restore(part, before) for part, before in self._before) if name]
        changed += [name for name in (stream.restore() for stream in self._streams) if name]
        if restore_logging():
            changed.append("the log's output")
        if _stored_environment() != self._stored and self._restore_variables():
            changed.append("environment variables")
        for name in changed:
            if (uses, name) not in self._logged and len(self._logged) < MOST_LOGGED:
                self._logged.add((uses, name))
                logger.warning("handler '{}' changed {} of the process; it was put back", uses, name)
        return changed

    def restore_now_and_then(self) -> None:
        """The same where it would cost too much each time: not more often than each `SELDOM` seconds."""
        if not self._active:
            return
        now = clock()
        if now - self._looked >= SELDOM:
            self._looked = now
            self.restore("of a quick kind")

    @staticmethod
    def _restore(part: _Part, before: Any) -> str | None:
        try:
            if not part.harmed(part.read(), before):
                return None
            part.put_back(before)
        except Exception as error:
            logger.warning("a handler changed {}, and it cannot be put back: {}", part.name, error)
            return None
        return part.name

    def _restore_variables(self) -> bool:
        """Put back variables that were removed or changed; those that were added stay."""
        now = dict(os.environ)
        harmed = {name: value for name, value in self._variables.items() if now.get(name) != value}
        os.environ.update(harmed)
        self._variables = {**now, **self._variables}
        self._stored = _stored_environment()
        return bool(harmed)
