"""Where calls of plain functions run: an event loop, as only there a call can be ended whatever it waits for."""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class CallLoop:
    """An event loop in one thread, started by the first call and ended by `close`, or when this object is dropped.

    Time limits of sockets count from byte to byte, so that an endpoint which sends a byte now and then holds a thread for
    as long as it likes. A coroutine is cancelled at its deadline: while it resolves a name, connects, sends or reads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0
        self._finalizer: Any = None

    def run(self, call: Coroutine[Any, Any, T], on_cancel: Callable[[Callable[[], object]], None] | None = None) -> T:
        """Run a coroutine on the loop and wait for it; interrupting the wait cancels the coroutine.

        Args:
            call: the coroutine.
            on_cancel: called with what cancels it, from any thread.
        """
        future = asyncio.run_coroutine_threadsafe(call, self._running())
        try:
            if on_cancel is not None:
                on_cancel(future.cancel)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and its thread; what still runs on it is cancelled. The next call starts them again."""
        with self._lock:
            finalizer, self._finalizer, self._loop = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._owner != os.getpid():  # a forked child has the loop without its thread
                self._loop = asyncio.new_event_loop()
                self._owner = os.getpid()
                thread = threading.Thread(target=_serve, args=(self._loop,), name="llm-calls", daemon=True)
                thread.start()
                self._finalizer = weakref.finalize(self, _end, self._loop, thread, self._owner)
                self._finalizer.atexit = False
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    # The loop's own resolver threads would be waited for without end when a name server does not answer.
    resolvers = ThreadPoolExecutor(4, thread_name_prefix="llm-resolver")
    loop.set_default_executor(resolvers)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        resolvers.shutdown(wait=False, cancel_futures=True)
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, owner: int) -> None:
    if owner != os.getpid() or loop.is_closed():
        return
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(5)
