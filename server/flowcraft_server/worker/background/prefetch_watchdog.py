"""What is claimed or finished and has no thread to go on with it."""

import threading

from loguru import logger

from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.liveness import thread_runs
from flowcraft_server.worker.prefetch import STUCK, PrefetchBuffer

LOOK_ANYWAY = 1.0
"""Seconds after which the watchdog looks although nothing has called it."""


class PrefetchWatchdog:
    """A thread that sees to it that nothing waits behind a slow node: neither a claimed one nor a finished one."""

    def __init__(
        self,
        control: AttemptControl,
        prefetch: PrefetchBuffer,
        commit_batcher: CommitBatcher,
        stopping: threading.Event,
    ) -> None:
        self._control = control
        self._prefetch = prefetch
        self._commit_batcher = commit_batcher
        self._stopping = stopping
        self._thread = threading.Thread(target=self._run, name="prefetch watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def restart_if_dead(self) -> bool:
        """Start another thread if this one has died; returns whether it had."""
        if self._stopping.is_set() or thread_runs(self._thread):
            return False
        self._thread = threading.Thread(target=self._run, name="prefetch watchdog", daemon=True)
        self._thread.start()
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._prefetch.unattended.wait(LOOK_ANYWAY)
            self._prefetch.unattended.clear()
            while (len(self._prefetch) or self._commit_batcher.finished) and not self._stopping.wait(STUCK):
                try:
                    self._look()
                except BaseException:  # without this thread nodes would wait behind others for good
                    logger.exception("the prefetch watchdog met an error of its own")

    def _look(self) -> None:
        if self._commit_batcher.finished:
            self._commit_batcher.wake()
        for attempt in self._prefetch.stuck():
            self._control.hand_back(attempt)
