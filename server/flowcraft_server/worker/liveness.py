"""Whether there is code behind what a worker holds: leases are renewed for attempts that run, and for no others."""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterable

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.store.descriptors import VITAL

_LINUX = sys.platform == "linux"

WITHOUT_DESCRIPTORS = 3.0
"""Seconds without a free file descriptor after which a process is replaced."""


def thread_runs(thread: threading.Thread) -> bool:
    """Whether a thread is alive, or has not been started.

    On Linux the kernel is asked, too: Python does not notice that native code has ended a thread.
    """
    if thread.ident is None:
        return True
    if not thread.is_alive():
        return False
    return not _LINUX or thread.native_id is None or os.path.exists(f"/proc/self/task/{thread.native_id}")


class DescriptorWatch:
    """Notices that a process has no file descriptor left, or that foreign code has closed its own: it does not recover from that.

    Args:
        exhausted: called once with the reason when none is free.
        lost: called once with the reason when its own were closed. Nothing may be opened then, or written to what was open.
    """

    def __init__(self, exhausted: Callable[[str], None], lost: Callable[[str], None]) -> None:
        self._exhausted = exhausted
        self._lost = lost
        self._since: float | None = None
        self._reported = False

    def look(self) -> None:
        """Look once."""
        if VITAL.are_lost():
            if not self._reported:
                self._reported = True
                self._lost("code of a handler has closed file descriptors of this process")
            return
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno != errno.EMFILE or self._reported:
                return
            now = clock()
            self._since = self._since or now
            if now - self._since >= WITHOUT_DESCRIPTORS:
                self._reported = True
                self._exhausted(
                    "no file descriptor is free: code of a handler opens files or sockets and does not close them"
                )
        else:
            self._since = None


class Liveness:
    """Finds attempts that are held although nothing is going to record their outcome.

    An attempt changes hands in no time (from the prefetch buffer to a thread, from there to the commit_batcher), so one that
    is nowhere at a single look may just be on its way; what is nowhere at two looks in a row was lost.

    Args:
        held: what this worker holds.
        sources: each gives the attempts in one place: what threads run, what the event loops run, what is prefetched, what
            waits to be committed.
    """

    def __init__(self, held: Callable[[], list[Attempt]], sources: Iterable[Callable[[], Iterable[Attempt]]]) -> None:
        self._held = held
        self._sources = tuple(sources)
        self._missing: set[int] = set()

    def without_code(self) -> list[Attempt]:
        """Attempts that are held and have no code behind them right now."""
        held = self._held()  # before the places: what is claimed after this is not held yet
        somewhere = {id(attempt) for source in self._sources for attempt in source()}
        return [attempt for attempt in held if id(attempt) not in somewhere]

    def lost(self) -> list[Attempt]:
        """Attempts that had no code behind them at the look before, either."""
        missing = self.without_code()
        lost = [attempt for attempt in missing if id(attempt) in self._missing]
        self._missing = {id(attempt) for attempt in missing}
        return lost
