"""Threads in which steps call functions."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from flowcraft_sdk.node import NodeCancelled
from flowcraft_sdk.node.step_errors import StepTimeoutError
from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.engine.attempt import Attempt

LOOK_PAUSE = 0.1
"""Seconds after which a function that waits looks whether it is to stop."""

MOST_THREADS = 32
"""Calls of one `ctx.gather` that run at the same time in a plain function."""


class _Result:
    """What a call gives, from one thread to another."""

    def __init__(self, call: Callable[[], Any], ended: Callable[[], object]) -> None:
        self._call = call
        self._ended = ended
        self._context = copy_context()
        self.value: Any = None
        self.error: BaseException | None = None

    def start(self) -> None:
        # A daemon, as the process must be able to end while the call does not return.
        threading.Thread(target=self._run, name="step", daemon=True).start()

    def get(self) -> Any:
        """What the call has returned; raises what it has raised."""
        if self.error is not None:
            raise self.error
        return self.value

    def _run(self) -> None:
        try:
            self.value = self._context.run(self._call)
        except BaseException as error:
            self.error = error
        finally:
            self._ended()


def call_limited(attempt: Attempt, call: Callable[[], Any], timeout: float, name: str) -> Any:
    """Call a function in a thread, and wait for it no longer than that.

    Raises:
        StepTimeoutError: it took longer; what it still gives is dropped.
        NodeCancelled: the handler is to stop.
    """
    done, until = threading.Event(), clock() + timeout
    result = _Result(call, done.set)
    result.start()
    while not done.wait(max(0.0, min(LOOK_PAUSE, until - clock()))):
        if attempt.stopped:
            raise NodeCancelled(f"node '{attempt.claim.instance_id}' is to stop: {attempt.stop_reason}")
        if clock() >= until:
            raise StepTimeoutError(f"step '{name}' took longer than {timeout:g} s")
    return result.get()


async def call_in_thread(call: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own; if the caller is cancelled, what it gives is dropped."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def ended() -> None:
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:  # the loop is closed, and its coroutines with it
            return

    result = _Result(call, ended)
    result.start()
    await done.wait()
    return result.get()


def call_together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make calls at the same time, some at once, and wait for all.

    Raises:
        BaseException: what the first of them, in their order, has raised.
    """
    left = iter(enumerate(calls))
    lock, ended = threading.Lock(), threading.Semaphore(0)
    results: list[_Result] = []

    def work() -> None:
        while True:
            with lock:
                number, _ = next(left, (None, None))
            if number is None:
                return
            results[number]._run()

    results = [_Result(call, lambda: None) for call in calls]
    threads = [_Result(work, ended.release) for _ in range(min(len(calls), MOST_THREADS))]
    for thread in threads:
        thread.start()
    for _ in threads:
        ended.acquire()
    return [result.get() for result in results]


def pause(attempt: Attempt, seconds: float) -> None:
    """Wait in a plain function.

    Raises:
        NodeCancelled: the handler is to stop.
    """
    until = clock() + seconds
    never = threading.Event()
    while (left := until - clock()) > 0:
        if attempt.stopped:
            raise NodeCancelled(f"node '{attempt.claim.instance_id}' is to stop: {attempt.stop_reason}")
        never.wait(min(left, LOOK_PAUSE))
