"""Messages that an attempt takes: read from the run when its handler asks, woken when one was sent."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.engine import Engine

LOOK_PAUSE = 2.0
"""Seconds after which it is looked for messages although no notice has come: it may have been lost."""


class AttemptMessages:
    """The messages of one attempt. A message counts as taken once the handler asks for the next one, or completes.

    If the attempt ends before, the next one gets it again.
    """

    def __init__(self, engine: Engine, attempt: Attempt) -> None:
        self._link = engine.link
        self._keys = engine.partitions.for_run(attempt.claim.run_id)
        self._attempt = attempt
        self._given = 0
        self._notices = 0
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    def notify(self) -> None:
        """A message was sent, or the handler is to stop. From any thread."""
        with self._lock:
            self._notices += 1
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def receive(self, timeout: float | None) -> Any:
        """The next message, for a plain function.

        Raises:
            TimeoutError: none came in time.
            NodeCancelled: the handler is to stop.
        """
        deadline = None if timeout is None else clock() + timeout
        while True:
            seen = self._notices
            found = self._next(self._look())
            if found is not None:
                return wire.loads(found)
            pause = self._pause(deadline, timeout)
            came = threading.Event()
            if self._wait_for(seen, came.set):
                came.wait(pause)

    async def receive_async(self, timeout: float | None) -> Any:
        """The next message, for a coroutine. Raises as `receive`."""
        deadline, loop = None if timeout is None else clock() + timeout, asyncio.get_running_loop()
        while True:
            seen = self._notices
            found = self._next(await loop.run_in_executor(None, self._look))
            if found is not None:
                return wire.loads(found)
            pause = self._pause(deadline, timeout)
            came = asyncio.Event()
            if self._wait_for(seen, partial(_set, loop, came)):
                try:
                    await asyncio.wait_for(came.wait(), pause)
                except TimeoutError:
                    continue

    def _wait_for(self, seen: int, wake: Callable[[], None]) -> bool:
        """Have `wake` called at the next notice; False if one came since `seen`."""
        with self._lock:
            if self._notices != seen:
                return False
            self._wakers = [wake]
            return True

    def _pause(self, deadline: float | None, timeout: float | None) -> float:
        left = LOOK_PAUSE if deadline is None else deadline - clock()
        if left <= 0:
            raise TimeoutError(f"no message within {timeout:g} s")
        return min(left, LOOK_PAUSE)

    def _next(self, found: tuple[int, bytes] | None) -> bytes | None:
        if self._attempt.stopped:
            raise NodeCancelled(f"node '{self._attempt.claim.instance_id}' is to stop: {self._attempt.stop_reason}")
        if found is None:
            return None
        self._given, payload = found
        return payload

    def _look(self) -> tuple[int, bytes] | None:
        """The next one, with its number; in the same call the one that was given before goes, as it has been taken."""
        claim = self._attempt.claim
        call = scripts.receive(
            self._keys, run_id=claim.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token,
            taken=self._given,
        )  # fmt: skip
        code, *found = self._link.call(call)
        if code != b"ok":
            raise NodeCancelled(f"node '{claim.instance_id}' is another worker's by now")
        return (int(found[0]), found[1]) if found else None


def _set(loop: asyncio.AbstractEventLoop, came: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(came.set)
    except RuntimeError:  # the loop is closed, and its coroutines with it
        return
