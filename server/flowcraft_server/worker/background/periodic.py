"""A thread that does something again and again, and outlives what goes wrong in it."""

import threading
from collections.abc import Callable

import redis
from loguru import logger

from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.store.link import StoreUnavailable
from flowcraft_server.worker.liveness import thread_runs


class Periodic:
    """A daemon thread that calls `step` again and again, `step()` saying how many seconds to pause."""

    def __init__(self, name: str, step: Callable[[], float], stopping: threading.Event) -> None:
        self._step = step
        self._stopping = stopping
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._name = name
        self._failing_since: float | None = None

    def failing_for(self, now: float) -> float:
        """Seconds for which each step has failed with an error of its own, not of Redis; 0.0 if the last one did not."""
        return 0.0 if self._failing_since is None else now - self._failing_since

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next step taken now."""
        self._wake.set()

    def restart_if_dead(self) -> bool:
        """Start another thread if this one has died; returns whether it had."""
        if self._stopping.is_set() or thread_runs(self._thread):
            return False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        return True

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, which `stopping` and a `wake` bring about."""
        self._thread.join(timeout)

    def _run(self) -> None:
        quiet = True
        while not self._stopping.is_set():
            try:
                pause = self._step()
                quiet, self._failing_since = True, None
            except (StoreUnavailable, redis.exceptions.RedisError) as error:
                if quiet:
                    condition = condition_of(error)
                    logger.warning(
                        "{}: {}", self._name, error if condition is None else f"Redis refuses: {condition.advice}"
                    )
                quiet, pause, self._failing_since = False, 0.5, None
            except BaseException:  # leases, timers and cancellation depend on these threads
                if self._failing_since is None:  # once: it may go on like this
                    self._failing_since = clock()
                    logger.exception("{} met an error of its own", self._name)
                pause = 0.5
            self._wake.wait(pause)
            self._wake.clear()
