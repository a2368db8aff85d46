"""What a process executes right now, written where the process that started it can read it once this one has died.

Each thread has a slot of a shared file. It is written before handler code runs and cleared afterwards, for coroutines at each
step; so the process that finds it dead knows which few of its many nodes may have ended it.
"""

import mmap
import os
import tempfile
import threading
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.engine.attempt import Attempt

SLOTS = 256
SLOT_BYTES = 512
RECORD_BYTES = SLOTS * SLOT_BYTES + 8
"""Behind the slots stands how often the process has reported that it is alive."""

_EMPTY = b"\0\0"
_UNKNOWN = b"?"

Executed = tuple[str, str, str]
"""Run id, instance and fencing token."""


def create_record() -> int:
    """A descriptor of an empty record, for a process that is about to be started. It has no name in any folder."""
    descriptor, name = tempfile.mkstemp(prefix="flowcraft-executing-")
    os.unlink(name)
    os.ftruncate(descriptor, RECORD_BYTES)
    return descriptor


def read_record(descriptor: int) -> list[Executed] | None:
    """What the process executed when it ended; None if that is not known."""
    found: list[Executed] = []
    content = os.pread(descriptor, SLOTS * SLOT_BYTES, 0)
    for begin in range(0, len(content), SLOT_BYTES):
        length = int.from_bytes(content[begin : begin + 2], "little")
        if not length:
            continue
        parts = content[begin + 2 : begin + 2 + length].decode("utf-8", "replace").split("|", 2)
        if len(parts) != 3:
            return None
        fencing_token, run_id, instance_id = parts
        found.append((run_id, instance_id, fencing_token))
    return found


def read_heartbeats(descriptor: int) -> int:
    """How often the process has reported that it is alive; 0 before its worker has started."""
    return int.from_bytes(os.pread(descriptor, 8, SLOTS * SLOT_BYTES), "little")


class SilenceWatch:
    """Notices when a process does not report any more that it is alive: stopped, or held up in native code.

    Args:
        descriptor: of its record.
        limit: seconds of silence after which it counts as frozen.
    """

    def __init__(self, descriptor: int, limit: float) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._heartbeats = 0
        self._last_change = clock()

    def is_frozen(self) -> bool:
        """Whether the process reported once, and has been silent for too long since."""
        heartbeats, now = read_heartbeats(self._descriptor), clock()
        if heartbeats != self._heartbeats:
            self._heartbeats, self._last_change = heartbeats, now
        return heartbeats > 0 and now - self._last_change > self._limit


class ExecutionRecord:
    """The writing side. Thread-safe: each thread writes to a slot of its own.

    Args:
        descriptor: of `create_record`, inherited.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, RECORD_BYTES)
        self._heartbeats = 0
        self._own = threading.local()
        self._lock = threading.Lock()
        self._next = 0

    def heartbeat(self) -> None:
        """Report that the process is alive. To be called by one thread, several times in a lease."""
        self._heartbeats += 1
        self._memory[SLOTS * SLOT_BYTES : RECORD_BYTES] = self._heartbeats.to_bytes(8, "little")

    def begin(self, text: bytes) -> None:
        """The calling thread is about to execute what `described` gave."""
        try:
            offset = self._own.offset
        except AttributeError:
            offset = self._own.offset = self._new_slot()
        self._memory[offset + 2 : offset + 2 + len(text)] = text
        self._memory[offset : offset + 2] = len(text).to_bytes(2, "little")

    def end(self) -> None:
        """It is done with it."""
        offset = self._own.offset
        self._memory[offset : offset + 2] = _EMPTY

    def _new_slot(self) -> int:
        with self._lock:
            number = self._next
            self._next += 1
        # Where there are too many threads the last slot is shared, and what stands there is not to be relied on.
        return min(number, SLOTS - 1) * SLOT_BYTES


def described(attempt: Attempt) -> bytes:
    """An attempt as it is written."""
    claim = attempt.claim
    text = f"{claim.fencing_token}|{claim.run_id}|{claim.instance_id}".encode()
    return text if len(text) <= SLOT_BYTES - 2 else _UNKNOWN


class Stepwise(Awaitable[Any]):
    """A coroutine of a handler's, each step of which is written down."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], record: ExecutionRecord, text: bytes) -> None:
        self._coroutine = coroutine
        self._record = record
        self._text = text

    def __await__(self) -> Generator[Any, Any, Any]:
        """Pass on what the coroutine yields and is sent, as `yield from` does."""
        coroutine, record, text = self._coroutine, self._record, self._text
        value: Any = None
        error: BaseException | None = None
        while True:
            record.begin(text)
            try:
                yielded = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                record.end()
            value, error = None, None
            try:
                value = yield yielded
            except BaseException as thrown:  # to be met by the coroutine, as cancellation is
                error = thrown


async def stepwise(coroutine: Coroutine[Any, Any, Any], record: ExecutionRecord, text: bytes) -> Any:
    """The same as a coroutine, for a task."""
    return await Stepwise(coroutine, record, text)
