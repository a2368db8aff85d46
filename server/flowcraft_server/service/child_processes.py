"""Asking child processes to stop, and ending those that do not."""

import signal
import subprocess
import time
from collections.abc import Sequence

from flowcraft_sdk.protocol.clock import clock

SIGNAL_PAUSE = 0.1
"""Seconds between two signals to a process that is to hand back what it runs."""

LOOK_PAUSE = 0.02

ENDED_WELL = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a process that finished what it ran, or that was asked to end before it ran anything."""

Process = subprocess.Popen[bytes]


class StopSignals:
    """Passes stop requests on to processes: the first asks to finish what runs, further ones to hand it back."""

    def __init__(self) -> None:
        self._sent_at: float | None = None

    def request_drain(self, processes: Sequence[Process], deadline: float) -> bool:
        """Ask once, and again and again past the deadline; returns whether all have ended. Does not wait.

        Args:
            deadline: in seconds of the monotonic clock.
        """
        now = clock()
        # Again and again, as two signals that come close together are delivered as one.
        if self._sent_at is None or (now >= deadline and now - self._sent_at > SIGNAL_PAUSE):
            self._sent_at = now
            for process in _running(processes):
                process.send_signal(signal.SIGTERM)
        return not _running(processes)

    def end(self, processes: Sequence[Process], seconds: float) -> list[Process]:
        """Have processes hand back what they run and end; returns those that had to be killed.

        Args:
            seconds: after which one that still runs is killed.
        """
        until = clock() + seconds
        while not self.request_drain(processes, clock()) and clock() < until:
            time.sleep(LOOK_PAUSE)
        killed = _running(processes)
        for process in killed:
            process.kill()
            process.wait()
        return killed


def have_ended_well(processes: Sequence[Process]) -> bool:
    """Whether each process has ended, and had finished what it ran."""
    return all(process.poll() in ENDED_WELL for process in processes)


def _running(processes: Sequence[Process]) -> list[Process]:
    return [process for process in processes if process.poll() is None]
